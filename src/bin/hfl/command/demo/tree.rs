//! Files of the demo's image: some of this machine's own.

use std::fs;
use std::path::{Path, PathBuf};

use hfl::Error;
use walkdir::WalkDir;

/// Directories that have a useful mix of readable files on most machines.
const SOURCES: [&str; 5] = ["/usr/bin", "/usr/lib/python3", "/usr/share/perl", "/etc", "/usr/lib"];
/// Large enough for a demonstration, small enough to be quick.
const TREE_BYTES: u64 = 96 << 20;
/// Keeps one file from displacing the others.
const FILE_MAX_BYTES: u64 = 8 << 20;

/// Amount copied.
pub struct Copied {
    pub files: u64,
    pub bytes: u64,
}

/// Copies readable files from [`SOURCES`] below `tree`, up to [`TREE_BYTES`]; tells `progress` of each
/// one's bytes.
pub fn copy_some(tree: &Path, progress: &dyn Fn(u64)) -> Result<Copied, Error> {
    let mut copied = Copied { files: 0, bytes: 0 };
    for source in SOURCES {
        let entries = WalkDir::new(source).sort_by_file_name().into_iter().flatten();
        for entry in entries.filter(|e| e.file_type().is_file()) {
            let size = entry.metadata().map_or(u64::MAX, |m| m.len());
            if size > FILE_MAX_BYTES || copied.bytes + size > TREE_BYTES {
                continue;
            }
            let target = tree.join(entry.path().strip_prefix("/").unwrap_or(entry.path()));
            fs::create_dir_all(target.parent().unwrap_or(tree)).map_err(|e| Error::io(tree, &e))?;
            // A file that this user may not read is skipped.
            if fs::copy(entry.path(), &target).is_ok() {
                copied.files += 1;
                copied.bytes += size;
                progress(size);
            }
        }
    }
    Ok(copied)
}

/// Changes every 500th file a little and adds one; returns how many.
pub fn change_some(tree: &Path) -> Result<usize, Error> {
    let files = WalkDir::new(tree).sort_by_file_name().into_iter().flatten().filter(|e| e.file_type().is_file());
    let chosen: Vec<PathBuf> = files.step_by(500).map(walkdir::DirEntry::into_path).collect();
    for file in &chosen {
        let mut contents = fs::read(file).map_err(|e| Error::io(file, &e))?;
        contents.extend_from_slice(b"changed by the demo\n");
        // Not in place: the copy may be read-only.
        fs::remove_file(file).and_then(|()| fs::write(file, contents)).map_err(|e| Error::io(file, &e))?;
    }
    let added = tree.join("added-by-the-demo");
    fs::write(&added, "a new file\n").map_err(|e| Error::io(&added, &e))?;
    Ok(chosen.len() + 1)
}

/// Makes an ext4 image of `tree`; returns its size in bytes.
pub fn make_ext4(tree: &Path, copied: &Copied, image: &Path) -> Result<u64, Error> {
    let size = (copied.bytes * 3 / 2 + copied.files * 4096 + (64 << 20)).next_multiple_of(1 << 20);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut mke2fs = hfl::system::child::command("mke2fs");
    mke2fs.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(tree).arg(image).arg(format!("{}k", size >> 10));
    let made = mke2fs.output().map_err(|e| {
        Error::local(format!("mke2fs cannot be run: {e}")).hint("install e2fsprogs, then run the demo again")
    })?;
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr);
        return Err(Error::local(format!("mke2fs failed: {}", why.trim())));
    }
    Ok(size)
}
