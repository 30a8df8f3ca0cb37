//! The examples of updates in two slots (templates/update): the script, and the hook of a RAUC bundle.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, code, skipped, stderr, tool, two_images};
use crate::support::loop_device::LoopDevice;
use crate::support::servers::program;

const IMAGE_BYTES: usize = 48 << 20;

fn template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/update").join(name)
}

/// Two versions of an image, and a disk with two partitions for it.
struct Slots {
    lab: Lab,
    versions: [Vec<u8>; 2],
    device: LoopDevice,
}

impl Slots {
    fn new() -> Option<Self> {
        let lab = Lab::with_mirrors(&["public"]);
        two_images(&lab, 200);
        let versions = ["one.img", "two.img"].map(|image| fs::read(lab.path(image)).unwrap());
        fs::File::create(lab.path("disk")).unwrap().set_len(112 << 20).unwrap();
        let table = "label: gpt\nstart=2048, size=102400, name=root-a\nsize=102400, name=root-b\n";
        tool(&lab, "sfdisk", &["--quiet", "disk"], table)?;
        let device = LoopDevice::over(&lab.path("disk"))?;
        if !device.partition(2).exists() {
            skipped("loop devices have no partitions here");
            return None;
        }
        Some(Self { lab, versions, device })
    }

    fn publish(&self, image: &str) {
        self.lab.publish(&[image, "--name", "os"]);
    }

    /// Whether a slot, counted from 1, holds a version, counted from 1.
    fn holds(&self, slot: u32, version: usize) -> bool {
        fs::read(self.device.partition(slot)).unwrap()[..IMAGE_BYTES] == self.versions[version - 1]
    }

    fn key(&self) -> String {
        self.lab.path("home/.config/hfl/keys/os.pub").display().to_string()
    }

    fn run(&self, command: &mut Command) -> Output {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.current_dir(self.lab.path("")).env("HOME", self.lab.path("home")).env("PATH", path);
        command.env("XDG_STATE_HOME", self.lab.path("home/state")).stdin(Stdio::null()).output().unwrap()
    }
}

#[test]
fn the_script_updates_the_slot_that_is_not_in_use() {
    if program("grub-editenv").is_none() {
        return skipped("no grub-editenv");
    }
    let Some(slots) = Slots::new() else { return };
    let lab = &slots.lab;
    assert!(slots.run(Command::new("grub-editenv").args(["grubenv", "create"])).status.success());
    let at = |name: &str| lab.path(name).display().to_string();
    let configuration = format!(
        "SOURCE={}\nKEY={}\nSLOT_A={}\nSLOT_B={}\nGRUBENV={}\nCMDLINE={}\nHFL={}\nOPTIONS='--background --timeout 1'\n",
        at("public/os"),
        slots.key(),
        slots.device.partition(1).display(),
        slots.device.partition(2).display(),
        at("grubenv"),
        at("cmdline"),
        env!("CARGO_BIN_EXE_hfl")
    );
    lab.write("ab.conf", configuration);
    let run = |arguments: &[&str]| slots.run(Command::new(template("ab-update")).args(arguments).arg("ab.conf"));
    let ok = |arguments: &[&str], expected: &str| {
        let output = run(arguments);
        assert!(code(&output) == 0 && stderr(&output).contains(expected), "{output:?}");
    };
    let environment = || {
        let output = slots.run(Command::new("grub-editenv").args(["grubenv", "list"]));
        String::from_utf8(output.stdout).unwrap()
    };
    // What GRUB does when it boots.
    let boot = |slot: &str| {
        assert!(slots.run(Command::new("grub-editenv").args(["grubenv", "set", "hfl_trial="])).status.success());
        lab.write("cmdline", format!("root=PARTLABEL=root-{slot} ro hfl.slot={slot} quiet\n"));
    };

    lab.write("cmdline", "quiet\n");
    assert!(stderr(&run(&[])).contains("hfl.slot=a"), "a system that does not say in which slot it is is left alone");
    slots.publish("one.img");
    boot("a");
    ok(&[], "version 1 is in slot b; reboot");
    assert!(slots.holds(2, 1) && environment().contains("hfl_trial=b"), "{}", environment());
    ok(&[], "already; reboot");
    boot("b");
    ok(&["--good"], "");
    assert!(environment().contains("hfl_slot=b"), "{}", environment());
    ok(&[], "version 1 is running");

    // The update fails in the middle: what runs stays what boots, and the next run ends it.
    slots.publish("two.img");
    let blocks = lab.path("public/blocks");
    fs::rename(&blocks, lab.path("away")).unwrap();
    assert_ne!(code(&run(&[])), 0);
    let text = environment();
    assert!(text.contains("hfl_slot=b") && !text.contains("hfl_trial=a") && text.contains("hfl_version_b=1"), "{text}");
    fs::rename(lab.path("away"), &blocks).unwrap();
    ok(&[], "version 2 is in slot a; reboot");
    assert!(slots.holds(1, 2) && slots.holds(2, 1) && environment().contains("hfl_trial=a"));
    // The new system did not come up: the old one runs again.
    boot("b");
    ok(&[], "did not come up");
}

