//! An image made of a directory tree, by the system's tools.
//!
//! The same tree and name give the same image, byte for byte, with the same version of the tool. The settings are those
//! with which two versions of a tree share most.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use sha1::{Digest as _, Sha1};
use walkdir::WalkDir;

use crate::error::Error;
use crate::system::run::run;
use crate::system::{child, directories};

/// A file system that can be made of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeFs {
    /// Uncompressed, with files in chunks, so that unchanged files are found again.
    Erofs,
    /// Blocks of 4096 bytes, and a quarter free.
    Ext4,
    /// zstd, blocks of 128 KiB.
    Squashfs,
}

const ALL: [(TreeFs, &str); 3] = [(TreeFs::Erofs, "erofs"), (TreeFs::Ext4, "ext4"), (TreeFs::Squashfs, "squashfs")];

impl FromStr for TreeFs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ALL.iter().find(|(_, name)| *name == text).map(|&(kind, _)| kind);
        found.ok_or_else(|| "the file systems are erofs, ext4 and squashfs".to_owned())
    }
}

/// The image of a tree, in a temporary file without a name: nothing of it remains, whatever happens.
pub struct TreeImage(File);

/// Size of an ext4, in bytes: the contents and a quarter, the journal, and up to the next multiple of this.
const EXT4_STEP_BYTES: u64 = 256 << 20;
const EXT4_JOURNAL_BYTES: u64 = 64 << 20;
const EXT4_BYTES_PER_INODE: u64 = 16384;
const BLOCK_BYTES: u64 = 4096;
const INODE_BYTES: u64 = 256;
/// Chunks of an EROFS, in bytes.
const EROFS_CHUNK_BYTES: u64 = 1 << 20;

impl TreeImage {
    /// Makes an image of `tree`. Its UUID is derived from `name`; its time is that of the newest file, or
    /// `SOURCE_DATE_EPOCH`, to which later times of files are clamped.
    ///
    /// # Errors
    /// The tool is not installed or fails; there is no room;
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) once `stop` returns true.
    pub fn make(tree: &Path, kind: TreeFs, name: &str, stop: &dyn Fn() -> bool) -> Result<Self, Error> {
        let contents = Contents::of(tree)?;
        let directory = directories::temporary();
        let room = |e: io::Error| Error::io(&directory, &e);
        std::fs::create_dir_all(&directory).map_err(room)?;
        let image = Self(tempfile::tempfile_in(&directory).map_err(room)?);
        if kind == TreeFs::Ext4 {
            image.0.set_len(contents.ext4_bytes()).map_err(room)?;
        }
        let mut command = command(kind, tree, &contents, &image.path(), &uuid(name));
        if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
            command.env("SOURCE_DATE_EPOCH", contents.newest.to_string());
        }
        command.env("PATH", paths()).env("E2FSPROGS_FAKE_TIME", epoch(contents.newest));
        let program = command.get_program().to_string_lossy().into_owned();
        match run(&mut command, stop) {
            Ok(()) => Ok(image),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(Error::interrupted()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::local(format!("{}: {program} is not installed", tree.display())).hint(install(kind)))
            }
            Err(e) => {
                let room = directory.display();
                Err(Error::local(format!("{}: {program}: {e}", tree.display()))
                    .hint(format!("the image is made in {room}; XDG_CACHE_HOME chooses another place")))
            }
        }
    }

    /// A path of the image, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }
}

/// `PATH`, and where the tools are on systems that leave them out of it for users.
fn paths() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// `SOURCE_DATE_EPOCH`, else `newest`.
fn epoch(newest: i64) -> std::ffi::OsString {
    std::env::var_os("SOURCE_DATE_EPOCH").unwrap_or_else(|| newest.to_string().into())
}

fn command(kind: TreeFs, tree: &Path, contents: &Contents, out: &Path, uuid: &str) -> Command {
    match kind {
        TreeFs::Erofs => {
            let mut command = child::command("mkfs.erofs");
            command.args(["--quiet", "-U", uuid, &format!("--chunksize={EROFS_CHUNK_BYTES}")]).arg(out).arg(tree);
            command
        }
        TreeFs::Ext4 => {
            let mut command = child::command("mke2fs");
            let extended = format!("hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard");
            let block = BLOCK_BYTES.to_string();
            let inodes = contents.ext4_inodes().to_string();
            command.args(["-q", "-F", "-t", "ext4", "-b", &block, "-m", "1", "-N", &inodes, "-U", uuid]);
            command.args(["-E", &extended, "-d"]).arg(tree).arg(out);
            command
        }
        TreeFs::Squashfs => {
            let mut command = child::command("mksquashfs");
            command.arg(tree).arg(out).args(["-noappend", "-quiet", "-no-progress", "-comp", "zstd", "-b", "128K"]);
            command
        }
    }
}

fn install(kind: TreeFs) -> &'static str {
    match kind {
        TreeFs::Erofs => "install it: apt install erofs-utils",
        TreeFs::Ext4 => "install it: apt install e2fsprogs",
        TreeFs::Squashfs => "install it: apt install squashfs-tools",
    }
}

/// A UUID of version 5's form (RFC 9562), the same for the same name.
fn uuid(name: &str) -> String {
    let mut bytes: [u8; 16] = *Sha1::digest(format!("hfl {name}")).first_chunk().expect("a digest has 20 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// What is in a tree.
struct Contents {
    /// Space for the contents of its files, in bytes, and their number.
    bytes: u64,
    files: u64,
    /// Time of the newest change, in seconds since 1970.
    newest: i64,
}

impl Contents {
    fn of(tree: &Path) -> Result<Self, Error> {
        let mut contents = Self { bytes: 0, files: 0, newest: 0 };
        let mut linked = BTreeSet::new();
        for entry in WalkDir::new(tree) {
            let entry = entry.map_err(|e| Error::local(format!("{}: {e}", tree.display())))?;
            let meta = entry.metadata().map_err(|e| Error::local(format!("{}: {e}", tree.display())))?;
            contents.newest = contents.newest.max(meta.mtime());
            if meta.nlink() > 1 && !meta.is_dir() && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            contents.files += 1;
            contents.bytes += meta.len().next_multiple_of(BLOCK_BYTES);
        }
        Ok(contents)
    }

    /// As mke2fs by default, and a quarter more than are needed.
    fn ext4_inodes(&self) -> u64 {
        (self.ext4_bytes() / EXT4_BYTES_PER_INODE).max(self.files + self.files / 4)
    }

    fn ext4_bytes(&self) -> u64 {
        let needed = self.bytes + self.files * INODE_BYTES;
        (needed + needed / 4 + EXT4_JOURNAL_BYTES).next_multiple_of(EXT4_STEP_BYTES)
    }
}
