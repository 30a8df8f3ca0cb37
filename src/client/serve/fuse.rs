//! The FUSE adapter: one directory with the image as its only visible file, and the hidden status file.
//!
//! Deliberately thin. A read that the memory cache can answer is answered in the thread that took it from the kernel.
//! All other reads are passed to the runtime and answered there, so that these threads never wait for a network or a
//! disk. A panic in one request is one `EIO`.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, Request,
};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::status_file::{Reports, STATUS_FILE};
use crate::client::image::Image;
use crate::client::notice::{Notice, Observer};
use crate::client::prefetch::Prefetch;
use crate::client::status::{Status, Waiting};
use crate::format::name::Name;
use crate::format::time::Timestamp;

const FILE: INodeNo = INodeNo(2);
/// The hidden status file.
const STATUS: INodeNo = INodeNo(3);
/// The image never changes.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// Limit of the kernel's background requests: those no process waits for.
const BACKGROUND_MAX: u16 = 64;

/// The file system of one image.
#[derive(Debug)]
pub struct ImageFs {
    /// File name.
    pub name: Name,
    /// When the image was published.
    pub created: Timestamp,
    /// The image as readable bytes.
    pub image: Arc<Image>,
    /// The readahead, if any.
    pub prefetch: Option<Prefetch>,
    /// Counters and state.
    pub status: Arc<Status>,
    /// Contents of the hidden status file.
    pub(super) reports: Reports,
    /// Runtime for reads that have to wait.
    pub runtime: Handle,
    /// Is notified of failed reads.
    pub observer: Arc<dyn Observer>,
    /// Number of open handles of the image's file.
    pub users: watch::Sender<usize>,
    /// Dropped when the kernel has released the mount.
    pub ended: Option<oneshot::Sender<()>>,
}

impl ImageFs {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let time = UNIX_EPOCH + Duration::from_secs(self.created.unix());
        let time: SystemTime = time;
        let map = self.image.map();
        let (kind, perm, nlink, size, data_bytes) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o555, 2, 0, 0),
            STATUS => (FileType::RegularFile, 0o444, 1, 0, 0),
            _ => (FileType::RegularFile, 0o444, 1, map.size(), map.data_bytes()),
        };
        FileAttr {
            ino,
            size,
            // Fewer than the size tells cp, tar and du that there are holes.
            blocks: data_bytes.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn read_now(&self, offset: u64, bytes: u32, reply: ReplyData) {
        let range = self.image.range(offset, bytes as usize);
        let reads = &self.status.reads;
        reads.asked.fetch_add(1, Relaxed);
        reads.bytes.fetch_add(range.end - range.start, Relaxed);
        if let Some(prefetch) = &self.prefetch {
            prefetch.read(&range);
        }
        match self.image.cached(range.clone()) {
            Some(data) => data.with(|bytes| reply.data(bytes)),
            None => self.read_later(range, reply),
        }
    }

    fn read_later(&self, range: Range<u64>, reply: ReplyData) {
        let (image, observer) = (Arc::clone(&self.image), Arc::clone(&self.observer));
        let waiting = Waiting::new(&self.status.reads);
        self.runtime.spawn(async move {
            let offset = range.start;
            match image.read(range).await {
                Ok(data) => data.with(|bytes| reply.data(bytes)),
                Err(error) => {
                    reply.error(Errno::EIO);
                    waiting.0.failed.fetch_add(1, Relaxed);
                    observer.notice(Notice::ReadFailed { offset, error });
                }
            }
        });
    }
}

impl Filesystem for ImageFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without a capability, an older kernel is only slower.
        for capability in [InitFlags::FUSE_ASYNC_DIO, InitFlags::FUSE_PARALLEL_DIROPS] {
            let _ = config.add_capabilities(capability);
        }
        if let Err(most) = config.set_max_readahead(u32::MAX) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn destroy(&mut self) {
        drop(self.ended.take());
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == self.name.as_str() {
            reply.entry(&FOR_EVER, &self.attr(FILE), Generation(0));
        } else if parent == INodeNo::ROOT && name == STATUS_FILE {
            reply.entry(&FOR_EVER, &self.attr(STATUS), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attr(ino));
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        if ino != STATUS {
            self.users.send_modify(|users| *users += 1);
            return reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
        }
        match self.reports.open() {
            Some(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH),
            None => reply.error(Errno::ENFILE),
        }
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if ino == STATUS {
            self.reports.close(handle.0);
        } else {
            self.users.send_modify(|users| *users = users.saturating_sub(1));
        }
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino == STATUS {
            let text = self.reports.text(handle.0);
            let rest = text.as_ref().and_then(|text| text.as_bytes().get(offset as usize..)).unwrap_or_default();
            return reply.data(&rest[..rest.len().min(bytes as usize)]);
        }
        // A reply dropped during unwinding returns EIO to the kernel.
        let _ = catch_unwind(AssertUnwindSafe(|| self.read_now(offset, bytes, reply)));
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let map = self.image.map();
        let Some(offset) = u64::try_from(offset).ok().filter(|&offset| offset < map.size()) else {
            return reply.error(Errno::ENXIO);
        };
        match whence {
            libc::SEEK_DATA if map.seek(offset, true) == map.size() => reply.error(Errno::ENXIO),
            libc::SEEK_DATA => reply.offset(map.seek(offset, true) as i64),
            libc::SEEK_HOLE => reply.offset(map.seek(offset, false) as i64),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE, FileType::RegularFile, self.name.as_str()),
        ];
        for (next, (ino, kind, name)) in (1..).zip(entries).skip(offset as usize) {
            if reply.add(ino, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let blocks = self.image.map().size().div_ceil(4096);
        reply.statfs(blocks, 0, 0, 2, 0, 4096, 255, 4096);
    }
}
