//! The value of `--to`: a mirrors.toml, or the only mirror itself.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hfl::Error;
use hfl::config::{FILE_MAX_BYTES, Mirrors};

use super::usage;

/// The mirrors that `--to` names.
pub fn mirrors(to: &Path) -> anyhow::Result<Mirrors> {
    let text = match place(to) {
        Some(place) => return Mirrors::of_place(place).map_err(|e| usage(format!("--to {place}: {e}"))),
        None => read(to)?,
    };
    let mirrors = Mirrors::parse(&text).map_err(|e| usage(format!("{}: {e}", to.display())))?;
    if mirrors.may_hold_secrets() && is_public(to) {
        // A standard error stream that cannot be written to is ignored.
        let _ =
            writeln!(std::io::stderr(), "hfl: warning: {0}: others can read its headers; chmod 600 {0}", to.display());
    }
    Ok(mirrors)
}

/// The directory that paths of the mirrors are relative to: the one of the file, or the current one.
pub fn base(to: &Path) -> PathBuf {
    let beside = to.parent().filter(|_| place(to).is_none());
    beside.unwrap_or(Path::new("")).to_owned()
}

/// The mirror itself: a URL, or a directory that exists or ends with `/`.
fn place(to: &Path) -> Option<&str> {
    to.to_str().filter(|text| text.contains("://") || text.ends_with('/') || to.is_dir())
}

fn read(to: &Path) -> anyhow::Result<String> {
    let meta = std::fs::metadata(to).map_err(|e| {
        Error::io(to, &e).hint(
            "a mirrors.toml of three lines is enough:\n  [[mirror]]\n  name = \"local\"\n  write = \"./public\"\nor \
             name a directory: --to public/",
        )
    })?;
    if !meta.is_file() || meta.len() > FILE_MAX_BYTES {
        return Err(usage(format!("{}: not a mirrors.toml (not a file, or larger than 1 MiB)", to.display())));
    }
    let file = std::fs::read(to).map_err(|e| Error::io(to, &e))?;
    String::from_utf8(file).map_err(|_| usage(format!("{}: not UTF-8", to.display())))
}

/// Whether other users can read the file.
fn is_public(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}
