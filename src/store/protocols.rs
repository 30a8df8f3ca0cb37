//! The protocols this build can write with: one line for each driver.

use super::key::Key;
use super::protocol::Protocol;

/// Every driver in this build.
pub const PROTOCOLS: &[Protocol] = &[
    #[cfg(feature = "s3")]
    super::s3::PROTOCOL,
    #[cfg(feature = "webdav")]
    super::webdav::PROTOCOL,
    #[cfg(feature = "sftp")]
    super::sftp::PROTOCOL,
    #[cfg(feature = "ftp")]
    super::ftp::PROTOCOL,
    #[cfg(feature = "rsync")]
    super::rsync::PROTOCOL,
];

/// Returns the driver for `scheme`, with the scheme as a static string.
pub fn find(scheme: &str) -> Option<(&'static Protocol, &'static str)> {
    let schemes = PROTOCOLS.iter().flat_map(|protocol| protocol.schemes.iter().map(move |scheme| (protocol, *scheme)));
    schemes.into_iter().find(|(_, known)| *known == scheme)
}

/// Every scheme, comma-separated, for messages.
pub fn schemes() -> String {
    let schemes: Vec<&str> = PROTOCOLS.iter().flat_map(|protocol| protocol.schemes).copied().collect();
    schemes.join(", ")
}

/// Every key of every driver; a key shared by several drivers appears once for each.
pub fn keys() -> impl Iterator<Item = Key> {
    PROTOCOLS.iter().flat_map(|protocol| protocol.keys).copied()
}
