//! A mount: begins with the kernel's handshake, ends when somebody unmounts it or [`Mounted::end`] does.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::fuse::ImageFs;
use super::mount_point::{MountPoint, PointError};
use super::status_file::Reports;
use crate::client::image::Image;
use crate::client::notice::Observer;
use crate::client::prefetch::Prefetch;
use crate::client::status::Status;
use crate::format::name::Name;
use crate::format::time::Timestamp;

/// Threads that take requests from the kernel and answer cached reads.
const THREADS: usize = 4;
/// Blocks fetched in advance at the same time.
pub(super) const PREFETCH_JOBS: usize = 16;
/// A block that takes longer than this shows that they were too many: far less than any attempt may take.
pub(super) const PREFETCH_SLOW: Duration = Duration::from_secs(2);
/// The kernel's own readahead: its requests are then as large as they can be.
const KERNEL_READAHEAD_KIB: u32 = 512;
/// How long users of a busy mount have to let go of it.
const BUSY_WAIT: Duration = Duration::from_secs(3);

/// What is to be mounted.
#[derive(Debug)]
pub struct Mount {
    /// The name of the file.
    pub name: Name,
    /// When the image was published.
    pub created: Timestamp,
    /// Where it comes from, for the list of mounts.
    pub origin: String,
    /// The image.
    pub image: Arc<Image>,
    /// How it goes.
    pub status: Arc<Status>,
    /// The most that is fetched ahead of a stream, in bytes. With 0 nothing is done ahead or side by side, beyond what
    /// the kernel does for any file.
    pub readahead_bytes: u64,
}

/// An image that is mounted.
#[derive(Debug)]
pub struct Mounted {
    point: MountPoint,
    ended: oneshot::Receiver<()>,
    /// Never dropped: it would unmount by path, whatever is mounted there by then.
    _session: ManuallyDrop<BackgroundSession>,
}

impl Mount {
    /// Mounts the image on `point`; it can be read when this returns.
    ///
    /// # Errors
    /// When the kernel or its helper refuses.
    pub fn mount(
        self,
        point: MountPoint,
        runtime: &Handle,
        observer: Arc<dyn Observer>,
    ) -> Result<Mounted, PointError> {
        let (end, ended) = oneshot::channel();
        let prefetch = (self.readahead_bytes > 0).then(|| {
            Prefetch::new(Arc::clone(&self.image), runtime.clone(), PREFETCH_JOBS, PREFETCH_SLOW, self.readahead_bytes)
        });
        let parallel = prefetch.is_some();
        let config = config(&self.origin, if parallel { THREADS } else { 1 });
        let filesystem = ImageFs {
            name: self.name,
            created: self.created,
            image: self.image,
            prefetch,
            reports: Reports::new(Arc::clone(&self.status)),
            status: self.status,
            runtime: runtime.clone(),
            observer,
            ended: Some(end),
        };
        let session = Session::new(filesystem, point.path(), &config).and_then(Session::spawn);
        let session = ManuallyDrop::new(session.map_err(|e| point.mount_error(&e))?);
        if parallel {
            point.raise_kernel_readahead(KERNEL_READAHEAD_KIB);
        }
        Ok(Mounted { point, ended, _session: session })
    }
}

fn config(origin: &str, threads: usize) -> Config {
    let mut config = Config::default();
    // The name goes through the helper's option list, where a comma would end it.
    let name = origin.replace([',', '\\'], "_");
    config.mount_options = vec![
        MountOption::FSName(name),
        // Spelled out, it reaches mount(2) too: `fuse.hfl` in the list of mounts.
        MountOption::CUSTOM("subtype=hfl".into()),
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
    ];
    // Others may read what root mounts; a user's mount is the user's own, as FUSE has it by default.
    config.acl = if rustix::process::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(threads);
    config.clone_fd = true;
    config
}

impl Mounted {
    /// Where.
    pub fn point(&self) -> &MountPoint {
        &self.point
    }

    /// Returns when somebody has unmounted it.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Unmounts it; users of a busy mount get a moment to let go.
    ///
    /// # Errors
    /// When it cannot be unmounted at all.
    pub async fn end(mut self) -> std::io::Result<()> {
        self.point.unmount()?;
        let _ = tokio::time::timeout(BUSY_WAIT, self.ended()).await;
        Ok(())
    }
}
