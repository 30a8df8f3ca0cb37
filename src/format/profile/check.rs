//! Validity of a profile: the rules beyond the syntax of single lines.

use super::{BLOCKS_MAX, FirstRead, MS_MAX};
use crate::format::digest::BlockId;
use crate::format::index::IMAGE_MAX_BYTES;

/// A violated rule, and the read that violates it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ProfileError {
    /// The read, counted from 0; `None` for the whole profile.
    pub read: Option<usize>,
    /// The rule, as a sentence.
    pub why: String,
}

pub(super) fn check(reads: &[FirstRead]) -> Result<(), ProfileError> {
    if reads.len() as u64 > BLOCKS_MAX {
        let why = format!("{} blocks, at most {BLOCKS_MAX} are allowed", reads.len());
        return Err(ProfileError { read: None, why });
    }
    let broken = |read, why: String| Err(ProfileError { read: Some(read), why });
    for (i, read) in reads.iter().enumerate() {
        if read.ms > MS_MAX || read.offset >= IMAGE_MAX_BYTES {
            return broken(i, "a time or an offset is outside the limits".into());
        }
        if i > 0 && reads[i - 1].ms > read.ms {
            return broken(i, "read before the block above it, the earliest must stand first".into());
        }
    }
    match repeated(reads) {
        Some(i) => broken(i, format!("block {} is listed twice", reads[i].id)),
        None => Ok(()),
    }
}

/// The first read whose block an earlier read has.
fn repeated(reads: &[FirstRead]) -> Option<usize> {
    let mut names: Vec<(&BlockId, usize)> = reads.iter().enumerate().map(|(i, read)| (&read.id, i)).collect();
    names.sort_unstable();
    names.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).min()
}
