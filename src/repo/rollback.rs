//! Rollback protection: what a reader records of an image between runs, so that no mirror can take it back to an older
//! version.
//!
//! One small file per image name:
//!
//! ```text
//! HFL-SEEN 1
//! newest 42 1f3a...(64) RWQ...              the newest version accepted with that key, and its index
//! newest 41 40c1...(64) https://a.example/  the same for an unsigned image, by the place it came from
//! signed https://a.example/                 this place served the image signed by a pinned key
//! ```
//!
//! [`VersionHistory`] is pure logic; [`StateDirectory`](super::StateDirectory) stores it on disk.

use std::fmt::Write as _;

use crate::format::digest::Sha256;
use crate::format::head::{Head, Trust};
use crate::format::name::Version;
use crate::format::signature::PublicKey;
use crate::format::time::Timestamp;

const FIRST_LINE: &str = "HFL-SEEN 1";
/// Maximum bytes of text recorded for unsigned images by place. Unsigned heads can name any number of places; what was
/// seen with a key is never dropped for them.
const PLACES_MAX_BYTES: usize = 256 << 10;

/// The newest version that a key or a place vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Newest {
    version: Version,
    index: Sha256,
    /// A key or a place.
    voucher: String,
}

/// Everything recorded for one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionHistory {
    newest: Vec<Newest>,
    signed: Vec<String>,
}

/// Why a head is refused because of what was seen before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Older than the newest version seen.
    #[error("rollback: the newest version offered is {offered}, but version {seen} was seen before")]
    Rollback {
        /// Newest version in the head.
        offered: Version,
        /// Newest version seen before.
        seen: Version,
    },
    /// A version that had a different index before.
    #[error("equivocation: version {0} is not the one that was seen before under this number")]
    Equivocation(Version),
    /// No key is required although one was before.
    #[error("this image was read with a pinned key before, so it is not accepted unsigned")]
    WasSigned,
    /// An unsigned copy in a cache that nothing proves to be this image.
    #[error("the cache has an unsigned version {0} that is not the one that was seen last")]
    NotTheNewestSeen(Version),
    /// Expired, and the image has no history.
    #[error("the head expired at {0}, and this image was never used here before")]
    Expired(Timestamp),
}

impl Refused {
    /// Whether a publisher who started anew looks the same: the user may know better and accept it.
    pub fn is_rollback(&self) -> bool {
        matches!(self, Self::Rollback { .. } | Self::Equivocation(_))
    }
}

/// Verdict on an accepted head, for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to report.
    Good,
    /// Expired at this time, but the image was used here before.
    Expired(Timestamp),
}

impl VersionHistory {
    /// Judges a verified head of an image from `places` at the time `now`.
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

    /// Whether the head's newest version is exactly the newest seen from one of these places, or with this key. An
    /// unsigned head from anywhere else must satisfy this.
    pub fn is_newest_seen(&self, head: &Head, trust: &Trust, places: &[String]) -> bool {
        let (vouchers, row) = (vouchers(trust, places), head.newest());
        let is_it = |n: &Newest| n.version == row.version && n.index == row.index_sha256;
        self.newest.iter().any(|n| vouchers.contains(&n.voucher) && is_it(n))
    }

    /// Records a judged head.
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
        self.drop_oldest_places();
    }

    /// Keeps the entries of places within their limit; drops the oldest.
    fn drop_oldest_places(&mut self) {
        let is_place = |n: &Newest| n.voucher.parse::<PublicKey>().is_err();
        let bytes = |n: &Newest| format!("newest {} {} {}\n", n.version, n.index, n.voucher).len();
        let mut held: usize = self.newest.iter().filter(|n| is_place(n)).map(bytes).sum();
        self.newest.retain(|n| {
            let goes = held > PLACES_MAX_BYTES && is_place(n);
            held -= if goes { bytes(n) } else { 0 };
            !goes
        });
        let mut held: usize = self.signed.iter().map(String::len).sum();
        self.signed.retain(|place| {
            let goes = held > PLACES_MAX_BYTES;
            held -= if goes { place.len() } else { 0 };
            !goes
        });
    }

    /// Parses the text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut seen = Self::default();
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

    /// The text form.
    pub fn text(&self) -> String {
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

/// What vouches for an image: the trusted key, or else every place it comes from.
fn vouchers(trust: &Trust, places: &[String]) -> Vec<String> {
    match trust {
        Trust::Key(key) => vec![key.to_string()],
        Trust::Anyone => places.to_vec(),
    }
}
