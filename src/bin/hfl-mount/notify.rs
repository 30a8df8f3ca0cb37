//! Notifies a service manager with systemd's `sd_notify` protocol: one datagram to the socket in `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The mount works; `status` is a description.
pub fn ready(status: &str) {
    send(&format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), status.replace('\n', " ")));
}

/// The mount is about to end.
pub fn stopping() {
    send("STOPPING=1");
}

/// Sends a message if a socket is given; a socket without a listener loses it.
fn send(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(address) = address(&socket) else { return };
    if let Ok(own) = UnixDatagram::unbound() {
        let _ = own.send_to_addr(message.as_bytes(), &address);
    }
}

/// A path, or an abstract name if it begins with `@`.
fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}