#[test]
fn a_rauc_bundle_without_an_image_updates_a_slot() {
    for needed in ["rauc", "dbus-daemon", "openssl", "mksquashfs"] {
        if program(needed).is_none() {
            return skipped(&format!("no {needed}"));
        }
    }
    let Some(slots) = Slots::new() else { return };
    let (lab, at) = (&slots.lab, |name: &str| slots.lab.path(name).display().to_string());
    slots.publish("one.img");
    slots.publish("two.img");
    fs::create_dir(lab.path("bundle")).unwrap();
    for file in ["hook", "manifest.raucm"] {
        fs::copy(template("rauc").join(file), lab.path("bundle").join(file)).unwrap();
    }
    lab.write("bundle/rootfs.hfl", format!("SOURCE={}\nKEY={}\nVERSION=2\n", at("public/os"), slots.key()));
    let subject = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=hfl", "-days", "30"];
    let made = slots.run(Command::new("openssl").args(subject).args(["-keyout", "key.pem", "-out", "cert.pem"]));
    assert!(made.status.success(), "{}", stderr(&made));
    let words = ["bundle", "--cert=cert.pem", "--key=key.pem", "bundle", "update.raucb"];
    let bundled = slots.run(Command::new("rauc").args(words));
    assert!(bundled.status.success(), "{}", stderr(&bundled));

    let backend = lab.write(
        "backend",
        format!(
            "#!/bin/sh\ncase $1 in get-primary) echo a ;; get-state) echo good ;; *) echo \"$@\" >>{} ;; esac\n",
            at("calls")
        ),
    );
    fs::set_permissions(&backend, fs::Permissions::from_mode(0o755)).unwrap();
    let slot = |number: u32, name: &str| {
        let device = slots.device.partition(number + 1).display().to_string();
        format!("[slot.rootfs.{number}]\ndevice={device}\ntype=raw\nbootname={name}\n")
    };
    lab.write(
        "system.conf",
        format!(
            "[system]\ncompatible=example\nbootloader=custom\nstatusfile={}\nmountprefix={}\n[handlers]\n\
             bootloader-custom-backend={}\n[keyring]\npath={}\n{}{}",
            at("status"),
            at("mnt"),
            at("backend"),
            at("cert.pem"),
            slot(0, "a"),
            slot(1, "b")
        ),
    );
    let allow = "<allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow user=\"*\"/>";
    lab.write(
        "bus.conf",
        format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><listen>unix:path={}</listen>\
             <auth>EXTERNAL</auth><policy context=\"default\">{allow}</policy></busconfig>\n",
            at("bus")
        ),
    );
    let bus = format!("unix:path={}", at("bus"));
    let start = |command: &mut Command| {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command
            .current_dir(lab.path(""))
            .env("HOME", lab.path("home"))
            .env("PATH", path)
            .env("HFL", env!("CARGO_BIN_EXE_hfl"));
        command.env("XDG_STATE_HOME", lab.path("home/state")).env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let _bus = start(Command::new("dbus-daemon").args(["--config-file=bus.conf", "--nofork", "--nopidfile"]));
    wait_for(|| lab.path("bus").exists());
    let _service = start(Command::new("rauc").args(["--conf=system.conf", "--override-boot-slot=a", "service"]));
    let mut last = None;
    let installed = || {
        let output =
            slots.run(Command::new("rauc").args(["install", "update.raucb"]).env("DBUS_SYSTEM_BUS_ADDRESS", &bus));
        let is_done = output.status.success();
        last = Some(output);
        is_done
    };
    wait_for(installed);
    assert!(slots.holds(2, 2), "{last:?}");
    let calls = fs::read_to_string(lab.path("calls")).unwrap();
    assert!(calls.contains("set-state b bad") && calls.contains("set-primary b"), "{calls}");
}

/// A process that is ended on drop.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(mut is_done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_done() {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not happen");
        std::thread::sleep(Duration::from_millis(200));
    }
}
