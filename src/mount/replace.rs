//! Replaces a file whole: a reader, a crash or a power cut finds the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tells files apart that are written at the same time.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Gives the file at `path` these bytes, and makes the directories above it.
///
/// # Errors
/// Those of the file system; nothing is left behind then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let number = NUMBER.fetch_add(1, Relaxed);
    let temporary = directory.join(format!(".{}.{}-{number}", name.display(), std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
