//! Shared by the tests that boot machines: a published image on two web servers, and checks that every
//! booted machine must pass.
//!
//! HFL_IMAGES has images of benches/images.sh, with a login on ttyS0 and no root password.
//! HFL_STATIC_CLIENT is the client built by tests/all.sh.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::support::boot_fixture::booted_with;
use crate::support::lab::{Lab, or_skip, real_image};
use crate::support::machine::{HOST, Machine, is_there};
use crate::support::servers::program;
use crate::support::servers::web::WebHost;

/// Maximum time for a boot with an emulated processor on a loaded machine.
pub const BOOT_WAIT: Duration = Duration::from_secs(600);
/// Maximum time from the poweroff command to the end of QEMU.
pub const END_WAIT: Duration = Duration::from_secs(30);
/// Added to the kernel command line.
pub const KERNEL_WORDS: &str = "console=ttyS0 net.ifnames=0 systemd.show_status=0";
/// A network card at a PCI address after most other devices.
pub const CARD: &str = "virtio-net-pci,netdev=n,addr=6";

/// An image with its boot files, served by two web servers.
pub struct Published {
    pub lab: Lab,
    pub hosts: [WebHost; 2],
    pub bash: String,
}

/// The image of a kind and the client, or the reason why something is missing.
pub fn needed(kind: &str) -> Result<(PathBuf, PathBuf), String> {
    let image = real_image(kind, "old.img")?;
    let client = std::env::var_os("HFL_STATIC_CLIENT").ok_or("HFL_STATIC_CLIENT names no static client")?.into();
    if !is_there() {
        return Err("no qemu-system-x86_64".to_owned());
    }
    for wanted in ["nginx", "debugfs", "busybox"] {
        program(wanted).ok_or(format!("no {wanted}"))?;
    }
    Ok((image, client))
}

impl Published {
    /// Publishes the image of kind `small`.
    pub fn new() -> Option<Self> {
        Self::of_kind("small")
    }

    /// Publishes the image of this kind.
    pub fn of_kind(kind: &str) -> Option<Self> {
        let (image, client) = or_skip(needed(kind))?;
        Some(Self::of(&image, &client, digest_of_bash(&image)))
    }

    /// Publishes version 1 of an image whose bash has this SHA-256.
    pub fn of(image: &Path, client: &Path, bash: String) -> Self {
        let lab = Lab::new();
        let hosts = ["a", "b"].map(|name| {
            fs::create_dir(lab.path(name)).unwrap();
            WebHost::start(&lab.path(name)).unwrap()
        });
        let mut table = format!("[publish]\nclient = [{:?}]\n", client.display().to_string());
        for (name, host) in ["a", "b"].iter().zip(&hosts) {
            let read = format!("http://{HOST}:{}/", host.port());
            table +=
                &format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\nread = \"{read}\"\nread-back = false\n");
        }
        lab.write("mirrors.toml", table);
        let published = Self { lab, hosts, bash };
        published.publish(image, &["--boot"]);
        published
    }

    /// Publishes a version with [`KERNEL_WORDS`] and further options.
    pub fn publish(&self, image: &Path, options: &[&str]) {
        let words = ["publish", image.to_str().unwrap(), "--name", "small", "--to", "mirrors.toml"];
        self.lab.ok(&[&words[..], &["--boot-append", KERNEL_WORDS], options].concat());
    }

    /// URLs of both hosts, as seen by a machine.
    pub fn urls(&self) -> String {
        self.hosts.each_ref().map(|host| format!("http://{HOST}:{}/", host.port())).join(",")
    }

    /// URL of the first host, as seen by a machine.
    pub fn url(&self) -> String {
        format!("http://{HOST}:{}/", self.hosts[0].port())
    }

    /// The public key.
    pub fn key(&self) -> String {
        let text = fs::read_to_string(self.lab.path("home/.config/hfl/keys/small.pub")).unwrap();
        text.lines().last().unwrap().to_owned()
    }

    /// Path of a boot file of version 1.
    pub fn file(&self, name: &str) -> String {
        booted_with(&self.lab.path("a/boot/small/1"), name).display().to_string()
    }

    /// The blocks requested from both hosts so far.
    pub fn blocks(&self) -> BTreeSet<String> {
        self.hosts.iter().flat_map(WebHost::block_names).collect()
    }

    /// A machine whose kernel and miniroot are loaded by QEMU, with additional kernel options. It uses
    /// both hosts unless the options name another.
    pub fn machine(&self, words: &str, options: &[&str]) -> Machine {
        let (kernel, miniroot) = (self.file("vmlinuz"), self.file("initrd.img"));
        let from = if words.contains("hfl.url=") { String::new() } else { format!("hfl.url={}", self.urls()) };
        let append = format!("{KERNEL_WORDS} hfl.name=small {from} {words}");
        let loaded = ["-kernel", &kernel, "-initrd", &miniroot, "-append", &append];
        let card = ["-netdev", "user,id=n", "-device", CARD];
        Machine::start(1024, &[&loaded[..], &card, options].concat())
    }

    /// Waits for the login prompt, and prints the time and the amount read.
    pub fn wait_for_login(&self, machine: &mut Machine) {
        let root = machine.wait_for("over to /sbin/init", BOOT_WAIT).as_secs_f64();
        let login = machine.wait_for("login:", BOOT_WAIT).as_secs_f64();
        println!("root after {root:.1} s, login after {login:.1} s; {}", self.read());
    }

    /// The amount read from both hosts so far.
    pub fn read(&self) -> String {
        let [a, b] = self.hosts.each_ref().map(WebHost::blocks);
        format!("{} and {} blocks, {} and {} bytes", a.0, b.0, a.1, b.1)
    }
}

