//! An ext4 image, loop-mounted from a mounted image: the file tree equals the original.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fixture::{Publish, Random};
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

/// A loop mount, unmounted on drop.
struct LoopMount(PathBuf);

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-d").arg(&self.0).status();
    }
}

fn plant(root: &Path) {
    let mut random = Random(5);
    for directory in 0..12 {
        let directory = root.join(format!("d{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..20 {
            let content: Vec<u8> = (0..random.below(60_000)).map(|_| random.next() as u8).collect();
            let path = directory.join(format!("f{file}"));
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + file)).unwrap();
        }
        symlink("f1", directory.join("link")).unwrap();
    }
}

/// Every path with its mode and contents.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.permissions().mode(), content));
        }
    }
    found.remove(Path::new("lost+found"));
    found
}

fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("skipped: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(e) => {
            println!("skipped: {command:?}: {e}");
            false
        }
    }
}

#[test]
fn a_loop_mount_shows_the_tree_that_went_in() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (root, disk, base) = (home.path().join("root"), home.path().join("disk.img"), home.path().join("a"));
    plant(&root);
    let mut make = Command::new("mke2fs");
    if !succeeds(make.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg("48M")) {
        return;
    }
    Publish { block_bytes: 128 << 10, ..Publish::default() }.write(&base, &fs::read(&disk).unwrap());
    let server = WebServer::new(&base);
    let mounted = Mounted::new(home.path(), &["--unsigned"], &[&server.url()], "test");
    let inner = LoopMount(home.path().join("inner"));
    fs::create_dir(&inner.0).unwrap();
    if succeeds(Command::new("mount").args(["-o", "loop,ro"]).arg(mounted.file()).arg(&inner.0)) {
        let (expected, found) = (tree(&root), tree(&inner.0));
        println!("{} entries", found.len());
        assert!(expected == found);
        drop(inner);
        mounted.end();
    }
}
