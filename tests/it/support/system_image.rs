//! Copies of the images of real systems, with files of hfl in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::lab::{Lab, skipped, stderr};

/// Mounts what a chroot needs, and leaves nothing behind: it has a mount namespace of its own.
const MOUNTS: &str = r#"set -e
mount --make-rprivate /
mount -o loop "$IMAGE" "$ROOT"
mount --bind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount -t sysfs sysfs "$ROOT/sys"
mount -t tmpfs tmpfs "$ROOT/tmp"
version=$(ls "$ROOT/lib/modules")
"#;

/// A copy of `image` in which `script` was run: by bash, with the root of the system in `$ROOT`, the templates in
/// `$TEMPLATES`, the lab in `$LAB` and the version of the kernel in `$version`. `None` for anybody but root.
pub fn changed(lab: &Lab, image: &Path, client: &Path, script: &str) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can change into a system");
        return None;
    }
    let (system, root) = (lab.path("system.img"), lab.path("root"));
    std::fs::create_dir(&root).unwrap();
    let copied = Command::new("cp").arg("--sparse=always").args([image, &system]).status().unwrap();
    assert!(copied.success());
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let output = Command::new("unshare")
        .args(["-m", "bash", "-c"])
        .arg(MOUNTS.to_owned() + script)
        .envs([("IMAGE", &system), ("ROOT", &root), ("TEMPLATES", &templates), ("LAB", &lab.path(""))])
        .env("HFL_STATIC_CLIENT", client)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    Some(system)
}
