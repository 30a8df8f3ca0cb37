//! Every command of README and manual, as it is written: tests/newcomer.sh types them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::boot_fixture::{make_image, make_system};
use crate::support::lab::{Lab, Random, full, real_image, skipped};
use crate::support::servers::program;

#[test]
fn every_command_of_the_documents_works() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return skipped("only root can mount and has namespaces; or no /dev/fuse");
    }
    if ["unshare", "curl", "xz", "sfdisk", "busybox"].iter().any(|tool| program(tool).is_none()) {
        return skipped("no unshare, curl, xz, sfdisk or busybox");
    }
    let lab = Lab::new();
    fs::create_dir(lab.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_hfl"), lab.path("bin/hfl")).unwrap();
    symlink(env!("CARGO_BIN_EXE_hfl-mount"), lab.path("bin/hfl-mount")).unwrap();
    make_system(&lab);
    let real = real_image("small", "old.img").ok().filter(|_| full());
    match &real {
        Some(image) => symlink(image, lab.path("debian.img")).unwrap(),
        None => drop(make_image(&lab, "ext4", "debian.img", "48M")),
    }
    lab.write("tree/usr/share/large", Random(3).bytes(8 << 20));
    make_image(&lab, "ext4", "old.img", "48M");
    lab.write("tree/usr/share/another", Random(4).bytes(1 << 20));
    make_image(&lab, "ext4", "new.img", "48M");
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]);
    command
        .arg(base.join("tests/newcomer.sh"))
        .arg(lab.path(""))
        .args([base.join("README.md"), base.join("src/doc/operating.md")]);
    if real.is_some() {
        command.env("HFL_NEWCOMER_BOOTS", "1");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.matches(" s  hfl").count() > 40, "the documents have commands");
}
