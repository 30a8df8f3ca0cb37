//! `sums/NAME/SHA256SUMS`: the SHA-256 digests of the images that a head names, as the files `NAME_VERSION.img`, and its
//! minisign signature. It has the form of sha256sum(1), which sysupdate.d(5) calls a manifest.
//!
//! For the people who hand whole images on. Like a web page it is replaced with each head, and no client reads it.

use std::fmt::Write as _;

use crate::error::Error;
use crate::format::comment;
use crate::format::head::{Head, Trust};
use crate::format::layout::RepoPath;
use crate::format::signature::{SIGNATURE_MAX_BYTES, Signature};
use crate::publish::object::Object;
use crate::publish::repository::mirror::OpenMirror;
use crate::publish::repository::signer::Signer;

/// The list and its signature; nothing where neither the head nor the `previous` one has such digests. Where the secret
/// key is not at hand, a mirror's signature of the same list is taken, and without one there is no list.
///
/// # Errors
/// The key cannot sign.
pub async fn render(
    head: &Head,
    previous: Option<&Head>,
    signer: &Signer,
    mirrors: &[OpenMirror],
) -> Result<Vec<Object>, Error> {
    let mut text = String::new();
    for (version, sha256) in head.image_digests() {
        writeln!(text, "{sha256} *{}_{version}.img", head.image).map_err(|e| Error::local(e.to_string()))?;
    }
    let has_had = previous.is_some_and(|head| !head.image_digests().is_empty());
    if text.is_empty() && !has_had {
        return Ok(Vec::new());
    }
    let list = Object::new(RepoPath::image_digests(&head.image), text);
    if !signer.is_signed() {
        return Ok(vec![list]);
    }
    let signature = match signer.secret() {
        Some(key) => Some(list.signature(key, &comment::file(&list.path))?),
        None => published(&list, &signer.trust, mirrors).await,
    };
    Ok(signature.map_or_else(Vec::new, |signature| vec![signature, list]))
}

/// A signature of the list that a mirror has.
async fn published(list: &Object, trust: &Trust, mirrors: &[OpenMirror]) -> Option<Object> {
    let (key, path) = (trust.key()?, list.path.signature());
    for mirror in mirrors.iter().filter(|mirror| mirror.is_up()) {
        let Ok(found) = mirror.store.get(&path, SIGNATURE_MAX_BYTES as u64).await else { continue };
        let signs = |signature| key.verify(&list.bytes, &signature, &comment::file(&list.path)).is_ok();
        if Signature::of_file(&found).is_some_and(signs) {
            return Some(Object::new(path, found));
        }
    }
    None
}
