//! Where hfl keeps the files of a user, by the XDG base directory specification, whose variables accept only absolute
//! paths.

use std::path::PathBuf;

/// What was published and seen: `$XDG_STATE_HOME/hfl`, else `~/.local/state/hfl`, for root `/var/lib/hfl`.
pub fn state() -> Option<PathBuf> {
    of_user_or_system("XDG_STATE_HOME", ".local/state", "/var/lib/hfl")
}

/// The cache of mounted images: `$XDG_CACHE_HOME/hfl`, else `~/.cache/hfl`, for root `/var/cache/hfl`.
pub fn cache() -> Option<PathBuf> {
    of_user_or_system("XDG_CACHE_HOME", ".cache", "/var/cache/hfl")
}

/// Large temporary files, on disk rather than in memory: `$XDG_CACHE_HOME/hfl`, else `~/.cache/hfl`, for root too.
pub fn temporary() -> PathBuf {
    of_user("XDG_CACHE_HOME", ".cache").unwrap_or_else(std::env::temp_dir)
}

/// Signing keys: `$XDG_CONFIG_HOME/hfl/keys`, else `~/.config/hfl/keys`, for root too.
pub fn keys() -> Option<PathBuf> {
    Some(of_user("XDG_CONFIG_HOME", ".config")?.join("keys"))
}

/// For root a system directory, unless the variable is set. Always absolute, since a daemon changes its directory.
fn of_user_or_system(variable: &str, below_home: &str, system: &str) -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && given(variable).is_none() {
        return Some(system.into());
    }
    of_user(variable, below_home).filter(|path| path.is_absolute())
}

fn of_user(variable: &str, below_home: &str) -> Option<PathBuf> {
    let base = given(variable).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(below_home)))?;
    Some(base.join("hfl"))
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
