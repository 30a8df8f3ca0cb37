//! Tells a service manager that the mount works, in the way of systemd's `sd_notify`: one datagram to the socket that
//! `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The mount works; `status` says so in words.
pub fn ready(status: &str) {
    send(&format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), status.replace('\n', " ")));
}

/// The mount is about to end.
pub fn stopping() {
    send("STOPPING=1");
}

/// Nobody is told where nobody asked for it, and one who does not listen misses it.
fn send(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(address) = address(&socket) else { return };
    if let Ok(own) = UnixDatagram::unbound() {
        let _ = own.send_to_addr(message.as_bytes(), &address);
    }
}

/// A path, or an abstract name where it begins with `@`.
fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}