/// A QEMU option for a disk of 3 GiB with an empty file system labelled `keep`.
pub fn keeping_disk(lab: &Lab) -> String {
    let disk = lab.path("disk");
    fs::File::create(&disk).unwrap().set_len(3 << 30).unwrap();
    let mut mke2fs = std::process::Command::new(program("mke2fs").unwrap());
    assert!(mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "keep"]).arg(&disk).status().unwrap().success());
    as_drive(&disk)
}

/// A QEMU option for a file as a disk.
pub fn as_drive(disk: &Path) -> String {
    format!("file={},format=raw,if=virtio", disk.display())
}

/// SHA-256 of /bin/bash in the image, read with debugfs.
pub fn digest_of_bash(image: &Path) -> String {
    let mut debugfs = std::process::Command::new(program("debugfs").unwrap());
    let output = debugfs.args(["-R", "cat /usr/bin/bash"]).arg(image).output().unwrap();
    let found = if output.stdout.is_empty() {
        let mut debugfs = std::process::Command::new(program("debugfs").unwrap());
        debugfs.args(["-R", "cat /bin/bash"]).arg(image).output().unwrap()
    } else {
        output
    };
    assert!(!found.stdout.is_empty(), "no bash in the image");
    Sha256::digest(&found.stdout).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks what every booted machine must be able to do.
pub fn use_it(machine: &mut Machine, bash: &str) {
    write_and_read(machine, bash);
    // The root is the device-mapper device that carries the image's names; the FUSE mount below it is
    // not visible.
    assert_eq!(machine.run("readlink -f $(findmnt -no SOURCE /)"), "/dev/dm-0");
    assert_eq!(machine.run("grep -c fuse.hfl /proc/self/mountinfo || true"), "0");
    machine.run("kill -USR1 $(pgrep -f '^@/udhcpc'); sleep 5");
    let lease = machine.run("tail -n 1 /run/hfl/net.log");
    assert!(lease.starts_with("eth0: renew "), "{lease}");
}

/// Logs in, writes a file and reads it back, and reads bash from the mirrors.
pub fn write_and_read(machine: &mut Machine, bash: &str) {
    machine.log_in();
    machine.run("echo what was written >/root/file; sync");
    machine.run("echo 3 >/proc/sys/vm/drop_caches");
    assert_eq!(machine.run("cat /root/file"), "what was written");
    let digest = machine.run("sha256sum /bin/bash");
    assert!(digest.starts_with(bash), "{digest}, not {bash}");
}

/// Powers the machine off or reboots it. Returns the time taken.
pub fn end(machine: Machine, order: &str) -> Duration {
    end_within(machine, order, END_WAIT)
}

/// Like [`end`], with a maximum time.
pub fn end_within(mut machine: Machine, order: &str, longest: Duration) -> Duration {
    // Shutting down requires reading from the mirrors again.
    machine.run("sync; echo 3 >/proc/sys/vm/drop_caches");
    machine.enter(order);
    let took = machine.ended(longest);
    println!("{order}: {:.1} s", took.as_secs_f64());
    took
}
