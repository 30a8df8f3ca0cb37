//! Machines whose image is squashfs or erofs, or has another init than systemd.
//!
//! The images are those of benches/images.sh: `old.squashfs` and `old.tar` of kind `small`, and kinds `sysvinit` and `openrc`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::boot_published::{BOOT_WAIT, Published, digest_of_bash, end, needed, use_it, write_and_read};
use crate::lab::{Lab, skipped};
use crate::servers::program;

/// The image that is there anyway, and the client; `None` where something is missing.
fn given() -> Option<(PathBuf, PathBuf)> {
    needed("small").map_err(|why| skipped(&why)).ok()
}

/// Boots an image that cannot be written to, and writes.
fn boot_over_it(published: &Published, kind: &str) {
    let mut machine = published.machine("", &[]);
    let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
    let login = machine.wait_for("login:", BOOT_WAIT);
    let (root, login) = (root.as_secs_f64(), login.as_secs_f64());
    println!("{kind}: root after {root:.1} s, login after {login:.1} s; {}", published.read());
    write_and_read(&mut machine, &published.bash);
    assert_eq!(machine.run("findmnt -no FSTYPE /"), "overlay");
    end(machine, "poweroff");
}

#[test]
fn it_boots_from_squashfs() {
    let Some((ext4, client)) = given() else { return };
    let image = ext4.with_extension("squashfs");
    if !image.is_file() {
        return skipped(&format!("no {}", image.display()));
    }
    boot_over_it(&Published::of(&image, &client, digest_of_bash(&ext4)), "squashfs");
}

#[test]
fn it_boots_from_erofs() {
    let Some((ext4, client)) = given() else { return };
    let lab = Lab::new();
    match make_erofs(&ext4.with_extension("tar"), &lab) {
        Ok(image) => boot_over_it(&Published::of(&image, &client, digest_of_bash(&ext4)), "erofs"),
        Err(why) => skipped(&why),
    }
}

/// The system in an archive as erofs.
fn make_erofs(archive: &Path, lab: &Lab) -> Result<PathBuf, String> {
    let mkfs = program("mkfs.erofs").ok_or("no mkfs.erofs")?;
    if !archive.is_file() {
        return Err(format!("no {}", archive.display()));
    }
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

/// Boots one whose init is another one, twice: once for each way to end.
fn boot_init(kind: &str, words: &str) {
    let Some(published) = Published::of_kind(kind) else { return };
    for order in ["poweroff", "reboot"] {
        let mut machine = published.machine("", &[]);
        let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
        let login = machine.wait_for("login:", BOOT_WAIT);
        let (root, login) = (root.as_secs_f64(), login.as_secs_f64());
        println!("{kind}: root after {root:.1} s, login after {login:.1} s; {}", published.read());
        use_it(&mut machine, &published.bash);
        machine.run(words);
        assert_eq!(machine.run("test -e /run/systemd/system || echo none"), "none");
        // Its scripts would take away whatever they think they have set up.
        machine.run("mkdir -p /run/network; echo eth0=eth0 >>/run/network/ifstate");
        machine.run("printf 'iface eth0 inet static\\n address 10.0.2.15/24\\n' >>/etc/network/interfaces");
        end(machine, order);
    }
}

#[test]
fn it_boots_with_sysvinit() {
    boot_init("sysvinit", "test -e /etc/init.d/rc && grep -q :sysinit: /etc/inittab");
}

#[test]
fn it_boots_with_openrc() {
    boot_init("openrc", "rc-status -a >/dev/null");
}
