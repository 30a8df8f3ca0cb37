//! `content 1` and `content 2`: each partition by the rule that suits the file system in it.
//!
//! The image is divided into *stretches*: its partitions, and what lies between them. A stretch is cut as if it were an
//! image by itself, so its blocks are those of the same file system published alone. What a stretch is, its first bytes
//! tell, so no more of the image is kept than these. `content 2` also reads the tables of an ext4 at the start of its stretch,
//! and cuts its files.
//!
//! An ISO 9660 is divided further: a squashfs that begins at one of its sectors, as in live systems, is a stretch.

use std::collections::VecDeque;
use std::ops::Range;

use super::cut::Cut;
use super::lookup::{Lookup, Stretch};
use super::plain::Plain;
use super::rule::PageSize;
use super::suits::splitter_of;
use crate::disk::superblock::{
    HEAD_BYTES, ISO, Packing, SQUASHFS_MAGIC, SQUASHFS_SUPERBLOCK_BYTES, read_from, squashfs, superblock,
};
use crate::error::Error;
use crate::partitions::{LOGICAL_MAX, MBR_SECTOR_BYTES, link, table};

/// Sectors of ISO 9660, where its files begin, in bytes.
const ISO_SECTOR_BYTES: u64 = 2048;

/// The state between two calls.
pub(super) struct Content<'a> {
    /// The image, if files are cut: `content 2`.
    image: Option<&'a dyn Lookup>,
    /// Why the image could not be read.
    failure: Option<Error>,
    /// Offset of the next byte in the image.
    at: u64,
    /// Where the current stretch begins and ends in the image.
    start: u64,
    end: u64,
    stage: Stage,
    /// The places where later stretches begin, ascending.
    marks: VecDeque<Mark>,
    /// Links of extended partitions that may still be followed.
    links_left: usize,
    /// The ISO 9660 that is being cut, in the image.
    iso: Option<Range<u64>>,
    /// Whether the current stretch is a part of it in which a squashfs may begin.
    is_iso: bool,
    /// The last sector that was looked at.
    looked_at: u64,
}

/// A place where a stretch begins.
#[derive(Clone, Copy)]
struct Mark {
    start: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// The start of the image.
    Image,
    /// A partition of this many bytes.
    Partition(u64),
    /// A link of the chain in the extended partition at this offset.
    Link(u64),
}

impl What {
    /// Bytes that tell how the stretch is cut.
    fn head_bytes(self) -> usize {
        match self {
            What::Image | What::Partition(_) => HEAD_BYTES,
            What::Link(_) => MBR_SECTOR_BYTES,
        }
    }
}

enum Stage {
    /// The first bytes of the stretch are collected.
    Head(What, Vec<u8>),
    /// The stretch is cut.
    Cut(Plain),
    /// The same; at a sector of an ISO 9660 that may be the superblock of a squashfs, whose bytes are collected.
    Sector(Plain, Vec<u8>),
}

impl<'a> Content<'a> {
    /// `content 2` with the image, `content 1` without.
    pub(super) fn new(image: Option<&'a dyn Lookup>) -> Self {
        let stage = Stage::Head(What::Image, Vec::new());
        let marks = VecDeque::new();
        Self {
            image,
            failure: None,
            at: 0,
            start: 0,
            end: u64::MAX,
            stage,
            marks,
            links_left: LOGICAL_MAX,
            iso: None,
            is_iso: false,
            looked_at: u64::MAX,
        }
    }
}

