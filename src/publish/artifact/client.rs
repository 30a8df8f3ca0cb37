//! The client that is shipped with the images: `client/hfl-mount-<version>-<arch>-linux-<digits>`, static, signed.
//!
//! Version and architecture are read from the program itself, so a client for another architecture can be published
//! too. Images of one repository may ship the same client but have different keys. The names of program and signature
//! therefore each contain digits of their own digest: no publisher replaces another's file, and the head names both.

use std::fs;
use std::path::{Path, PathBuf};

use crate::boot::elf;
use crate::error::Error;
use crate::format::comment;
use crate::format::digest::Sha256;
use crate::format::head::{FileRow, Head};
use crate::format::layout::RepoPath;
use crate::format::signing::SecretKey;
use crate::publish::object::Object;
use crate::system::installed;

/// The marker before the version string inside every hfl-mount.
pub const MARK: &[u8] = b"hfl-mount version mark:";
/// Limit of the size of a client, in bytes: far above that of one with debug information.
const CLIENT_MAX_BYTES: u64 = 128 << 20;

/// A client ready to be published.
#[derive(Debug, Clone)]
pub struct Client {
    /// The program.
    pub program: Object,
    /// Its signature, if the repository is signed.
    pub signature: Option<Object>,
}

impl Client {
    /// The program and its signature.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        std::iter::once(&self.program).chain(&self.signature)
    }

    /// The rows that list them in a head.
    pub fn rows(&self) -> impl Iterator<Item = FileRow> + '_ {
        self.objects().map(Object::row)
    }
}

/// The clients whose version this head does not name yet. Clients already named stay as they are, so that nightly
/// rebuilds do not accumulate in heads.
///
/// # Errors
/// A key that cannot sign.
pub fn new(programs: &[Object], head: Option<&Head>, key: Option<&SecretKey>) -> Result<Vec<Client>, Error> {
    let names = |head: &Head, program: &Object| head.files.iter().any(|file| file.path.is_same_client(&program.path));
    let new = programs.iter().filter(|program| !head.is_some_and(|head| names(head, program)));
    let signed = |program: &Object| {
        let signature = key.map(|key| sign(program, key)).transpose()?;
        Ok(Client { program: program.clone(), signature })
    };
    new.map(signed).collect()
}

/// The programs to publish: the ones named, else a static hfl-mount that is installed with this program, if there is one.
///
/// # Errors
/// A named file is not a static hfl-mount.
pub fn programs(named: &[PathBuf]) -> Result<Vec<Object>, Error> {
    if named.is_empty() {
        // It was not requested: a dynamic one is silently left out.
        return Ok(installed::clients().iter().find_map(|path| load(path).ok()).into_iter().collect());
    }
    named.iter().map(|path| load(path)).collect()
}

fn load(path: &Path) -> Result<Object, Error> {
    let refused = |why: &str| Error::local(format!("{}: {why}", path.display()));
    let meta = fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if meta.len() > CLIENT_MAX_BYTES {
        return Err(refused("too large for a client"));
    }
    let bytes = fs::read(path).map_err(|e| Error::io(path, &e))?;
    let arch = elf::machine(&bytes).ok_or_else(|| refused("not a Linux program of an architecture hfl knows"))?;
    if elf::is_dynamic(&bytes) {
        return Err(refused("needs shared libraries; clients are shipped as static programs")
            .hint("build it with RUSTFLAGS='-C target-feature=+crt-static', as src/doc/operating.md says"));
    }
    let version = version(&bytes).ok_or_else(|| refused("not an hfl-mount"))?;
    let path = RepoPath::client(&version, arch, &Sha256::of(&bytes));
    Ok(Object::new(path.map_err(|_| refused("its version cannot be a file name"))?, bytes))
}

fn sign(program: &Object, key: &SecretKey) -> Result<Object, Error> {
    let Object { bytes, .. } = program.signature(key, &comment::file(&program.path))?;
    Ok(Object::new(program.path.client_signature(&Sha256::of(&bytes)), bytes))
}

/// The version string after the marker, up to the next `;`.
fn version(program: &[u8]) -> Option<String> {
    let at = program.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let rest = &program[at..program.len().min(at + 40)];
    let end = rest.iter().position(|&b| b == b';')?;
    let version = std::str::from_utf8(&rest[..end]).ok()?;
    let plain = !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
    plain.then(|| version.to_owned())
}
