//! The client that is shipped with the images: `client/hfl-mount-<version>-<arch>-linux`, static, signed.
//!
//! Version and architecture are read out of the program itself, so a client for another machine can be published too.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::release::{Object, file_comment};
use crate::elf;
use crate::layout::RepoPath;
use crate::sign::SecretKey;

/// What stands before the version inside every hfl-mount.
pub const MARK: &[u8] = b"hfl-mount version mark:";
/// The largest client, in bytes.
const CLIENT_MAX_BYTES: u64 = 64 << 20;

/// A client ready to be published.
#[derive(Debug, Clone)]
pub struct Client {
    /// The program.
    pub program: Object,
    /// Its signature, where the repository is signed.
    pub signature: Option<Object>,
}

/// The clients to publish: those that were named, else a static hfl-mount beside this program, if there is one.
///
/// # Errors
/// A file that was named and is no static hfl-mount.
pub fn find(named: &[PathBuf], key: Option<&SecretKey>) -> Result<Vec<Client>, Error> {
    if named.is_empty() {
        let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("hfl-mount"));
        let found = beside.filter(|path| path.is_file()).map(|path| load(&path, key));
        // The one beside this program was not asked for: a dynamic one is simply not shipped.
        return Ok(found.and_then(Result::ok).into_iter().collect());
    }
    named.iter().map(|path| load(path, key)).collect()
}

fn load(path: &Path, key: Option<&SecretKey>) -> Result<Client, Error> {
    let refused = |why: &str| Error::local(format!("{}: {why}", path.display()));
    let meta = fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if meta.len() > CLIENT_MAX_BYTES {
        return Err(refused("too large for a client"));
    }
    let bytes = fs::read(path).map_err(|e| Error::io(path, &e))?;
    let arch = elf::machine(&bytes).ok_or_else(|| refused("not a Linux program of an architecture hfl knows"))?;
    if elf::is_dynamic(&bytes) {
        return Err(refused("needs shared libraries; clients are shipped as static programs")
            .hint("build it with RUSTFLAGS='-C target-feature=+crt-static', as the README says"));
    }
    let version = version(&bytes).ok_or_else(|| refused("not an hfl-mount"))?;
    let name = format!("hfl-mount-{version}-{arch}-linux");
    let path: RepoPath = format!("client/{name}").parse().map_err(|_| refused("its version cannot be a file name"))?;
    let program = Object::new(path, bytes);
    let signature = key.map(|key| program.signature(key, &file_comment(&program.path))).transpose()?;
    let signature = signature.map(|signature| Object { keep: true, ..signature });
    Ok(Client { program, signature })
}

/// The version that stands behind the mark, up to the next `;`.
fn version(program: &[u8]) -> Option<String> {
    let at = program.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let rest = &program[at..program.len().min(at + 40)];
    let end = rest.iter().position(|&b| b == b';')?;
    let version = std::str::from_utf8(&rest[..end]).ok()?;
    let plain = !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
    plain.then(|| version.to_owned())
}
