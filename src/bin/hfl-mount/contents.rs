//! `--contents`: the file system in the image, mounted in one step. The image's file is mounted in a directory of its own
//! below /run, a loop device over it holds the file system, and when that is unmounted, everything ends.

use std::path::{Path, PathBuf};
use std::{fs, io};

use hfl::Error;
use hfl::client::device::contents::{Contents, file_behind};
use hfl::client::serve::mount_point::{MountPoint, PointError, clear_dead, unmount};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::run::{Ready, mount};
use crate::settings;
use crate::signals::Signals;

/// Parent of the directories in which images are mounted as files.
const DIRECTORY: &str = "/run/hfl-mount";

/// The directory of one mount, removed on drop.
struct Private(PathBuf);

impl Private {
    /// Makes a directory for an image; clears those that killed processes left.
    fn new(image: &str) -> io::Result<Self> {
        fs::create_dir_all(DIRECTORY)?;
        for left in fs::read_dir(DIRECTORY)?.flatten().map(|entry| entry.path()) {
            clear_dead(&left);
            // A directory in use is a mount point, which cannot be removed.
            if !is_of_living(&left) {
                let _ = fs::remove_dir(left);
            }
        }
        let path = Path::new(DIRECTORY).join(format!("{image}-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether the process that made the directory is there.
fn is_of_living(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let process = name.and_then(|name| name.rsplit_once('-')).map(|(_, process)| process);
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

/// Mounts, and returns when the mount has ended.
pub fn run(args: &Args, daemon: &mut Daemon) -> Result<(), Error> {
    let (point, image) = (checked(&args.mountpoint)?, &args.origin.sources[0].image);
    if is_mounted(&point, image.as_str()) {
        eprintln!("hfl-mount: {image} is mounted on {} already", point.display());
        return Ok(());
    }
    let contents = Contents {
        partition: args.partition,
        fstype: args.fstype.clone(),
        options: settings::of_file_system(&args.options),
    };
    let ready = Ready::new(args)?;
    let private = Private::new(image.as_str()).map_err(|e| Error::io(Path::new(DIRECTORY), &e))?;
    let inner = MountPoint::check(&private.0)?;
    // A signal meanwhile must not leave a mount behind.
    let mut signals = ready.runtime.block_on(async { Signals::new(args.root) })?;
    let mut mounted = mount(&ready, args, inner)?;
    let file = mounted.point().path().join(ready.client.opened.head.image.as_str());
    let outcome = contents.mount(&file, &point);
    if outcome.is_ok() {
        ready.report("file", &point.display(), args);
        ready.announce(&ready.announcement(&point.display(), args), args, daemon);
        ready.runtime.block_on(async {
            tokio::select! {
                () = mounted.ended_or_unused() => {}
                // What cannot be unmounted stays, and ends with its users.
                () = signals.any() => drop(unmount(&point)),
            }
        });
    }
    // What is left in use, ends with its users.
    let ended = ready.runtime.block_on(mounted.end());
    ready.end();
    drop(private);
    outcome.and(ended.map_err(|e| Error::local(format!("cannot unmount {}: {e}", file.display()))))
}

/// The mount point, which needs to be a directory and nothing more.
fn checked(point: &Path) -> Result<PathBuf, Error> {
    if !rustix::process::geteuid().is_root() {
        let error = Error::local("only root can mount the file system in an image");
        return Err(error.hint("leave --contents out (with mount -t hfl: -o file) to mount the image as a file"));
    }
    let path = fs::canonicalize(point).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => PointError::Missing(point.to_owned()).into(),
        _ => Error::io(point, &e),
    })?;
    if path.is_dir() { Ok(path) } else { Err(Error::local(format!("mount point {}: not a directory", path.display()))) }
}

/// Whether this image's file system is what is mounted there.
fn is_mounted(point: &Path, image: &str) -> bool {
    let file = file_behind(point);
    file.is_some_and(|file| file.starts_with(DIRECTORY) && file.file_name().is_some_and(|name| name == image))
}
