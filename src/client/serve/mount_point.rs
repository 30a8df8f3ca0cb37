//! The mount point: checks the directory beforehand, and unmounts.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, io};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{Error, ErrorKind};
use crate::system::{child, mounts};

/// Why a directory cannot be a mount point.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// It does not exist.
    #[error("mount point {}: no such directory", .0.display())]
    Missing(PathBuf),
    /// Not a directory.
    #[error("mount point {}: not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// It has files in it.
    #[error("mount point {}: not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Something is already mounted on it.
    #[error("mount point {}: something is mounted there already", .0.display())]
    Mounted(PathBuf),
    /// A mount whose process has ended is left there.
    #[error("mount point {}: a mount whose process has ended is left there", .0.display())]
    Dangling(PathBuf),
    /// Mounting is not permitted.
    #[error("mount point {}: not permitted", .0.display())]
    NotPermitted(PathBuf),
    /// The kernel has no FUSE.
    #[error("/dev/fuse: {}", crate::error::sentence(.0))]
    NoFuse(io::Error),
    /// A user other than root needs the program fusermount3.
    #[error("fusermount3: not found")]
    NoHelper,
    /// Mounting failed.
    #[error("mount point {}: {why}", point.display())]
    Failed {
        /// The mount point.
        point: PathBuf,
        /// Error message of the kernel or the helper.
        why: String,
    },
}

impl PointError {
    /// Suggests a remedy.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PointError::Missing(point) if point.to_string_lossy().contains("://") => {
                "the image comes first, then the mount point".into()
            }
            PointError::Missing(point) => format!("mkdir -p {}", point.display()),
            PointError::NotDirectory(_) => {
                "the image appears as a file inside the mount point: name a directory".into()
            }
            PointError::NotEmpty(_) => "name an empty directory".into(),
            PointError::Mounted(point) => format!("umount {} first, or name another directory", point.display()),
            PointError::Dangling(point) => format!("fusermount3 -u {} (or umount, as root) clears it", point.display()),
            PointError::NotPermitted(_) => "name a directory that you own and can write to".into(),
            PointError::NoFuse(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                "become root, or have an administrator allow you to use /dev/fuse".into()
            }
            PointError::NoFuse(_) => "modprobe fuse, or give the container the device /dev/fuse".into(),
            PointError::NoHelper => "install the package fuse3, or mount as root".into(),
            PointError::Failed { .. } => return None,
        })
    }
}

impl From<PointError> for Error {
    fn from(error: PointError) -> Self {
        let hint = error.hint();
        Self::caused(ErrorKind::Local, error).hint_if(hint)
    }
}

/// A directory that an image can be mounted on.
#[derive(Debug, Clone)]
pub struct MountPoint(PathBuf);

impl MountPoint {
    /// Checks `path`, and that this process can use FUSE.
    ///
    /// # Errors
    /// The first obstacle.
    pub fn check(path: &Path) -> Result<Self, PointError> {
        let owned = || path.to_owned();
        clear_dead(path);
        let meta = fs::metadata(path).map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOTCONN) => PointError::Dangling(owned()),
            _ if e.kind() == io::ErrorKind::NotFound => PointError::Missing(owned()),
            _ if e.kind() == io::ErrorKind::PermissionDenied => PointError::NotPermitted(owned()),
            _ => PointError::Failed { point: owned(), why: e.to_string() },
        })?;
        if !meta.is_dir() {
            return Err(PointError::NotDirectory(owned()));
        }
        let point = fs::canonicalize(path).map_err(|_| PointError::NotPermitted(owned()))?;
        if is_fuse_root(&point, &meta) {
            return Err(PointError::Mounted(point));
        }
        match fs::read_dir(&point).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(PointError::NotEmpty(point)),
            Ok(false) => {}
            Err(_) => return Err(PointError::NotPermitted(point)),
        }
        fuse_is_there()?;
        Ok(Self(point))
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Translates an error of the kernel or the helper.
    pub fn mount_error(&self, error: &io::Error) -> PointError {
        let point = self.0.clone();
        let why = error.to_string();
        if error.kind() == io::ErrorKind::NotFound {
            PointError::NoHelper
        } else if error.kind() == io::ErrorKind::PermissionDenied || why.contains("ermission") {
            PointError::NotPermitted(point)
        } else {
            PointError::Failed { point, why: why.trim().trim_start_matches("fusermount3: ").to_owned() }
        }
    }

    /// Unmounts, see [`unmount`].
    ///
    /// # Errors
    /// As for [`unmount`].
    pub fn unmount(&self) -> io::Result<()> {
        unmount(&self.0)
    }

    /// Raises the kernel's readahead for reads through the page cache. Needs root.
    pub fn raise_kernel_readahead(&self, kibibytes: u32) {
        if let Ok(meta) = fs::metadata(&self.0) {
            let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
            let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
            let _ = fs::write(setting, kibibytes.to_string());
        }
    }
}

/// Unmounts what is on `path`. A mount in use leaves the tree at once, and ends with its last user.
///
/// # Errors
/// That is not possible either.
pub fn unmount(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Ok(rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?),
        Err(Errno::PERM) => ask_helper(path),
        Err(e) => Err(e.into()),
    }
}

fn ask_helper(path: &Path) -> io::Result<()> {
    let helper = |how: &str| {
        let mut command = child::command("fusermount3");
        command.args([how, "--"]).arg(path).stderr(Stdio::null()).stdout(Stdio::null()).status()
    };
    if helper("-u")?.success() || helper("-uz")?.success() {
        return Ok(());
    }
    Err(io::Error::other("fusermount3 could not unmount"))
}

/// Unmounts what a killed hfl-mount left on `path`: nothing can read it any more.
pub fn clear_dead(path: &Path) {
    // The kernel may still answer from its cache what `stat` asks; this it passes on.
    let is_dead = rustix::fs::statfs(path).is_err_and(|e| e == Errno::NOTCONN);
    let is_ours = || mounts::on(&std::path::absolute(path).ok()?).map(|mount| mount.kind == "fuse.hfl");
    if is_dead && is_ours() == Some(true) {
        let _ = unmount(path);
    }
}

/// Whether `point` is the root of a FUSE file system; other file systems mounted there may be mounted over.
fn is_fuse_root(point: &Path, meta: &fs::Metadata) -> bool {
    const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
    let fuse = rustix::fs::statfs(point).is_ok_and(|fs| fs.f_type as u64 == FUSE_SUPER_MAGIC);
    let parent = point.parent().and_then(|parent| fs::metadata(parent).ok());
    fuse && parent.is_some_and(|parent| parent.dev() != meta.dev())
}

fn fuse_is_there() -> Result<(), PointError> {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.map(drop).map_err(PointError::NoFuse)
}
