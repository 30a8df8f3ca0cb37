//! A read-only FUSE file system over a directory that is slow or hangs on demand.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request, Session,
};

/// The served files and directories, by inode number.
struct Passing {
    places: Mutex<Vec<PathBuf>>,
    hangs: Arc<AtomicBool>,
    /// Delay of each open, in milliseconds.
    slow_ms: Arc<AtomicU64>,
}

impl Passing {
    fn wait(&self) {
        while self.hangs.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn place(&self, ino: INodeNo) -> PathBuf {
        self.places.lock().unwrap()[ino.0 as usize - 1].clone()
    }

    fn number(&self, place: PathBuf) -> INodeNo {
        let mut places = self.places.lock().unwrap();
        let at = places.iter().position(|p| *p == place).unwrap_or(places.len());
        if at == places.len() {
            places.push(place);
        }
        INodeNo(at as u64 + 1)
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let meta = fs::symlink_metadata(self.place(ino)).ok()?;
        let (size, time) = (meta.len(), meta.modified().unwrap());
        Some(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if meta.is_dir() { FileType::Directory } else { FileType::RegularFile },
            perm: (meta.mode() & 0o777) as u16,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Passing {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.wait();
        let place = self.place(parent).join(name);
        match place.exists().then(|| self.number(place)).and_then(|ino| self.attr(ino)) {
            Some(attr) => reply.entry(&Duration::ZERO, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.wait();
        match self.attr(ino) {
            Some(attr) => reply.attr(&Duration::ZERO, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.wait();
        std::thread::sleep(Duration::from_millis(self.slow_ms.load(SeqCst)));
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.wait();
        let mut read = vec![0; bytes as usize];
        match fs::File::open(self.place(ino)).and_then(|file| file.read_at(&mut read, offset)) {
            Ok(got) => reply.data(&read[..got]),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}

/// The mount; it stops hanging on drop.
pub struct Hanging {
    point: PathBuf,
    hangs: Arc<AtomicBool>,
    slow_ms: Arc<AtomicU64>,
    _session: BackgroundSession,
}

impl Hanging {
    /// Mounts `directory` at `point`.
    pub fn mount(directory: &Path, point: &Path) -> Self {
        fs::create_dir_all(point).unwrap();
        let (hangs, slow_ms) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let places = Mutex::new(vec![directory.to_owned()]);
        let passing = Passing { places, hangs: Arc::clone(&hangs), slow_ms: Arc::clone(&slow_ms) };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("hanging".into())];
        config.n_threads = Some(4);
        config.clone_fd = true;
        let session = Session::new(passing, point, &config).unwrap().spawn().unwrap();
        Self { point: point.to_owned(), hangs, slow_ms, _session: session }
    }

    /// Makes all requests hang, or lets them continue.
    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, SeqCst);
    }

    /// Sets the delay for opening a file.
    pub fn slow(&self, by: Duration) {
        self.slow_ms.store(by.as_millis() as u64, SeqCst);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.hang(false);
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}
