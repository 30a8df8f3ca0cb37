//! Machines that boot a published image over HTTP: HFL_BOOT_IMAGE names one with a login on ttyS0 and a root without a
//! password (kind `small` of benches/images.sh), HFL_STATIC_CLIENT the client as tests/all.sh builds it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::lab::{Lab, full, skipped};
use crate::machine::{HOST, Machine, is_there};
use crate::servers::program;
use crate::servers::web::WebHost;

/// How long a boot may take where the processor is emulated and others use this machine, too.
const BOOT_WAIT: Duration = Duration::from_secs(600);
/// From the order to switch off to the end of QEMU.
const END_WAIT: Duration = Duration::from_secs(30);
const CARD: &str = "virtio-net-pci,netdev=n";

/// An image that two web servers show, with all that boots it.
struct Published {
    lab: Lab,
    hosts: [WebHost; 2],
    bash: String,
}

/// What is needed, or why it is not there.
fn needed() -> Result<(PathBuf, PathBuf), String> {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let image = named("HFL_BOOT_IMAGE").ok_or("HFL_BOOT_IMAGE names no image that boots to a login on ttyS0")?;
    let client = named("HFL_STATIC_CLIENT").ok_or("HFL_STATIC_CLIENT names no static client")?;
    if !is_there() {
        return Err("no qemu-system-x86_64".to_owned());
    }
    for wanted in ["nginx", "debugfs", "busybox"] {
        program(wanted).ok_or(format!("no {wanted}"))?;
    }
    Ok((image, client))
}

impl Published {
    fn new() -> Option<Self> {
        let (image, client) = match needed() {
            Ok(needed) => needed,
            Err(why) => {
                skipped(&why);
                return None;
            }
        };
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
        let words = ["publish", image.to_str().unwrap(), "--name", "small", "--to", "mirrors.toml", "--boot"];
        let append = "console=ttyS0 net.ifnames=0 systemd.show_status=0";
        lab.ok(&words.iter().copied().chain(["--boot-append", append]).collect::<Vec<_>>());
        let bash = digest_of_bash(&image);
        Some(Self { lab, hosts, bash })
    }

    /// A file of the newest version's boot files.
    fn file(&self, name: &str) -> String {
        self.lab.path(&format!("a/boot/small/1/{name}")).display().to_string()
    }

    /// A machine whose kernel and miniroot QEMU itself loads, with further words for the kernel; it asks both hosts unless
    /// the words name another.
    fn machine(&self, words: &str, options: &[&str]) -> Machine {
        let (kernel, miniroot) = (self.file("vmlinuz"), self.file("initrd.img"));
        let urls = self.hosts.each_ref().map(|host| format!("http://{HOST}:{}/", host.port())).join(",");
        let usual_words = "console=ttyS0 net.ifnames=0 systemd.show_status=0 hfl.name=small";
        let from = if words.contains("hfl.url=") { String::new() } else { format!("hfl.url={urls}") };
        let append = format!("{usual_words} {from} {words}");
        let loaded = ["-kernel", &kernel, "-initrd", &miniroot, "-append", &append];
        let card = ["-netdev", "user,id=n", "-device", CARD];
        Machine::start(1024, &[&loaded[..], &card, options].concat())
    }

    /// What was read of both hosts so far.
    fn read(&self) -> String {
        let [a, b] = self.hosts.each_ref().map(WebHost::blocks);
        format!("{} and {} blocks, {} and {} bytes", a.0, b.0, a.1, b.1)
    }
}

