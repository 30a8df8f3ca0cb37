//! This machine's record of what it published: `published/NAME` in the state directory, one small file per image.
//!
//! A version number must never be used twice, even if mirrors lose a head or are unreachable when the next version is
//! made.
//!
//! ```text
//! HFL-PUBLISHED 1
//! published 42 1f3a...(64) RWQ...         the newest version, its index, and the key that signed it, or `unsigned`
//! intended 43 40c1...(64) RWQ...          a version whose head may have reached a mirror: it was about to be switched
//! place RWQ... sftp://host/hfl            a mirror that had it
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::format::digest::Sha256;
use crate::format::head::Trust;
use crate::format::name::{Name, Version};
use crate::system::{atomic_file, file_lock};

const FIRST_LINE: &str = "HFL-PUBLISHED 1";
/// Larger files are rejected.
const FILE_MAX_BYTES: u64 = 1 << 20;
const UNSIGNED: &str = "unsigned";

/// The directory of the records; with `None`, nothing is recorded.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    directory: Option<PathBuf>,
}

/// A version and the digest of its index.
pub type Numbered = (Version, Sha256);

/// The record of one image under one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The newest version that reached a mirror.
    pub published: Option<Numbered>,
    /// Later versions whose heads may have reached a mirror.
    pub intended: Vec<Numbered>,
    /// The mirrors that had the newest version.
    pub places: BTreeSet<String>,
}

impl Remembered {
    /// The highest version number ever used.
    pub fn highest(&self) -> Option<Version> {
        self.published.iter().chain(&self.intended).map(|(version, _)| *version).max()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Published(Numbered, String),
    Intended(Numbered, String),
    Place(String, String),
}

impl Line {
    fn voucher(&self) -> &str {
        match self {
            Self::Published(_, voucher) | Self::Intended(_, voucher) | Self::Place(voucher, _) => voucher,
        }
    }
}

impl Memory {
    /// Records below `state`, hfl's state directory; `None` records nothing.
    pub fn below(state: Option<&Path>) -> Self {
        Self { directory: state.map(|state| state.join("published")) }
    }

    /// The record of `image` under the key of `trust`.
    ///
    /// # Errors
    /// The file cannot be read or is malformed: its contents must not be lost.
    pub fn recall(&self, image: &Name, trust: &Trust) -> Result<Remembered, Error> {
        let Some(directory) = &self.directory else { return Ok(Remembered::default()) };
        let (mut remembered, voucher) = (Remembered::default(), voucher(trust));
        for line in load(&directory.join(image.as_str()))?.into_iter().filter(|line| line.voucher() == voucher) {
            match line {
                Line::Published(numbered, _) => remembered.published = Some(numbered),
                Line::Intended(numbered, _) => remembered.intended.push(numbered),
                Line::Place(_, place) => drop(remembered.places.insert(place)),
            }
        }
        Ok(remembered)
    }

    /// The keys that signed what was published to one of these mirrors. Records that cannot be read are passed over.
    pub fn keys_at(&self, places: &[String]) -> BTreeSet<String> {
        let records = self.directory.as_ref().and_then(|directory| fs::read_dir(directory).ok());
        let records = records.into_iter().flatten().flatten();
        let lines = records.flat_map(|record| load(&record.path()).unwrap_or_default());
        let at = |line| match line {
            Line::Place(voucher, place) if places.contains(&place) && voucher != UNSIGNED => Some(voucher),
            _ => None,
        };
        lines.filter_map(at).collect()
    }

    /// Records that the head of a version is about to be switched.
    ///
    /// The directory cannot be written.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn intend(&self, image: &Name, trust: &Trust, numbered: Numbered) -> Result<(), Error> {
        let published = Line::Published(numbered, voucher(trust));
        let intended = Line::Intended(numbered, voucher(trust));
        self.change(image, |lines| {
            if !lines.contains(&published) && !lines.contains(&intended) {
                lines.push(intended);
            }
        })
    }

