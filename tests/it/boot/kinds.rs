//! Boots of squashfs and erofs images, and of images with an init other than systemd.
//!
//! The images come from benches/images.sh: `old.squashfs` and `old.tar` of kind `small`, and kinds
//! `sysvinit` and `openrc`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::boot_local;
use crate::support::boot_published::{
    BOOT_WAIT, END_WAIT, Published, digest_of_bash, end, end_within, needed, use_it, write_and_read,
};
use crate::support::lab::{Lab, or_skip, real_image};
use crate::support::servers::program;

/// Boots a read-only image, and writes to the root.
fn boot_over_it(published: &Published) {
    let mut machine = published.machine("", &[]);
    published.wait_for_login(&mut machine);
    write_and_read(&mut machine, &published.bash);
    assert_eq!(machine.run("findmnt -no FSTYPE /"), "overlay");
    end(machine, "poweroff");
}

#[test]
fn it_boots_from_squashfs() {
    let Some((ext4, client)) = or_skip(needed("small")) else { return };
    let Some(image) = or_skip(real_image("small", "old.squashfs")) else { return };
    boot_over_it(&Published::of(&image, &client, digest_of_bash(&ext4)));
}

#[test]
fn it_boots_from_erofs() {
    let Some((ext4, client)) = or_skip(needed("small")) else { return };
    let lab = Lab::new();
    let Some(image) = or_skip(make_erofs(&lab)) else { return };
    boot_over_it(&Published::of(&image, &client, digest_of_bash(&ext4)));
}

/// The same system as an erofs image.
fn make_erofs(lab: &Lab) -> Result<PathBuf, String> {
    let mkfs = program("mkfs.erofs").ok_or("no mkfs.erofs")?;
    let archive = real_image("small", "old.tar")?;
    let (tree, image) = (lab.path("tree"), lab.path("os.erofs"));
    std::fs::create_dir(&tree).expect("a directory");
    let unpacked = Command::new("tar").arg("-C").arg(&tree).args(["--numeric-owner", "-xpf"]).arg(archive).output();
    if !unpacked.is_ok_and(|tar| tar.status.success()) {
        return Err("only root can unpack a whole system".to_owned());
    }
    let made = Command::new(mkfs).arg("-zlz4hc").arg(&image).arg(&tree).stdout(Stdio::null()).status();
    assert!(made.expect("mkfs.erofs").success());
    Ok(image)
}

/// Boots a system with another init twice, to end it by poweroff and by reboot. Each must take at most
/// `longest`.
fn boot_init(published: &Published, words: &str, longest: Duration) {
    for order in ["poweroff", "reboot"] {
        let mut machine = published.machine("", &[]);
        published.wait_for_login(&mut machine);
        use_it(&mut machine, &published.bash);
        machine.run(words);
        assert_eq!(machine.run("test -e /run/systemd/system || echo none"), "none");
        // The init scripts take down every interface that they believe they configured.
        machine.run("mkdir -p /run/network; echo eth0=eth0 >>/run/network/ifstate");
        machine.run("printf 'iface eth0 inet static\\n address 10.0.2.15/24\\n' >>/etc/network/interfaces");
        end_within(machine, order, longest);
    }
}

#[test]
fn it_boots_with_sysvinit() {
    let Some(published) = Published::of_kind("sysvinit") else { return };
    boot_init(&published, "test -e /etc/init.d/rc && grep -q :sysinit: /etc/inittab", END_WAIT);
}

/// With an emulated processor its scripts take a minute to shut down, even from a local disk.
#[test]
fn it_boots_with_openrc() {
    let Some(published) = Published::of_kind("openrc") else { return };
    let mut local = boot_local::machine(&published.lab, &real_image("openrc", "old.img").unwrap());
    local.wait_for("login:", BOOT_WAIT);
    local.log_in();
    println!("from a local disk:");
    let local = end_within(local, "poweroff", BOOT_WAIT);
    boot_init(&published, "rc-status -a >/dev/null", END_WAIT.max(local.mul_f64(1.25)));
}
