//! What the tests with machines share: a published image on two web servers, and what a machine that boots it has to do.
//!
//! The images are those of benches/images.sh in HFL_IMAGES, which have a login on ttyS0 and a root without a password;
//! HFL_STATIC_CLIENT is the client as tests/all.sh builds it.

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

/// How long a boot may take where the processor is emulated and others use this machine, too.
pub const BOOT_WAIT: Duration = Duration::from_secs(600);
/// From the order to switch off to the end of QEMU.
pub const END_WAIT: Duration = Duration::from_secs(30);
/// What is added to the kernel's command line.
pub const KERNEL_WORDS: &str = "console=ttyS0 net.ifnames=0 systemd.show_status=0";
/// A card at a place behind which few others come.
pub const CARD: &str = "virtio-net-pci,netdev=n,addr=6";

/// An image that two web servers show, with all that boots it.
pub struct Published {
    pub lab: Lab,
    pub hosts: [WebHost; 2],
    pub bash: String,
}

/// The image of a kind and the client, or why something that is needed is not there.
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
    /// The image of kind `small`, published.
    pub fn new() -> Option<Self> {
        Self::of_kind("small")
    }

    /// The image of a kind, published.
    pub fn of_kind(kind: &str) -> Option<Self> {
        let (image, client) = or_skip(needed(kind))?;
        Some(Self::of(&image, &client, digest_of_bash(&image)))
    }

    /// Version 1 of an image whose bash has this SHA-256.
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

    /// Publishes a version with words for its kernel's command line, and these further options.
    pub fn publish(&self, image: &Path, options: &[&str]) {
        let words = ["publish", image.to_str().unwrap(), "--name", "small", "--to", "mirrors.toml"];
        self.lab.ok(&[&words[..], &["--boot-append", KERNEL_WORDS], options].concat());
    }

    /// The addresses of both hosts, as a machine sees them.
    pub fn urls(&self) -> String {
        self.hosts.each_ref().map(|host| format!("http://{HOST}:{}/", host.port())).join(",")
    }

    /// A file of version 1's boot files.
    pub fn file(&self, name: &str) -> String {
        booted_with(&self.lab.path("a/boot/small/1"), name).display().to_string()
    }

    /// The blocks that machines asked both hosts for so far.
    pub fn blocks(&self) -> BTreeSet<String> {
        self.hosts.iter().flat_map(WebHost::block_names).collect()
    }

    /// A machine whose kernel and miniroot QEMU itself loads, with further words for the kernel; it asks both hosts unless
    /// the words name another.
    pub fn machine(&self, words: &str, options: &[&str]) -> Machine {
        let (kernel, miniroot) = (self.file("vmlinuz"), self.file("initrd.img"));
        let from = if words.contains("hfl.url=") { String::new() } else { format!("hfl.url={}", self.urls()) };
        let append = format!("{KERNEL_WORDS} hfl.name=small {from} {words}");
        let loaded = ["-kernel", &kernel, "-initrd", &miniroot, "-append", &append];
        let card = ["-netdev", "user,id=n", "-device", CARD];
        Machine::start(1024, &[&loaded[..], &card, options].concat())
    }

    /// Waits until somebody can log in, and says how long it took and what was read.
    pub fn wait_for_login(&self, machine: &mut Machine) {
        let root = machine.wait_for("over to /sbin/init", BOOT_WAIT).as_secs_f64();
        let login = machine.wait_for("login:", BOOT_WAIT).as_secs_f64();
        println!("root after {root:.1} s, login after {login:.1} s; {}", self.read());
    }

    /// What was read of both hosts so far.
    pub fn read(&self) -> String {
        let [a, b] = self.hosts.each_ref().map(WebHost::blocks);
        format!("{} and {} blocks, {} and {} bytes", a.0, b.0, a.1, b.1)
    }
}

/// A disk of 3 GiB with an empty file system that is called `keep`, as an option of QEMU.
pub fn keeping_disk(lab: &Lab) -> String {
    let disk = lab.path("disk");
    fs::File::create(&disk).unwrap().set_len(3 << 30).unwrap();
    let mut mke2fs = std::process::Command::new(program("mke2fs").unwrap());
    assert!(mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "keep"]).arg(&disk).status().unwrap().success());
    as_drive(&disk)
}

/// A file as a disk, as an option of QEMU.
pub fn as_drive(disk: &Path) -> String {
    format!("file={},format=raw,if=virtio", disk.display())
}

/// SHA-256 of /bin/bash in the image, as debugfs finds it there.
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

/// What every machine has to be able to do once it is up.
pub fn use_it(machine: &mut Machine, bash: &str) {
    write_and_read(machine, bash);
    // The device is the one with the image's names, and nobody sees what it is made of.
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

/// Switches it off, and says how long that took.
pub fn end(machine: Machine, order: &str) -> Duration {
    end_within(machine, order, END_WAIT)
}

/// The same, in no more than so long.
pub fn end_within(mut machine: Machine, order: &str, longest: Duration) -> Duration {
    // On its way down it has to read again.
    machine.run("sync; echo 3 >/proc/sys/vm/drop_caches");
    machine.enter(order);
    let took = machine.ended(longest);
    println!("{order}: {:.1} s", took.as_secs_f64());
    took
}
