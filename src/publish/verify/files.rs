//! Checks indexes, other files and their signatures: each is read in full on every mirror that promises it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::expected::ExpectedBlocks;
use super::findings::{Finding, Findings, Object};
use super::objects::{self, Examined};
use super::run::Run;
use crate::error::Error;
use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::VersionRow;
use crate::format::layout::RepoPath;
use crate::format::name::Name;
use crate::format::signature::{PublicKey, SIGNATURE_MAX_BYTES, Signature};
use crate::repo::survey::{Flaw, ProblemKind, VerifiedHead};
use crate::store::Fetch;

/// Concurrent file reads per mirror; few, as each file may be large.
const FILES_AT_ONCE: usize = 4;

/// A file that a head names.
#[derive(Debug, Clone)]
pub struct Piece {
    path: RepoPath,
    bytes: u64,
    sha256: Sha256,
    /// Image and version, if it is an index.
    index: Option<(Name, VersionRow)>,
    /// Whether a signature is stored beside it.
    signed: bool,
    /// The key that signed it, if known.
    key: Option<PublicKey>,
}

/// All files that these heads name, each once.
pub fn pieces(duties: &[Arc<VerifiedHead>]) -> Vec<Piece> {
    let mut pieces: BTreeMap<_, Piece> = BTreeMap::new();
    for believed in duties {
        for piece in named(believed) {
            pieces.entry((piece.path.clone(), piece.sha256.0)).or_insert(piece);
        }
    }
    pieces.into_values().collect()
}

fn named(believed: &VerifiedHead) -> impl Iterator<Item = Piece> {
    let head = &believed.head;
    let piece = |path: RepoPath, bytes, sha256, index| Piece {
        // Signatures of clients are named by heads, as the clients are.
        signed: believed.signed && !path.is_client(),
        path,
        bytes,
        sha256,
        index,
        key: believed.key.clone(),
    };
    let indexes = head.versions.iter().map(move |row| {
        piece(row.index_path(&head.image), row.index_bytes, row.index_sha256, Some((head.image.clone(), row.clone())))
    });
    indexes.chain(head.files.iter().map(move |file| piece(file.path.clone(), file.bytes, file.sha256, None)))
}

/// Checks the files named by the heads required on `mirror`, and adds the blocks of its indexes to `expected`.
///
/// # Errors
/// The mirror became unreachable; a SHA-1 collision between two blocks.
pub async fn check(run: &Run, mirror: usize, expected: &ExpectedBlocks, findings: &mut Findings) -> Result<(), Error> {
    let pieces = pieces(&run.duties[mirror]);
    let checks = stream::iter(pieces).map(|piece| async move { check_piece(run, mirror, &piece, expected).await });
    let mut checks = checks.buffer_unordered(FILES_AT_ONCE);
    while let Some(checked) = checks.next().await {
        for (bytes, finding) in checked? {
            findings.checked.objects += 1;
            findings.read(bytes);
            findings.add(finding);
        }
    }
    Ok(())
}

/// The file and its signature: bytes read, and the problem, of each.
type Both = Vec<(u64, Option<Finding>)>;

async fn check_piece(run: &Run, mirror: usize, piece: &Piece, expected: &ExpectedBlocks) -> Result<Both, Error> {
    let store = &*run.mirrors()[mirror].store;
    let _room = run.budget.room(piece.bytes).await;
    let found = objects::file(store, &piece.path, piece.bytes, &piece.sha256).await?;
    let (read, mut flaw, good) = match found {
        Ok(file) => (file.len() as u64, None, Some(file)),
        Err(flaw) => (0, Some(flaw), elsewhere(run, mirror, piece).await),
    };
    if let (Some((image, row)), Some(file)) = (&piece.index, &good) {
        flaw = expected.take(image, row, file)?.or(flaw);
    }
    if let (true, Some(file)) = (piece.path.is_update(), &good) {
        flaw = expected.take_update(Some(mirror), file).or(flaw);
    }
    let object = Object::File { bytes: piece.bytes, sha256: piece.sha256 };
    let mut both = vec![(read, flaw.map(|flaw| Finding::stored(piece.path.clone(), flaw, Some(object))))];
    if piece.signed {
        let path = piece.path.signature();
        let (read, flaw) = match signature(store, &path, piece, good.as_deref()).await? {
            Ok(signature) => (signature.len() as u64, None),
            Err(flaw) => (0, Some(flaw)),
        };
        let (of, bytes, sha256) = (piece.path.clone(), piece.bytes, piece.sha256);
        let object = Object::Signature { of, bytes, sha256, keys: piece.key.iter().cloned().collect() };
        both.push((read, flaw.map(|flaw| Finding::stored(path, flaw, Some(object)))));
    }
    Ok(both)
}

