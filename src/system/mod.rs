//! Operating system services besides sockets: child processes, threads, locks, directories, mounts, atomic
//! file replacement.

pub mod atomic_file;
pub(crate) mod bridge;
pub mod child;
pub mod directories;
#[cfg(feature = "publish")]
pub(crate) mod environment;
pub mod file_lock;
#[cfg(feature = "publish")]
pub mod host;
#[cfg(feature = "publish")]
pub mod installed;
#[cfg(feature = "mount")]
pub(crate) mod mounts;
#[cfg(feature = "publish")]
pub mod priority;
#[cfg(feature = "publish")]
pub mod run;
pub mod workers;
