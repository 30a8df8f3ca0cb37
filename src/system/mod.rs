//! What hfl asks of the operating system beside sockets: programs, threads, locks, files that are replaced at once.

pub mod atomic_file;
pub(crate) mod bridge;
pub mod child;
pub mod file_lock;
#[cfg(feature = "publish")]
pub mod host;
pub mod workers;
