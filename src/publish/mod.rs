//! Operations on whole repositories: publishing and restoring images.
//!
//! CPU work runs on rayon's threads, I/O on tokio's; blocks pass between them only through the spool. Nothing here
//! prints: progress goes to a [`Watch`](crate::progress::Watch), results are returned as values.

mod artifact;
mod base;
mod deltas;
mod gc;
mod live;
mod object;
mod pad;
mod pipeline;
mod places;
mod probe;
// Each operation is in the file of its name.
#[allow(clippy::module_inception)]
mod publish;
mod repository;
mod restore;
mod rollback;
mod sync;
mod verify;
mod version;

pub use crate::disk::tree::TreeFs;
pub use deltas::{DeltaOptions, UpdateReport};
pub use live::mirrors_now;
pub use publish::{publish, publish_all};
pub use restore::{RestoreOptions, RestoreReport, SavedBases, restore};
pub use rollback::{RollbackOptions, rollback};
pub use sync::{SyncOptions, sync};
pub use verify::{Checked, Place, Problem, VerifyOptions, VerifyReport, verify};
pub use version::plan::Outcome;
pub use version::report::{BootReport, Count, ImagesReport, MirrorReport, Report};

pub use artifact::client::MARK as CLIENT_MARK;
pub use gc::{GcOptions, GcReport, MirrorPlan, Pending, Plan as GcPlan, Retired, gc};
pub use probe::{Capabilities, ImageState, MirrorState, ProbeOptions, Verdict, probe, try_store};
pub use repository::{
    BootOptions, Check, Connect, Drivers, Keyring, Memory, PublishOptions, Reader, Repository, readers,
};
