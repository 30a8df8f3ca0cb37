//! Where hfl-mount is installed: beside this program, or in `../lib/hfl` of it, where the package of hfl has a static one.

use std::path::{Path, PathBuf};

/// Every hfl-mount that was installed together with this program, the one beside it first.
pub fn clients() -> Vec<PathBuf> {
    let places = std::env::current_exe().map(|exe| places(&exe)).unwrap_or_default();
    places.into_iter().filter(|place| place.is_file()).collect()
}

/// Where hfl-mount may be, if this program is `exe`.
fn places(exe: &Path) -> Vec<PathBuf> {
    let beside = exe.with_file_name("hfl-mount");
    let prefix = exe.parent().and_then(Path::parent);
    std::iter::once(beside).chain(prefix.map(|prefix| prefix.join("lib/hfl/hfl-mount"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_looked_for_beside_the_program_and_in_the_library_directory() {
        let expected = ["/usr/bin/hfl-mount", "/usr/lib/hfl/hfl-mount"].map(PathBuf::from);
        assert_eq!(places(Path::new("/usr/bin/hfl")), expected);
        assert_eq!(places(Path::new("/hfl")), [PathBuf::from("/hfl-mount")]);
    }
}
