//! `content 1`: each partition by the rule that suits the file system in it.
//!
//! The image is divided into *stretches*: its partitions, and what lies between them. A stretch is cut as if it were an
//! image by itself, so its blocks are those of the same file system published alone. What a stretch is, its first bytes
//! tell, so no more of the image is kept than these, and a pipe is cut like a file.

use std::collections::VecDeque;

use super::cut::Cut;
use super::plain::Plain;
use super::suits::splitter_for;
use crate::disk::partitions::{LOGICAL_MAX, MBR_SECTOR_BYTES, link, table};
use crate::disk::superblock::{HEAD_BYTES, read_from};

/// The state between two calls.
pub(super) struct Content {
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
}

impl Default for Content {
    fn default() -> Content {
        let stage = Stage::Head(What::Image, Vec::new());
        Content { at: 0, start: 0, end: u64::MAX, stage, marks: VecDeque::new(), links_left: LOGICAL_MAX }
    }
}

impl Content {
    pub(super) fn data(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(Cut)) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.room().min(bytes.len() as u64) as usize);
            match &mut self.stage {
                Stage::Head(_, head) => head.extend_from_slice(now),
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
                Stage::Head(_, head) => head.resize(head.len() + now as usize, 0),
                Stage::Cut(splitter) => splitter.hole(now, &mut |cut| out(shifted(cut, self.start))),
            }
            self.pass(now, out);
            len -= now;
        }
    }

    pub(super) fn finish(mut self, out: &mut dyn FnMut(Cut)) {
        while let Stage::Head(..) = self.stage {
            self.decide(out);
        }
        self.end_stretch(out);
    }

    /// Bytes until the stage or the stretch ends; at least 1.
    fn room(&self) -> u64 {
        let left = self.end - self.at;
        match &self.stage {
            Stage::Head(what, head) => left.min((what.head_bytes() - head.len()) as u64),
            Stage::Cut(_) => left,
        }
    }

    /// Moves on by `len` bytes, which are in the stage already.
    fn pass(&mut self, len: u64, out: &mut dyn FnMut(Cut)) {
        self.at += len;
        let is_full = matches!(&self.stage, Stage::Head(what, head) if head.len() == what.head_bytes());
        if is_full || (self.at == self.end && matches!(self.stage, Stage::Head(..))) {
            self.decide(out);
        } else if self.at == self.end {
            self.end_stretch(out);
            self.begin_stretch();
        }
    }

    /// Chooses the rule of the stretch from its head, and cuts that.
    fn decide(&mut self, out: &mut dyn FnMut(Cut)) {
        let Stage::Head(what, head) = &mut self.stage else { return };
        let (what, head) = (*what, std::mem::take(head));
        let splitter = match what {
            What::Image => self.splitter_of_image(&head),
            What::Partition(_) => splitter_for(&mut |at, out| read_from(&head, at, out)),
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
    fn splitter_of_image(&mut self, head: &[u8]) -> Option<Plain> {
        let splitter = splitter_for(&mut |at, out| read_from(head, at, out));
        if splitter.is_none() {
            let table = table(&mut |at, out| read_from(head, at, out));
            let partitions = table.partitions.iter().map(|p| Mark { start: p.start, what: What::Partition(p.len) });
            let links = table.extended.iter().map(|&start| Mark { start, what: What::Link(start) });
            self.add_marks(partitions.chain(links));
            self.end = self.next_mark();
        }
        splitter
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
    }

    /// Begins the stretch at the current place: a partition, a link, or what lies before the next of these. Marks that
    /// have been passed lie within an earlier partition and are ignored.
    fn begin_stretch(&mut self) {
        self.start = self.at;
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