/// SHA-256 of /bin/bash in the image, as debugfs finds it there.
fn digest_of_bash(image: &std::path::Path) -> String {
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
fn use_it(machine: &mut Machine, bash: &str) {
    machine.log_in();
    machine.run("echo what was written >/root/file; sync");
    machine.run("echo 3 >/proc/sys/vm/drop_caches");
    assert_eq!(machine.run("cat /root/file"), "what was written");
    let digest = machine.run("sha256sum /bin/bash");
    assert!(digest.starts_with(bash), "{digest}, not {bash}");
    // The device is the one with the image's names, and nobody sees what it is made of.
    assert_eq!(machine.run("readlink -f $(findmnt -no SOURCE /)"), "/dev/dm-0");
    assert_eq!(machine.run("grep -c fuse.hfl /proc/self/mountinfo || true"), "0");
    machine.run("kill -USR1 $(pgrep -f '^@/udhcpc'); sleep 5");
    let lease = machine.run("tail -n 1 /run/hfl/net.log");
    assert!(lease.starts_with("eth0: renew "), "{lease}");
}

/// Switches it off, and says how long that took.
fn end(mut machine: Machine, order: &str) -> Duration {
    machine.enter(order);
    let took = machine.ended(END_WAIT);
    println!("{order}: {:.1} s", took.as_secs_f64());
    took
}

#[test]
fn it_boots_and_one_mirror_ends_in_the_middle() {
    let Some(mut published) = Published::new() else { return };
    let mut machine = published.machine("", &[]);
    let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
    // The system has begun to read its programs.
    let begun = published.hosts[0].blocks().0;
    while published.hosts[0].blocks().0 < begun + 20 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = published.hosts[1].blocks().0;
    published.hosts[0].stop();
    let login = machine.wait_for("login:", BOOT_WAIT);
    println!("root after {:.1} s, login after {:.1} s; {}", root.as_secs_f64(), login.as_secs_f64(), published.read());
    assert!(published.hosts[1].blocks().0 > before);
    use_it(&mut machine, &published.bash);
    end(machine, "poweroff");
}

/// From the card's own program on: DHCP names an address of the web server, and the menu there does the rest.
#[test]
fn it_boots_from_the_network_cards_own_ipxe() {
    let Some(published) = Published::new() else { return };
    let url = format!("http://{HOST}:{}/boot/small/boot.ipxe", published.hosts[0].port());
    let network = format!("user,id=n,bootfile={url}");
    let mut machine = Machine::start(1024, &["-netdev", &network, "-device", CARD, "-boot", "n"]);
    let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
    let login = machine.wait_for("login:", BOOT_WAIT);
    println!("root after {:.1} s, login after {:.1} s; {}", root.as_secs_f64(), login.as_secs_f64(), published.read());
    use_it(&mut machine, &published.bash);
    end(machine, "reboot");
}

/// A disk keeps what was fetched and what was written; the next boot finds both there.
#[test]
fn a_disk_keeps_blocks_and_writes() {
    let Some(published) = Published::new() else { return };
    let disk = published.lab.path("disk");
    fs::File::create(&disk).unwrap().set_len(3 << 30).unwrap();
    let made = std::process::Command::new(program("mke2fs").unwrap())
        .args(["-q", "-F", "-t", "ext4", "-L", "keep"])
        .arg(&disk)
        .status();
    assert!(made.unwrap().success());
    let drive = format!("file={},format=raw,if=virtio", disk.display());
    let boot = || published.machine("hfl.cache=LABEL=keep hfl.cow=LABEL=keep", &["-drive", &drive]);
    let mut machine = boot();
    let first = machine.wait_for("login:", BOOT_WAIT);
    println!("login after {:.1} s; {}", first.as_secs_f64(), published.read());
    machine.log_in();
    machine.run("echo kept >/root/kept");
    end(machine, "poweroff");
    let before = published.hosts.iter().map(|host| host.blocks().0).sum::<u64>();
    let mut machine = boot();
    let second = machine.wait_for("login:", BOOT_WAIT);
    let again = published.hosts.iter().map(|host| host.blocks().0).sum::<u64>() - before;
    println!("login after {:.1} s; {again} blocks were fetched again of {before}", second.as_secs_f64());
    use_it(&mut machine, &published.bash);
    assert_eq!(machine.run("cat /root/kept"), "kept");
    end(machine, "poweroff");
    assert!(again * 20 < before, "{again} of {before}");
}

/// A system that writes more than there is room for is refused, can be read, and ends when it is told to.
#[test]
fn a_full_store_does_not_keep_it_from_ending() {
    let Some(published) = Published::new() else { return };
    // All the memory that it would take by itself, or a little, which is sooner full.
    let (room, megabytes) = if full() { ("", 900) } else { ("hfl.cow=64M", 150) };
    for (mode, root) in [("snapshot", "ext4"), ("overlay", "overlay")] {
        let mut machine = published.machine(&format!("hfl.mode={mode} {room}"), &[]);
        machine.wait_for("login:", BOOT_WAIT);
        machine.log_in();
        assert_eq!(machine.run("findmnt -no FSTYPE /"), root);
        let write = format!("dd if=/dev/zero of=/root/large bs=1M count={megabytes} conv=fsync");
        let said = machine.run(&format!("timeout -s KILL 120 {write} 2>&1; true"));
        println!("{mode}: {said}");
        let digest = machine.run("sha256sum /bin/bash");
        assert!(digest.starts_with(&published.bash), "{digest}");
        end(machine, "poweroff");
    }
}

/// Whoever stands before a machine that cannot boot is told why and what to do; with `panic=` it tries again.
#[test]
fn a_failure_says_what_to_do() {
    let Some(published) = Published::new() else { return };
    let cases = [
        ("hfl.url=http://10.0.2.2:9/ hfl.timeout=8", "no mirror of small answers", "what to do: check hfl.url"),
        ("hfl.name=none", "cannot boot: ", "what to do: "),
        ("hfl.mode=none", "hfl.mode=none", "what to do: it is snapshot or overlay"),
    ];
    for (words, why, what) in cases {
        let mut machine = published.machine(&format!("{words} panic=1"), &[]);
        machine.wait_for(why, BOOT_WAIT);
        machine.wait_for(what, Duration::from_secs(10));
        machine.wait_for("reboot in 1 seconds", Duration::from_secs(10));
        machine.ended(END_WAIT);
    }
    let mut machine = published.machine("hfl.mode=none", &[]);
    machine.wait_for("this is a shell", BOOT_WAIT);
    machine.wait_for("# ", Duration::from_secs(30));
    machine.enter("cat /hfl/key");
    machine.wait_for("RW", Duration::from_secs(30));
    machine.enter("reboot -f");
    machine.ended(END_WAIT);
}