    /// Records that a version has reached these mirrors. When a mirror receives an older version, a later recorded
    /// version stays.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn publish(&self, image: &Name, trust: &Trust, numbered: Numbered, places: &[String]) -> Result<(), Error> {
        let voucher = voucher(trust);
        self.change(image, |lines| {
            let is_later = |line: &Line| matches!(line, Line::Published((version, _), _) if *version > numbered.0);
            if !lines.iter().any(|line| line.voucher() == voucher && is_later(line)) {
                lines.retain(|line| match line {
                    Line::Published(_, other) => *other != voucher,
                    Line::Intended((version, _), other) => *other != voucher || *version > numbered.0,
                    Line::Place(..) => true,
                });
                lines.insert(0, Line::Published(numbered, voucher.clone()));
            }
            let new = places.iter().map(|place| Line::Place(voucher.clone(), place.clone()));
            let new: Vec<Line> = new.filter(|line| !lines.contains(line)).collect();
            lines.extend(new);
        })
    }

    fn change(&self, image: &Name, change: impl FnOnce(&mut Vec<Line>)) -> Result<(), Error> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let (file, fail) = (directory.join(image.as_str()), |e: io::Error| Error::io(directory, &e));
        fs::create_dir_all(directory).map_err(fail)?;
        // Two publishers on this machine may be working on two repositories.
        let locked = File::open(directory).map_err(fail)?;
        file_lock::lock(&locked).map_err(fail)?;
        let before = load(&file)?;
        let mut lines = before.clone();
        change(&mut lines);
        if lines == before {
            return Ok(());
        }
        atomic_file::replace(&file, text(&lines).as_bytes()).map_err(|e| Error::io(&file, &e))
    }
}

fn voucher(trust: &Trust) -> String {
    trust.key().map_or_else(|| UNSIGNED.to_owned(), ToString::to_string)
}

fn load(file: &Path) -> Result<Vec<Line>, Error> {
    let bytes = match fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(meta) if meta.len() > FILE_MAX_BYTES || !meta.is_file() => return Err(unreadable(file)),
        _ => fs::read(file).map_err(|e| Error::io(file, &e))?,
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable(file))?;
    parse(&text).ok_or_else(|| unreadable(file))
}

fn unreadable(file: &Path) -> Error {
    Error::local(format!("{}: not a record of what was published from this machine", file.display()))
        .hint("restore it from a copy, or remove it: version numbers are then taken from the mirrors alone")
}

fn parse(text: &str) -> Option<Vec<Line>> {
    let mut lines = text.lines();
    lines.next().filter(|line| *line == FIRST_LINE)?;
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let (word, rest) = line.split_once(' ')?;
    if word == "place" {
        let (voucher, place) = rest.split_once(' ')?;
        return Some(Line::Place(voucher.to_owned(), place.to_owned()));
    }
    let mut words = rest.splitn(3, ' ');
    let numbered = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let voucher = words.next()?.to_owned();
    match word {
        "published" => Some(Line::Published(numbered, voucher)),
        "intended" => Some(Line::Intended(numbered, voucher)),
        _ => None,
    }
}

fn text(lines: &[Line]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for line in lines {
        // Writing to a String cannot fail.
        let _ = match line {
            Line::Published((version, digest), voucher) => writeln!(text, "published {version} {digest} {voucher}"),
            Line::Intended((version, digest), voucher) => writeln!(text, "intended {version} {digest} {voucher}"),
            Line::Place(voucher, place) => writeln!(text, "place {voucher} {place}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_remembered_by_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = Memory::below(Some(directory.path()));
        let (image, one, two) = ("os".parse().expect("a name"), Version::FIRST, Version::new(2).expect("a version"));
        let digest = Sha256::of(b"index");
        assert_eq!(memory.recall(&image, &Trust::Anyone).expect("nothing yet"), Remembered::default());
        memory.intend(&image, &Trust::Anyone, (one, digest)).expect("written");
        assert_eq!(memory.recall(&image, &Trust::Anyone).expect("read").published, None);
        memory.publish(&image, &Trust::Anyone, (one, digest), &["./a b".to_owned()]).expect("written");
        memory.intend(&image, &Trust::Anyone, (two, digest)).expect("written");
        let remembered = memory.recall(&image, &Trust::Anyone).expect("read");
        assert_eq!((remembered.published, remembered.highest()), (Some((one, digest)), Some(two)));
        assert_eq!(remembered.places, BTreeSet::from(["./a b".to_owned()]));
        memory.publish(&image, &Trust::Anyone, (two, digest), &["./a b".to_owned()]).expect("written");
        memory.publish(&image, &Trust::Anyone, (one, digest), &["./c".to_owned()]).expect("written");
        let remembered = memory.recall(&image, &Trust::Anyone).expect("read");
        assert_eq!(remembered.published, Some((two, digest)), "a mirror that gets an older one takes nothing back");
        assert_eq!(remembered.places.len(), 2);
        assert!(memory.keys_at(&["./c".to_owned()]).is_empty(), "what is unsigned has no key");
        fs::write(directory.path().join("published/os"), "HFL-PUBLISHED 1\nwhat\n").expect("a file");
        assert!(memory.recall(&image, &Trust::Anyone).is_err(), "a damaged memory is not an empty one");
    }
}
