//! `hfl-mount device`: loop devices and snapshots without losetup and dmsetup. Where the kernel has no
//! device-mapper snapshots, the tests that boot machines (`boot::qemu`) cover them.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hfl::client::device::loops;

use crate::support::fixture::{Publish, image};
use crate::support::lab::skipped;
use crate::support::mounting::{Mounted, WebServer, cannot_mount, run};

/// A device, detached on drop.
struct Device(PathBuf);

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(e) = loops::detach(&self.0) {
            println!("{e}");
        }
    }
}

impl Device {
    /// A kernel setting of the device, from sysfs.
    fn setting(&self, name: &str) -> String {
        let device = self.0.file_name().unwrap().to_str().unwrap();
        fs::read_to_string(format!("/sys/block/{device}/{name}")).unwrap().trim().to_owned()
    }
}

/// Runs `hfl-mount device`. Returns its output, or the error message.
fn command(home: &Path, words: &[&str]) -> Result<String, String> {
    let output = run(home, &[&["device"], words].concat());
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// Makes a device, or returns the error message.
fn make(home: &Path, words: &[&str]) -> Result<Device, String> {
    command(home, words).map(|path| Device(path.into()))
}

/// Whether loop devices cannot be made here. Prints the reason.
fn cannot_loop() -> bool {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    match opened {
        Ok(_) => false,
        Err(e) => {
            skipped(&format!("/dev/loop-control: {e}"));
            true
        }
    }
}

#[test]
fn a_file_becomes_a_device() {
    if cannot_loop() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    let bytes = image(4 << 20);
    fs::write(&file, &bytes).unwrap();
    let name = file.to_str().unwrap();
    let device = make(home.path(), &["loop", name]).unwrap();
    assert!(fs::read(&device.0).unwrap() == bytes);
    assert_eq!((device.setting("ro").as_str(), device.setting("loop/backing_file").as_str()), ("1", name));
    let opened = fs::OpenOptions::new().write(true).open(&device.0);
    let written = opened.and_then(|file| file.write_all_at(b"written", 0).and_then(|()| file.sync_all()));
    assert!(written.is_err() && fs::read(&file).unwrap() == bytes, "it is read-only");
    drop(device);

    let device = make(home.path(), &["loop", "--write", "--offset", "4096", name]).unwrap();
    assert_eq!(device.setting("ro"), "0");
    let opened = fs::OpenOptions::new().read(true).write(true).open(&device.0).unwrap();
    opened.write_all_at(b"written", 0).unwrap();
    opened.sync_all().unwrap();
    drop(device);
    let after = fs::read(&file).unwrap();
    assert!(after[..4096] == bytes[..4096] && &after[4096..4103] == b"written" && after[4103..] == bytes[4103..]);
    let missing = make(home.path(), &["loop", "/no/such/file"]).err().unwrap();
    assert!(missing.contains("cannot open /no/such/file"), "{missing}");

    let path = command(home.path(), &["loop", name]).unwrap();
    assert_eq!(command(home.path(), &["detach", &path]).unwrap(), "");
    let again = command(home.path(), &["detach", &path]).unwrap_err();
    assert!(again.contains(&format!("cannot detach {path}")), "{again}");
}

/// A loop device that can hold a root: direct I/O bypasses the page cache, with many requests in flight.
#[test]
fn a_mounted_image_becomes_a_device_that_is_read_directly() {
    if cannot_mount() || cannot_loop() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let bytes = image(24 << 20);
    Publish::default().write(&home.path().join("a"), &bytes);
    let server = WebServer::new(&home.path().join("a"));
    let mounted = Mounted::new(home.path(), &["--unsigned", "--no-cache"], &[&server.url()], "test");
    let device = make(home.path(), &["loop", "--direct", mounted.file().to_str().unwrap()]).unwrap();
    assert_eq!(device.setting("loop/dio"), "1");
    assert!(fs::read(&device.0).unwrap() == bytes);
    drop(device);
    mounted.end();
}

#[test]
fn a_snapshot_is_written_to_and_its_origin_is_not() {
    if cannot_loop() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (file, store) = (home.path().join("file"), home.path().join("store"));
    let bytes = image(4 << 20);
    fs::write(&file, &bytes).unwrap();
    fs::File::create(&store).unwrap().set_len(1 << 20).unwrap();
    let origin = make(home.path(), &["loop", file.to_str().unwrap()]).unwrap();
    let store = make(home.path(), &["loop", "--write", store.to_str().unwrap()]).unwrap();
    let name = format!("hfl-test-{}", std::process::id());
    let words = ["snapshot", &name, origin.0.to_str().unwrap(), store.0.to_str().unwrap()];
    let device = match command(home.path(), &words) {
        Ok(path) => PathBuf::from(path),
        Err(why) => {
            assert!(why.contains("/dev/mapper/control") && why.contains("hint: be root; modprobe"), "{why}");
            return skipped("the kernel has no device-mapper");
        }
    };
    let ended = write_to_it(home.path(), &device, &bytes, &name);
    // A udev rule may still have the device open.
    let _ = Command::new("udevadm").arg("settle").status();
    let removed = command(home.path(), &["remove", &name]);
    ended.unwrap();
    removed.unwrap();
    assert!(fs::read(&file).unwrap() == bytes);
}

/// Writes in the middle, then more than the store holds. Earlier data can still be read.
fn write_to_it(home: &Path, device: &Path, bytes: &[u8], name: &str) -> std::io::Result<()> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(device)?;
    opened.write_all_at(b"written", 1 << 20)?;
    opened.sync_all()?;
    let mut expected = bytes.to_vec();
    expected[1 << 20..(1 << 20) + 7].copy_from_slice(b"written");
    assert!(fs::read(device)? == expected);
    println!("{}", command(home, &["status", name]).unwrap());
    let full = opened.write_all_at(&vec![1; 2 << 20], 2 << 20).and_then(|()| opened.sync_all());
    println!("{full:?}; {}", command(home, &["status", name]).unwrap());
    assert!(full.is_err() && fs::read(device)?[..2 << 20] == expected[..2 << 20]);
    Ok(())
}
