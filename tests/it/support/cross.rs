//! Where the programs for other machines are: HFL_CROSS names the directory that tests/cross.sh has filled.

use std::path::PathBuf;

/// A file of this architecture, as Debian calls it; or why it is not there.
pub fn file(architecture: &str, name: &str) -> Result<PathBuf, String> {
    let directory = std::env::var_os("HFL_CROSS").ok_or("HFL_CROSS names no directory of tests/cross.sh")?;
    let path = PathBuf::from(directory).join(architecture).join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("HFL_CROSS has no {architecture}/{name}: tests/cross.sh {architecture} makes it")),
    }
}
