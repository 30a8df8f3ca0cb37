//! What a client remembers of an image between runs, so that nobody can take it back to an older version.
//!
//! One small file for each image name:
//!
//! ```text
//! HFL-SEEN 1
//! newest 42 1f3a...(64) RWQ...              the newest version believed by that key, and its index
//! newest 41 40c1...(64) https://a.example/  the same for an unsigned image, by the place it came from
//! signed https://a.example/                 this place had the image signed by a key that was pinned
//! ```
//!
//! [`Seen`] decides purely; [`load`] and [`store`] are the only functions here that touch a disk.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::head::{Head, Trust};
use crate::name::{Name, Version};
use crate::time::Timestamp;

const FIRST_LINE: &str = "HFL-SEEN 1";
/// More is no state of ours.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The newest version that somebody vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Newest {
    version: Version,
    index: Sha256,
    /// A key, or a place.
    voucher: String,
}

/// Everything remembered of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    newest: Vec<Newest>,
    signed: Vec<String>,
}

/// Why a head is refused for what was seen before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Older than what was seen.
    #[error("rollback: the newest version offered is {offered}, but version {seen} was seen before")]
    Rollback {
        /// The newest version of the head.
        offered: Version,
        /// The newest version ever seen.
        seen: Version,
    },
    /// A version that was something else before.
    #[error("equivocation: version {0} is not the one that was seen before under this number")]
    Equivocation(Version),
    /// No proof is asked for where there was one.
    #[error("this image was mounted with a pinned key before, so it is not accepted unsigned")]
    WasSigned,
    /// Out of date, and nothing is known of the image.
    #[error("the head expired at {0}, and this image was never used here before")]
    Expired(Timestamp),
}

/// A head that passes, and what its user should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to say.
    Good,
    /// It expired at this time, but the image was used here before.
    Expired(Timestamp),
}

impl Seen {
    /// Judges a believed head of an image from `places`, at the time `now`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn judge(&self, head: &Head, trust: &Trust, places: &[String], now: Timestamp) -> Result<Verdict, Refused> {
        if *trust == Trust::Anyone && self.signed.iter().any(|place| places.contains(place)) {
            return Err(Refused::WasSigned);
        }
        let vouchers = vouchers(trust, places);
        let seen: Vec<&Newest> = self.newest.iter().filter(|n| vouchers.contains(&n.voucher)).collect();
        for newest in &seen {
            newest.allows(head)?;
        }
        match head.expires {
            Some(at) if head.expired(now) && seen.is_empty() => Err(Refused::Expired(at)),
            Some(at) if head.expired(now) => Ok(Verdict::Expired(at)),
            _ => Ok(Verdict::Good),
        }
    }

    /// Whether exactly this head's newest version was the newest seen from one of these places, or by this key: what an
    /// unsigned head from anywhere else has to show.
    pub fn knows(&self, head: &Head, trust: &Trust, places: &[String]) -> bool {
        let (vouchers, row) = (vouchers(trust, places), head.newest());
        let is_it = |n: &Newest| n.version == row.version && n.index == row.index_sha256;
        self.newest.iter().any(|n| vouchers.contains(&n.voucher) && is_it(n))
    }

    /// Remembers a head that was judged.
    pub fn remember(&mut self, head: &Head, trust: &Trust, places: &[String]) {
        let row = head.newest();
        for voucher in vouchers(trust, places) {
            self.newest.retain(|n| n.voucher != voucher);
            self.newest.push(Newest { version: row.version, index: row.index_sha256, voucher });
        }
        if matches!(trust, Trust::Key(_)) {
            let new = places.iter().filter(|place| !self.signed.contains(place));
            let new: Vec<String> = new.cloned().collect();
            self.signed.extend(new);
        }
    }

    /// Reads the text form; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut seen = Seen::default();
        lines.next().filter(|&line| line == FIRST_LINE)?;
        for line in lines {
            match line.split_once(' ')? {
                ("signed", place) => seen.signed.push(place.to_owned()),
                ("newest", rest) => {
                    let mut parts = rest.splitn(3, ' ');
                    let (version, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                    seen.newest.push(Newest { version, index, voucher: parts.next()?.to_owned() });
                }
                _ => return None,
            }
        }
        Some(seen)
    }

    fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for Newest { version, index, voucher } in &self.newest {
            let _ = writeln!(text, "newest {version} {index} {voucher}");
        }
        for place in &self.signed {
            let _ = writeln!(text, "signed {place}");
        }
        text
    }
}

impl Newest {
    fn allows(&self, head: &Head) -> Result<(), Refused> {
        let offered = head.newest().version;
        if offered < self.version {
            return Err(Refused::Rollback { offered, seen: self.version });
        }
        match head.version(self.version) {
            Some(row) if row.index_sha256 != self.index => Err(Refused::Equivocation(self.version)),
            _ => Ok(()),
        }
    }
}

/// Who vouches for an image: the key that is trusted, or else every place it comes from.
fn vouchers(trust: &Trust, places: &[String]) -> Vec<String> {
    match trust {
        Trust::Key(key) => vec![key.to_string()],
        Trust::Anyone => places.to_vec(),
    }
}

fn path(state: &Path, image: &Name) -> PathBuf {
    state.join("seen").join(image.as_str())
}

/// What is remembered of `image` in the directory `state`; nothing where there is no file.
///
/// # Errors
/// When there is one that cannot be read.
pub fn load(state: &Path, image: &Name) -> io::Result<Seen> {
    let path = path(state, image);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Seen::default()),
        file => file?,
    };
    let mut text = String::new();
    file.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Seen::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a record of a seen image"))
}

/// Replaces what is remembered of `image`, so that a power cut leaves the old or the new.
///
/// # Errors
/// Those of the file system.
pub fn store(state: &Path, image: &Name, seen: &Seen) -> io::Result<()> {
    let path = path(state, image);
    let directory = path.parent().unwrap_or(state);
    std::fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{image}.{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(seen.text().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
