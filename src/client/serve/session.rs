//! A mount: begins with the FUSE handshake, ends when it is unmounted from outside or by [`Mounted::end`].

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

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
/// Limit of concurrent readahead fetches.
pub(super) const PREFETCH_JOBS: usize = 16;
/// A block that takes longer shows that there were too many; far less than the limit of an attempt.
pub(super) const PREFETCH_SLOW: Duration = Duration::from_secs(2);
/// The kernel's own readahead; it makes its requests as large as they can be.
const KERNEL_READAHEAD_KIB: u32 = 512;
/// How long users of a busy mount have to release it.
const BUSY_WAIT: Duration = Duration::from_secs(3);

/// An image to mount.
#[derive(Debug)]
pub struct Mount {
    /// File name.
    pub name: Name,
    /// When the image was published.
    pub created: Timestamp,
    /// Source of the image, for the list of mounts.
    pub origin: String,
    /// The image as readable bytes.
    pub image: Arc<Image>,
    /// Counters and state.
    pub status: Arc<Status>,
    /// Limit of the readahead per stream, in bytes. With 0 there is neither readahead nor parallel work, beyond what
    /// the kernel does for any file.
    pub readahead_bytes: u64,
}

/// A mounted image.
#[derive(Debug)]
pub struct Mounted {
    point: MountPoint,
    ended: oneshot::Receiver<()>,
    users: watch::Receiver<usize>,
    /// Never dropped: that would unmount by path, whatever is mounted there by then.
    _session: ManuallyDrop<BackgroundSession>,
}

impl Mount {
    /// Mounts the image on `point`; it is readable when this returns.
    ///
    /// # Errors
    /// The kernel or its helper refuses.
    pub fn mount(
        self,
        point: MountPoint,
        runtime: &Handle,
        observer: Arc<dyn Observer>,
    ) -> Result<Mounted, PointError> {
        let (end, ended) = oneshot::channel();
        let (counter, users) = watch::channel(0);
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
            users: counter,
            ended: Some(end),
        };
        let session = Session::new(filesystem, point.path(), &config).and_then(Session::spawn);
        let session = ManuallyDrop::new(session.map_err(|e| point.mount_error(&e))?);
        if parallel {
            point.raise_kernel_readahead(KERNEL_READAHEAD_KIB);
        }
        Ok(Mounted { point, ended, users, _session: session })
    }
}

fn config(origin: &str, threads: usize) -> Config {
    let mut config = Config::default();
    // The name is part of the helper's option list, where a comma would end it.
    let name = origin.replace([',', '\\'], "_");
    config.mount_options = vec![
        MountOption::FSName(name),
        // As a custom option it also reaches mount(2): `fuse.hfl` in the list of mounts.
        MountOption::CUSTOM("subtype=hfl".into()),
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
    ];
    // A mount by root is readable by all users; a user's mount only by that user, the default of FUSE.
    config.acl = if rustix::process::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(threads);
    config.clone_fd = true;
    config
}

impl Mounted {
    /// The mount point.
    pub fn point(&self) -> &MountPoint {
        &self.point
    }

    /// Waits until it is unmounted.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Waits until it is unmounted, or nobody has the image's file open.
    pub async fn ended_or_unused(&mut self) {
        tokio::select! {
            _ = &mut self.ended => {}
            _ = self.users.wait_for(|users| *users == 0) => {}
        }
    }

    /// Unmounts; users of a busy mount have a moment to release it.
    ///
    /// # Errors
    /// It cannot be unmounted at all.
    pub async fn end(mut self) -> std::io::Result<()> {
        self.point.unmount()?;
        let _ = tokio::time::timeout(BUSY_WAIT, self.ended()).await;
        Ok(())
    }
}
