//! The `ioctl` calls that set up devices.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::ioctl::Opcode;

/// Calls `ioctl` with an integer argument.
pub fn with_number(device: BorrowedFd<'_>, opcode: Opcode, number: i32) -> io::Result<i32> {
    // SAFETY: the calls that take a number neither read nor write memory of this process.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), opcode as _, libc::c_long::from(number)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls `ioctl` with a pointer to `memory`.
///
/// # Safety
/// `T` has the kernel's layout for `opcode`, and any size in it that limits what the kernel may access is within
/// `memory`.
pub unsafe fn with_memory<T>(device: BorrowedFd<'_>, opcode: Opcode, memory: &mut T) -> io::Result<i32> {
    // SAFETY: as promised by the caller; nothing else accesses the memory during the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), opcode as _, std::ptr::from_mut(memory)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
