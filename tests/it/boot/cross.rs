//! Boots a POWER machine, the family of the PlayStation 3, from the miniroot through a root file system
//! that it writes to, until it powers off.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::support::boot_fixture::make_image;
use crate::support::boot_published::END_WAIT;
use crate::support::cross;
use crate::support::lab::{Lab, Random, or_skip, stderr};
use crate::support::machine::{HOST, Machine, power};
use crate::support::servers::program;
use crate::support::servers::web::WebHost;

const ARCHITECTURE: &str = "ppc64el";
/// Maximum time for a boot on a loaded machine.
const BOOT_WAIT: Duration = Duration::from_secs(300);
/// The kernel modules that may be needed: directories and files of the kernel package.
const MODULES: [&str; 14] = [
    "kernel/arch",
    "kernel/crypto",
    "kernel/fs",
    "kernel/lib",
    "kernel/mm",
    "kernel/net/core",
    "kernel/net/packet",
    "kernel/drivers/block",
    "kernel/drivers/md",
    "kernel/drivers/virtio",
    "kernel/drivers/net/net_failover.ko",
    "kernel/drivers/net/virtio_net.ko",
    "modules.builtin",
    "modules.order",
];
/// The image's init. It prints what it finds, then powers the machine off.
const INIT: &str = r#"#!/bin/busybox sh
PATH=/bin
digest() { sha256sum "$1" | cut -d' ' -f1; }
mount -t proc proc /proc
echo "[machine $(uname -m)]"
echo "[root $(awk '$2 == "/" && $3 != "rootfs" { print $3, $4 }' /proc/mounts | tail -n 1 | cut -d, -f1)]"
echo "[data $(digest /data)]"
dd if=/dev/urandom of=/written bs=65536 count=64 2>/dev/null
written=$(digest /written)
sync
echo 3 >/proc/sys/vm/drop_caches
[ "$(digest /written)" = "$written" ] && echo "[written]"
mount -o remount,ro / && echo "[up]"
poweroff -f
"#;

/// The client, the kernel with its modules, and the busybox.
struct Parts {
    client: PathBuf,
    system: PathBuf,
    busybox: PathBuf,
    kernel: String,
}

/// All parts, or the reason why one is missing.
fn needed() -> Result<Parts, String> {
    let parts = Parts {
        client: cross::file(ARCHITECTURE, "hfl-mount")?,
        system: cross::file(ARCHITECTURE, "system")?,
        busybox: cross::file(ARCHITECTURE, "system/bin/busybox")?,
        kernel: version(&cross::file(ARCHITECTURE, "system/lib/modules")?)?,
    };
    power().ok_or("no qemu-system-ppc64")?;
    for wanted in ["nginx", "depmod", "mke2fs"] {
        program(wanted).ok_or(format!("no {wanted}"))?;
    }
    Ok(parts)
}

/// The version of the only kernel whose modules are present.
fn version(modules: &Path) -> Result<String, String> {
    let entries = fs::read_dir(modules).map_err(|e| e.to_string())?;
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.next().ok_or("no kernel".to_owned())
}

/// Copies a file, or a directory recursively.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let place = match entry.path().strip_prefix(from).unwrap() {
            itself if itself.as_os_str().is_empty() => to.to_owned(),
            below => to.join(below),
        };
        if entry.file_type().is_dir() {
            fs::create_dir_all(&place).unwrap();
        } else {
            fs::copy(entry.path(), &place).unwrap();
        }
    }
}

/// Creates a small system with this kernel in `tree` of the lab. Returns the digest of its data.
fn make_tree(lab: &Lab, parts: &Parts) -> String {
    let (tree, kernel) = (lab.path("tree"), &parts.kernel);
    copy(&parts.system.join(format!("boot/vmlinux-{kernel}")), &tree.join(format!("boot/vmlinux-{kernel}")));
    copy(&parts.busybox, &tree.join("bin/busybox"));
    let modules = parts.system.join("lib/modules").join(kernel);
    let its = tree.join("lib/modules").join(kernel);
    for name in MODULES {
        copy(&modules.join(name), &its.join(name));
    }
    let made = Command::new(program("depmod").unwrap()).arg("-b").arg(&tree).arg(kernel).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    for name in ["sh", "awk", "cut", "dd", "mount", "poweroff", "sha256sum", "sync", "tail", "uname"] {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    for name in ["dev", "proc", "run", "sys", "tmp"] {
        fs::create_dir(tree.join(name)).unwrap();
    }
    let init = lab.write("tree/sbin/init", INIT);
    fs::set_permissions(init, fs::Permissions::from_mode(0o755)).unwrap();
    let data = Random(7).bytes(24 << 20);
    lab.write("tree/data", &data);
    Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_power_machine_boots_writes_and_ends() {
    let Some(parts) = or_skip(needed()) else { return };
    let lab = Lab::new();
    let data = make_tree(&lab, &parts);
    let image = make_image(&lab, "ext4", "power.img", "192M");
    fs::create_dir(lab.path("a")).unwrap();
    let host = WebHost::start(&lab.path("a")).unwrap();
    let url = format!("http://{HOST}:{}/", host.port());
    let client = parts.client.display().to_string();
    lab.write(
        "mirrors.toml",
        format!(
            "[publish]\nclient = [{client:?}]\n[[mirror]]\nname = \"a\"\nwrite = \"./a\"\nread = \"{url}\"\nread-back = false\n"
        ),
    );
    lab.publish(&["power.img", "--boot", "--busybox", parts.busybox.to_str().unwrap()]);

    let tried = ["boot", "try", "power", "--to", "mirrors.toml", "--json", "--until", "[up]", "--timeout", "5m"];
    let report: serde_json::Value = serde_json::from_str(&lab.ok(&tried)).unwrap();
    println!("hfl boot try: {report}");
    assert!(report["reached"] == true && report["machine"] == "ppc64le", "{report}");

    let file = |name: &str| lab.path(&format!("a/boot/power/1/{name}")).display().to_string();
    let words = format!("console=hvc0 hfl.name=power hfl.url={url}");
    let card = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="];
    let (kernel, miniroot) = (file("vmlinuz"), file("initrd.img"));
    let loaded = ["-kernel", &kernel, "-initrd", &miniroot, "-append", &words];
    let mut machine = Machine::of(power().unwrap(), 1024, &[&loaded[..], &card].concat());
    let root = machine.wait_for("over to /sbin/init", BOOT_WAIT);
    machine.wait_for("[machine ppc64le]", BOOT_WAIT);
    machine.wait_for("[root ext4 rw]", BOOT_WAIT);
    machine.wait_for(&format!("[data {data}]"), BOOT_WAIT);
    machine.wait_for("[written]", BOOT_WAIT);
    let up = machine.wait_for("[up]", BOOT_WAIT);
    let console = machine.console().clone();
    let off = machine.ended(END_WAIT);
    for bad in ["EXT4-fs error", "I/O error", "Call Trace"] {
        assert!(!console.contains(bad), "{bad}: {console}");
    }
    let (blocks, bytes) = host.blocks();
    let sizes = [&image, &kernel.into(), &miniroot.into(), &parts.client].map(|file| fs::metadata(file).unwrap().len());
    println!(
        "image {}, kernel {}, miniroot {}, client {} bytes; root after {:.1} s, all done after {:.1} s, off {:.1} s later; \
         {blocks} blocks, {bytes} bytes",
        sizes[0],
        sizes[1],
        sizes[2],
        sizes[3],
        root.as_secs_f64(),
        up.as_secs_f64(),
        off.as_secs_f64()
    );
}
