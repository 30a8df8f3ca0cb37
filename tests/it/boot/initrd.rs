//! The initrds of distributions with hfl-mount in them: made by initramfs-tools and by dracut in a real system, with the files
//! of templates/initrd, and booted from `root=hfl:`.
//!
//! The images are of kinds `initramfs` and `dracut` of benches/images.sh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::boot_published::{
    BOOT_WAIT, CARD, KERNEL_WORDS, Published, as_drive, digest_of_bash, end, keeping_disk, needed, write_and_read,
};
use crate::support::lab::{Lab, or_skip, skipped, stderr};
use crate::support::machine::Machine;
use crate::support::servers::program;
use crate::support::system_image::changed;

/// Where the files are, and the list of their places.
fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/initrd")
}

/// The files: mode, path, place in a system.
fn files() -> Vec<(String, PathBuf, String)> {
    let list = fs::read_to_string(templates().join("files")).unwrap();
    let file = |line: &str| {
        let [mode, path, place] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (mode.to_owned(), templates().join(path), place.to_owned())
    };
    list.lines().map(file).collect()
}

/// Each shell that initrds have reads them.
#[test]
fn the_scripts_are_those_of_a_shell() {
    let shells = [vec!["dash"], vec!["busybox", "sh"], vec!["bash", "--posix"]];
    let is_list = |place: &str| ["/tools", "/modules"].iter().any(|name| place.ends_with(name));
    for (_, file, place) in files().iter().filter(|(_, _, place)| !is_list(place)) {
        let is_bash = fs::read_to_string(file).unwrap().starts_with("#!/bin/bash\n");
        for shell in shells.iter().filter(|shell| !is_bash || shell[0] == "bash") {
            let Some(program) = program(shell[0]) else {
                skipped(&format!("no {}", shell[0]));
                continue;
            };
            let output = Command::new(program).args(&shell[1..]).arg("-n").arg(file).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{place}: {}", stderr(&output));
        }
    }
}

/// A published system, and the kernel and initrd that it makes of itself where the files are installed.
struct Made {
    lab: Lab,
    published: Published,
}

/// Installs the files and the configuration, makes the initrd, and takes it out.
const MAKE: &str = r#"
while read -r mode file place; do install -D -m "$mode" "$TEMPLATES/initrd/$file" "$ROOT/$place"; done <"$TEMPLATES/initrd/files"
install -D -m 755 "$HFL_STATIC_CLIENT" "$ROOT/usr/bin/hfl-mount"
cp -r "$LAB/etc/." "$ROOT/etc/"
cp "$LAB/make" "$ROOT/tmp/make"
chroot "$ROOT" sh -e /tmp/make "$version"
cp "$ROOT/tmp/initrd" "$LAB/initrd"
cp "$ROOT/boot/vmlinuz-$version" "$LAB/vmlinuz"
"#;

impl Made {
    /// `configure` writes files of /etc into a directory; `command` makes /tmp/initrd for the kernel `$1`.
    fn new(kind: &str, configure: impl Fn(&Self, &Path), command: &str) -> Option<Self> {
        let (image, client) = or_skip(needed(kind))?;
        let made = Self { lab: Lab::new(), published: Published::of(&image, &client, digest_of_bash(&image)) };
        let lab = &made.lab;
        fs::create_dir(lab.path("etc")).unwrap();
        configure(&made, &lab.path("etc"));
        lab.write("make", command);
        changed(lab, &image, &client, MAKE)?;
        let initrd = fs::metadata(lab.path("initrd")).unwrap().len();
        println!("{kind}: the initrd has {initrd} bytes");
        Some(made)
    }

    fn boot(&self, words: &str, options: &[&str]) -> Machine {
        let path = |name: &str| self.lab.path(name).display().to_string();
        let append = format!("{KERNEL_WORDS} panic=5 rd.shell=0 rd.emergency=reboot {words}");
        let (kernel, initrd) = (path("vmlinuz"), path("initrd"));
        let loaded = ["-kernel", &kernel, "-initrd", &initrd, "-append", &append];
        Machine::start(1024, &[&loaded[..], &["-netdev", "user,id=n", "-device", CARD], options].concat())
    }

    /// Boots, uses the system and ends it.
    fn boots(&self, words: &str, options: &[&str], root: &str) {
        let mut machine = self.boot(words, options);
        machine.wait_for("is the root file system", BOOT_WAIT);
        let login = machine.wait_for("login:", BOOT_WAIT);
        println!("login after {:.1} s; {}", login.as_secs_f64(), self.published.read());
        write_and_read(&mut machine, &self.published.bash);
        assert_eq!(machine.run("findmnt -no FSTYPE /"), root);
        // What holds it is not seen, but for a disk that keeps blocks, and its address stays.
        assert_eq!(machine.run("grep ' /run/hfl/' /proc/self/mountinfo | grep -v /cache || true"), "");
        assert!(machine.run("ip -o -4 addr show dev eth0").contains("valid_lft forever"));
        assert_eq!(machine.run("cat /run/hfl/resolv.conf | grep -c nameserver"), "1");
        end(machine, "poweroff");
    }
}

#[test]
fn initramfs_tools() {
    let configure = |_: &Made, etc: &Path| {
        fs::create_dir_all(etc.join("initramfs-tools/conf.d")).unwrap();
        fs::write(etc.join("initramfs-tools/conf.d/hfl"), "export HFL=y\n").unwrap();
    };
    let Some(made) = Made::new("initramfs", configure, "mkinitramfs -o /tmp/initrd $1") else { return };
    let words = format!("root=hfl:{}small hfl.key={}", made.published.url(), made.published.key());
    made.boots(&words, &[], "ext4");
    let keep = keeping_disk(&made.lab);
    made.boots(
        &format!("{words} hfl.mode=overlay hfl.cow=LABEL=keep hfl.cache=LABEL=keep"),
        &["-drive", &keep],
        "overlay",
    );
    // What is wrong is said.
    let mut machine = made
        .boot(&format!("root=hfl:{}none hfl.timeout=20 hfl.key={}", made.published.url(), made.published.key()), &[]);
    machine.wait_for("hfl: cannot boot: ", BOOT_WAIT);
    machine.wait_for("what to do: ", BOOT_WAIT);
}

/// The image is named, and all else is in a configuration.
#[test]
fn dracut() {
    let configure = |made: &Made, etc: &Path| {
        fs::create_dir(etc.join("hfl")).unwrap();
        let text = format!("source = \"{}small\"\nkey = \"{}\"\n", made.published.url(), made.published.key());
        fs::write(etc.join("hfl/small.toml"), text).unwrap();
    };
    let make = "dracut --quiet --force --no-hostonly --add hfl /tmp/initrd $1";
    let Some(made) = Made::new("dracut", configure, make) else { return };
    let disk = made.lab.path("empty");
    fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    made.boots("root=hfl:small hfl.cow=/dev/vda", &["-drive", &as_drive(&disk)], "ext4");
}
