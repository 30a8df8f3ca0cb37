//! Programs for other machines, in the directory HFL_CROSS that tests/cross.sh fills.

use std::path::PathBuf;

/// Path of a file for this architecture, by its Debian name, or the reason why it is missing.
pub fn file(architecture: &str, name: &str) -> Result<PathBuf, String> {
    let directory = std::env::var_os("HFL_CROSS").ok_or("HFL_CROSS names no directory of tests/cross.sh")?;
    let path = PathBuf::from(directory).join(architecture).join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("HFL_CROSS has no {architecture}/{name}: tests/cross.sh {architecture} makes it")),
    }
}
