//! The input image, cut into blocks.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::whole_digest::WholeDigest;
use crate::disk::free_space::FreeSpace;
use crate::disk::input::{Input, Part};
use crate::error::Error;
use crate::format::digest::Sha256;
use crate::progress::{Event, Phase, Watch};
use crate::split::{Cut, Lookup, Rule, Splitter, is_zero, looks_elsewhere};
use crate::system::directories;

/// How an image is read and cut.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Split rule.
    pub rule: Rule,
    /// Whether blocks that ext4 calls free are read as zeros.
    pub zero_free: bool,
    /// Whether the SHA-256 of the whole image is computed.
    pub digest: bool,
}

impl Reading {
    /// Every byte as it is.
    pub fn exact(rule: Rule) -> Self {
        Self { rule, zero_free: false, digest: false }
    }
}

/// What was read of an image.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of old data in blocks that ext4 calls free; 0 if they were read as zeros, and of a stream.
    pub free_bytes: u64,
    /// SHA-256 of what it was read as, if wanted.
    pub sha256: Option<Sha256>,
}

/// Unit in which old data in free blocks is counted.
const PAGE_BYTES: usize = 4096;

/// An image as cutting it by `rule` needs it: a stream is unpacked to a temporary file if it may have to be read at any
/// offset.
///
/// # Errors
/// Those of [`unpacked`].
pub fn for_rule(image: Input, rule: Rule, watch: &Watch) -> Result<Input, Error> {
    let is_needed = looks_elsewhere(rule, &mut |at, out| image.read_at(at, out));
    if is_needed { unpacked(image, watch) } else { Ok(image) }
}

/// An image that can be read at any offset: a stream is unpacked to a temporary file.
///
/// # Errors
/// A failed read; no room; interrupted by the user.
pub fn unpacked(image: Input, watch: &Watch) -> Result<Input, Error> {
    if image.is_seekable() {
        return Ok(image);
    }
    watch.progress.event(Event::Phase(Phase::Unpack));
    watch.progress.event(Event::Start { image_bytes: None });
    image.seekable(&directories::temporary(), &|bytes| {
        watch.progress.event(Event::Read { bytes });
        !watch.cancel.load(Ordering::Relaxed)
    })
}

/// Reads `image` once and cuts it. `passed` receives the bytes of each part read.
///
/// # Errors
/// A failed read; a file that changed meanwhile; free blocks that cannot be told;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) once `stop` returns true.
pub fn split(
    image: &Input,
    reading: Reading,
    stop: &dyn Fn() -> bool,
    passed: &dyn Fn(u64),
    out: &mut dyn FnMut(Cut),
) -> Result<Passed, Error> {
    let anywhere = Anywhere { image, stop, passed };
    let splitter = RefCell::new(Splitter::new(reading.rule, &anywhere));
    let mut free = Free::of(image, reading.zero_free)?;
    free.digest = reading.digest.then(WholeDigest::default);
    let mut at = 0;
    let size = image.read(&|at| splitter.borrow().elsewhere(at), &mut |part| {
        if stop() {
            return Err(Error::interrupted());
        }
        let splitter = &mut *splitter.borrow_mut();
        match part {
            Part::Data(bytes) => free.data(at, bytes, splitter, out)?,
            Part::Hole(bytes) => free.hole(bytes, splitter, out),
            Part::Skipped(bytes) => {
                free.digest.iter_mut().try_for_each(|digest| digest.read(image, at, bytes))?;
                splitter.hole(bytes, out);
            }
        }
        at += part.bytes();
        if !matches!(part, Part::Skipped(_)) {
            passed(part.bytes());
        }
        Ok(())
    })?;
    splitter.into_inner().finish(out)?;
    Ok(Passed { size, free_bytes: free.bytes, sha256: free.digest.map(WholeDigest::finish) })
}

/// The image for what is read out of its order.
struct Anywhere<'a> {
    image: &'a Input,
    stop: &'a dyn Fn() -> bool,
    passed: &'a dyn Fn(u64),
}

impl Lookup for Anywhere<'_> {
    fn size(&self) -> u64 {
        // That of a stream is not known, and reading it fails.
        self.image.size().unwrap_or(u64::MAX)
    }

    fn hole(&self, offset: u64, len: u64) -> u64 {
        self.image.hole_at(offset, len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        if (self.stop)() { Err(Error::interrupted()) } else { self.image.read_exact_at(offset, out) }
    }

    fn passed(&self, bytes: u64) {
        (self.passed)(bytes);
    }
}

/// What becomes of the bytes in free blocks.
struct Free<'a> {
    image: &'a Input,
    space: Option<FreeSpace>,
    zero: bool,
    /// Bytes of old data that were passed on.
    bytes: u64,
    /// Of all that was passed on.
    digest: Option<WholeDigest>,
}

impl<'a> Free<'a> {
    fn of(image: &'a Input, zero: bool) -> Result<Self, Error> {
        let is_seekable = image.is_seekable();
        let space = is_seekable.then(|| FreeSpace::of(&mut |at, out| image.read_at(at, out))).flatten();
        if zero && space.is_none() {
            let message = format!("{}: --zero-free: there is no ext4 file system that is clean", image.name());
            return Err(Error::local(message).hint("unmount it, or run e2fsck -f; or publish it without --zero-free"));
        }
        Ok(Self { image, space, zero, bytes: 0, digest: None })
    }

    fn data(
        &mut self,
        mut at: u64,
        mut bytes: &[u8],
        splitter: &mut Splitter<'_>,
        out: &mut dyn FnMut(Cut),
    ) -> Result<(), Error> {
        while let Some(space) = self.space.as_mut().filter(|_| !bytes.is_empty()) {
            let run = match space.run(at, bytes.len() as u64, &mut |at, out| self.image.read_at(at, out)) {
                Ok(run) => run,
                Err(e) if self.zero => return Err(e),
                // Only for a hint.
                Err(_) => {
                    (self.space, self.bytes) = (None, 0);
                    break;
                }
            };
            let (now, later) = bytes.split_at(run.bytes as usize);
            if run.is_free && self.zero {
                self.hole(run.bytes, splitter, out);
            } else {
                if run.is_free {
                    let is_old = |page: &&[u8]| !is_zero(page);
                    self.bytes += now.chunks(PAGE_BYTES).filter(is_old).map(|page| page.len() as u64).sum::<u64>();
                }
                self.pass(now, splitter, out);
            }
            (at, bytes) = (at + run.bytes, later);
        }
        self.pass(bytes, splitter, out);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8], splitter: &mut Splitter<'_>, out: &mut dyn FnMut(Cut)) {
        self.digest.iter_mut().for_each(|digest| digest.data(bytes));
        splitter.data(bytes, out);
    }

    fn hole(&mut self, bytes: u64, splitter: &mut Splitter<'_>, out: &mut dyn FnMut(Cut)) {
        self.digest.iter_mut().for_each(|digest| digest.zeros(bytes));
        splitter.hole(bytes, out);
    }
}
