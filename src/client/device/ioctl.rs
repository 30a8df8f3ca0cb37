//! The one call to the kernel that devices are made with.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::ioctl::Opcode;

/// Calls the kernel, with a number.
pub fn with_number(device: BorrowedFd<'_>, opcode: Opcode, number: i32) -> io::Result<i32> {
    // SAFETY: the calls that take a number neither read nor write memory of this process.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), opcode as _, libc::c_long::from(number)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls the kernel, with memory of ours.
///
/// # Safety
/// `T` is laid out as the kernel has it for `opcode`, and where it says how much of it the kernel may use, that is no more
/// than there is.
pub unsafe fn with_memory<T>(device: BorrowedFd<'_>, opcode: Opcode, memory: &mut T) -> io::Result<i32> {
    // SAFETY: as promised by the caller; the memory is ours alone during the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), opcode as _, std::ptr::from_mut(memory)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