/// The file from another mirror with an intact copy.
async fn elsewhere(run: &Run, mirror: usize, piece: &Piece) -> Option<Bytes> {
    for source in run.others(mirror) {
        if let Some(file) = from(run, source, piece).await {
            return Some(file);
        }
    }
    None
}

/// The file from this mirror, else from any other.
async fn anywhere(run: &Run, mirror: usize, piece: &Piece) -> Option<Bytes> {
    match from(run, mirror, piece).await {
        Some(file) => Some(file),
        None => elsewhere(run, mirror, piece).await,
    }
}

async fn from(run: &Run, mirror: usize, piece: &Piece) -> Option<Bytes> {
    let source = run.source(mirror)?;
    run.good(mirror, objects::file(source, &piece.path, piece.bytes, &piece.sha256).await)
}

async fn signature(store: &dyn Fetch, path: &RepoPath, piece: &Piece, good: Option<&[u8]>) -> Examined<Bytes> {
    let file = match store.get(path, SIGNATURE_MAX_BYTES as u64).await {
        Ok(file) => file,
        Err(e) => return Ok(Err(Flaw::of(e)?)),
    };
    let expected = match &piece.index {
        Some((image, row)) => comment::index(image, row.version, &row.index_sha256),
        None => comment::file(&piece.path),
    };
    Ok(check_signature(&file, &expected, piece.key.as_slice(), good).map(|()| file))
}

/// Checks a signature as far as possible: without a key or without the file, only its format. `expected` is the trusted
/// comment, for messages.
pub fn check_signature(file: &[u8], expected: &str, keys: &[PublicKey], signed: Option<&[u8]>) -> Result<(), Flaw> {
    if file.is_empty() {
        return Err(Flaw::new(ProblemKind::Truncated, "empty"));
    }
    let wrong = |what: String| Flaw::new(ProblemKind::Wrong, what);
    let text = std::str::from_utf8(file).map_err(|_| wrong("not a minisign signature".into()))?;
    let signature: Signature =
        text.parse().map_err(|e: crate::format::signature::SignatureError| wrong(e.to_string()))?;
    let Some(signed) = signed else { return Ok(()) };
    let mut why = None;
    for key in keys {
        match key.verify(signed, &signature, expected) {
            Ok(()) => return Ok(()),
            Err(e) => drop(why.get_or_insert(e)),
        }
    }
    why.map_or(Ok(()), |e| Err(wrong(e.to_string())))
}

/// Reads the remaining indexes and updates, promised only by mirrors not under check, so that strays can be identified.
/// Returns whether all could be read.
///
/// # Errors
/// A SHA-1 collision between two blocks.
pub async fn complete(run: &Run, expected: &ExpectedBlocks) -> Result<bool, Error> {
    let mut complete = true;
    for (mirror, duties) in run.duties.iter().enumerate() {
        for piece in pieces(duties) {
            let is_read = |(_, row): &(Name, VersionRow)| expected.has(row);
            if piece.index.as_ref().map_or(!piece.path.is_update(), is_read) {
                continue;
            }
            let _room = run.budget.room(piece.bytes).await;
            complete &= match (anywhere(run, mirror, &piece).await, &piece.index) {
                (Some(file), Some((image, row))) => expected.take(image, row, &file)?.is_none(),
                (Some(file), None) => expected.take_update(None, &file).is_none(),
                (None, _) => false,
            };
        }
    }
    Ok(complete)
}