impl Content<'_> {
    /// The next bytes, at or behind `at` of the image, that need not be passed, but as a hole: they are cut already.
    pub(super) fn elsewhere(&self, at: u64) -> Option<Range<u64>> {
        let Stage::Cut(splitter) = &self.stage else { return None };
        let found = splitter.elsewhere(at.checked_sub(self.start)?)?;
        Some(found.start + self.start..found.end + self.start)
    }

    pub(super) fn data(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        // What follows a failure is not sent any more.
        if self.failure.is_some() {
            return;
        }
        while !bytes.is_empty() {
            let room = self.room().min(bytes.len() as u64) as usize;
            let Some(room) = self.before_squashfs(&bytes[..room]) else { continue };
            let (now, later) = bytes.split_at(room);
            match &mut self.stage {
                Stage::Head(_, head) | Stage::Sector(_, head) => head.extend_from_slice(now),
                Stage::Cut(splitter) => splitter.data(now, &mut |cut| out(shifted(cut, self.start))),
            }
            self.pass(now.len() as u64, out);
            bytes = later;
        }
    }

    pub(super) fn hole(&mut self, mut len: u64, out: &mut dyn FnMut(Cut)) {
        while len > 0 {
            let now = self.room().min(len);
            match &mut self.stage {
                Stage::Head(_, head) | Stage::Sector(_, head) => head.resize(head.len() + now as usize, 0),
                Stage::Cut(splitter) => splitter.hole(now, &mut |cut| out(shifted(cut, self.start))),
            }
            self.pass(now, out);
            len -= now;
        }
    }

    /// # Errors
    /// The image could not be read.
    pub(super) fn finish(mut self, out: &mut dyn FnMut(Cut)) -> Result<(), Error> {
        while !matches!(self.stage, Stage::Cut(_)) {
            self.decide(out);
        }
        self.end_stretch(out);
        self.failure.map_or(Ok(()), Err)
    }

    /// Bytes until the stage or the stretch ends; at least 1.
    fn room(&self) -> u64 {
        let left = self.end - self.at;
        match &self.stage {
            Stage::Head(what, head) => left.min((what.head_bytes() - head.len()) as u64),
            Stage::Sector(_, head) => left.min((SQUASHFS_SUPERBLOCK_BYTES - head.len()) as u64),
            Stage::Cut(_) => left,
        }
    }

    /// Moves on by `len` bytes, which are in the stage already.
    fn pass(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        self.at += len;
        let is_full = match &self.stage {
            Stage::Head(what, head) => head.len() == what.head_bytes() || self.at == self.end,
            Stage::Sector(_, head) => head.len() == SQUASHFS_SUPERBLOCK_BYTES || self.at == self.end,
            Stage::Cut(_) => false,
        };
        if is_full {
            self.decide(out);
        } else if self.at == self.end {
            self.end_stretch(out);
            self.begin_stretch();
        }
    }

    /// Chooses the rule of the stretch from its head, and cuts that.
    fn decide(&mut self, out: &mut dyn FnMut(Cut)) {
        let (what, head) = match &mut self.stage {
            Stage::Head(what, head) => (*what, std::mem::take(head)),
            Stage::Sector(..) => return self.decide_sector(out),
            Stage::Cut(_) => return,
        };
        let splitter = match what {
            What::Image => self.splitter_of_image(&head, out),
            What::Partition(_) => self.splitter_of_file_system(&head, out),
            What::Link(extended) => {
                self.follow(extended, &head);
                self.end = self.next_mark();
                None
            }
        };
        self.stage = Stage::Cut(splitter.unwrap_or_else(Plain::bytes));
        self.at = self.start;
        self.data(&head, out);
    }

    /// The splitter for the whole image; `None` if there are partitions, or nothing is recognized.
    fn splitter_of_image(&mut self, head: &[u8], out: &mut dyn FnMut(Cut)) -> Option<Plain> {
        let splitter = self.splitter_of_file_system(head, out);
        if splitter.is_none() {
            let table = table(&mut |at, out| read_from(head, at, out));
            let partitions = table.partitions.iter().map(|p| Mark { start: p.start, what: What::Partition(p.len) });
            let links = table.extended.iter().map(|&start| Mark { start, what: What::Link(start) });
            self.add_marks(partitions.chain(links));
            self.end = self.next_mark();
        }
        splitter
    }

    fn splitter_of_file_system(&mut self, head: &[u8], out: &mut dyn FnMut(Cut)) -> Option<Plain> {
        let superblock = superblock(0, &mut |at, out| read_from(head, at, out))?;
        self.is_iso = superblock.name == ISO;
        if self.is_iso {
            self.iso = Some(self.start..self.end);
        }
        let splitter = if self.is_iso { self.splitter_of_iso() } else { splitter_of(&superblock) };
        // Its start does not tell that an ISO 9660 would have to be read at any offset.
        let Some(image) = self.image.filter(|_| self.iso.is_none()) else { return Some(splitter) };
        let stretch = Stretch::new(image, self.start, self.end);
        let without_files = splitter.with_files(stretch, head, &mut |cut| out(shifted(cut, self.start)));
        without_files.map_err(|e| self.failure.get_or_insert(e)).ok()
    }

    /// The splitter for an ISO 9660, but for the squashfs in it.
    fn splitter_of_iso(&self) -> Plain {
        match self.image {
            Some(_) => Plain::pages(PageSize::TwoKib),
            None => Plain::bytes(),
        }
    }

    /// How many of these bytes, which are cut next, lie before a sector of an ISO 9660 that may begin a squashfs; `None` if
    /// the first of them begins one, which is looked at then.
    fn before_squashfs(&mut self, bytes: &[u8]) -> Option<usize> {
        let (Some(iso), true, Stage::Cut(_)) = (&self.iso, self.is_iso, &self.stage) else { return Some(bytes.len()) };
        let first = (self.at - iso.start).next_multiple_of(ISO_SECTOR_BYTES) - (self.at - iso.start);
        let may_begin = |at: &usize| {
            let there = &bytes[*at..];
            there.iter().zip(SQUASHFS_MAGIC).all(|(&byte, magic)| byte == magic)
        };
        let found = (first as usize..bytes.len()).step_by(ISO_SECTOR_BYTES as usize).find(may_begin);
        if found == Some(0) && self.at != self.looked_at {
            self.looked_at = self.at;
            if let Stage::Cut(splitter) = std::mem::replace(&mut self.stage, Stage::Head(What::Image, Vec::new())) {
                self.stage = Stage::Sector(splitter, Vec::with_capacity(SQUASHFS_SUPERBLOCK_BYTES));
            }
            return None;
        }
        Some(found.filter(|&at| at > 0).unwrap_or(bytes.len()))
    }

    /// Begins a stretch if the collected bytes are the superblock of a squashfs; else they are cut like those before.
    fn decide_sector(&mut self, out: &mut dyn FnMut(Cut)) {
        let next = Stage::Head(What::Image, Vec::new());
        let Stage::Sector(splitter, head) = std::mem::replace(&mut self.stage, next) else { return };
        self.at -= head.len() as u64;
        let is_one = head.len() == SQUASHFS_SUPERBLOCK_BYTES && head.starts_with(&SQUASHFS_MAGIC);
        let squashfs = is_one.then(|| squashfs(&head));
        let size =
            squashfs.filter(|found| matches!(found.packing, Packing::Squashfs { .. })).and_then(|found| found.bytes);
        match size.and_then(|bytes| bytes.checked_next_multiple_of(ISO_SECTOR_BYTES)).filter(|&bytes| bytes > 0) {
            Some(bytes) => {
                splitter.finish(&mut |cut| out(shifted(cut, self.start)));
                (self.start, self.is_iso) = (self.at, false);
                self.end = self.at.saturating_add(bytes).min(self.end);
                self.stage = Stage::Head(What::Partition(bytes), Vec::new());
            }
            None => self.stage = Stage::Cut(splitter),
        }
        self.data(&head, out);
    }

    /// Adds the logical partition and the next link that the link at the start of the stretch names. Only what comes
    /// later in the image counts.
    fn follow(&mut self, extended: u64, head: &[u8]) {
        let start = self.start;
        let found =
            link(extended, start, &mut |at, out| at.checked_sub(start).is_some_and(|at| read_from(head, at, out)));
        let Some(found) = found.filter(|_| self.links_left > 0) else { return };
        self.links_left -= 1;
        let partition = found.partition.map(|p| Mark { start: p.start, what: What::Partition(p.len) });
        let next = found.next.map(|start| Mark { start, what: What::Link(extended) });
        self.add_marks(partition.into_iter().chain(next));
    }

    /// Adds marks that lie behind the start of the stretch. Of two at one place the first that was added counts.
    fn add_marks(&mut self, marks: impl Iterator<Item = Mark>) {
        self.marks.extend(marks.filter(|mark| mark.start > self.start));
        self.marks.make_contiguous().sort_by_key(|mark| mark.start);
    }

    fn next_mark(&self) -> u64 {
        self.marks.front().map_or(u64::MAX, |mark| mark.start)
    }

    fn end_stretch(&mut self, out: &mut dyn FnMut(Cut)) {
        let next = Stage::Head(What::Image, Vec::new());
        if let Stage::Cut(splitter) = std::mem::replace(&mut self.stage, next) {
            splitter.finish(&mut |cut| out(shifted(cut, self.start)));
        }
        // Its end is that of the partition that it is in.
        self.iso.take_if(|iso| iso.end == self.at);
    }

    /// Begins the stretch at the current place: the rest of an ISO 9660, a partition, a link, or what lies before the next of these. Marks that
    /// have been passed lie within an earlier partition and are ignored.
    fn begin_stretch(&mut self) {
        self.start = self.at;
        if let Some(iso) = &self.iso {
            (self.end, self.is_iso) = (iso.end, true);
            self.stage = Stage::Cut(self.splitter_of_iso());
            return;
        }
        while self.marks.pop_front_if(|mark| mark.start < self.at).is_some() {}
        let here = self.marks.pop_front_if(|mark| mark.start == self.at);
        while self.marks.pop_front_if(|mark| mark.start == self.at).is_some() {}
        match here {
            Some(mark) => {
                self.stage = Stage::Head(mark.what, Vec::new());
                self.end = match mark.what {
                    What::Partition(len) => self.at.saturating_add(len),
                    What::Image | What::Link(_) => u64::MAX,
                };
            }
            None => {
                self.stage = Stage::Cut(Plain::bytes());
                self.end = self.next_mark();
            }
        }
    }
}

/// The cut of a stretch that begins at `start`, in offsets of the image.
fn shifted(mut cut: Cut, start: u64) -> Cut {
    cut.spans.iter_mut().for_each(|span| span.offset += start);
    cut
}
