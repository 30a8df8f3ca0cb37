//! Operations on whole repositories: publishing and restoring images.
//!
//! CPU work runs on rayon's threads, I/O on tokio's; blocks cross from the one to the other only through the spool.
//! Nothing here prints: progress goes to a [`Progress`], results come back as numbers.

mod base;
mod beginning;
mod boot_files;
mod boot_menu;
mod catch_up;
mod client;
mod congestion;
mod connect;
mod cores;
mod cut;
mod deliver;
mod error;
mod foreign;
mod gc;
mod holders;
mod image;
mod indexes;
mod input_check;
mod keyring;
mod known;
mod memory;
mod mirror;
mod numbering;
mod options;
mod pages;
mod plan;
mod presence;
mod probe;
mod profile;
mod progress;
mod reader;
mod release;
mod remake;
mod report;
mod repository;
mod restore;
mod rollback;
mod run;
mod session;
mod spool;
mod sync;
mod upload;
mod verify;

pub use boot_files::BootOptions;
pub use client::MARK as CLIENT_MARK;
pub use connect::{Connect, Drivers};
pub use error::{Error, ErrorKind};
pub use gc::{GcOptions, GcReport, MirrorPlan, Pending, Plan as GcPlan, Retired, gc};
pub use keyring::Keyring;
pub use memory::Memory;
pub use mirror::readers;
pub use options::{Check, Options, Work};
pub use probe::{Capabilities, ImageState, MirrorState, ProbeOptions, Verdict, probe, try_store};
pub use progress::{Event, Fate, Progress, Silent};
pub use reader::Reader;
pub use report::{BootReport, Count, MirrorReport, Outcome, Report};
pub use repository::Watch;
pub use restore::{RestoreOptions, RestoreReport, restore};
pub use rollback::rollback;
pub use run::publish;
pub use sync::{SyncReport, sync};
pub use verify::{Checked, Place, Problem, VerifyOptions, VerifyReport, verify};
