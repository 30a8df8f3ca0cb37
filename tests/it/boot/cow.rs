//! `hfl.cow=` with a disk: the functions of the miniroot's init, run by the real busybox on loop
//! devices. Existing data on a disk is never overwritten, whether or not the miniroot recognizes it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hfl::client::device::loops::{self, LoopOptions};

use crate::boot::init::Init;
use crate::support::lab::{skipped, stderr};
use crate::support::servers::program;

const MIB: u64 = 1 << 20;
/// Bytes that are examined at each end of the disk.
const ENDS: u64 = 4 * MIB;

/// `WITH_EXT4`: the miniroot can mount ext4 only. `WITHOUT`: it has no module of any file system.
const WITH_EXT4: &str = "mount() { command mount -t ext4 \"$@\"; }";
const WITHOUT: &str = "mount() { return 255; }";
const RUN: &str = r#"
name=os running=7 size=8388608 cow=$DEVICE
cow_on_disk
echo "cow_device=$cow_device cow_file=$cow_file"
"#;

struct Disk {
    init: Init,
    file: PathBuf,
    device: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = loops::detach(&self.device);
    }
}

impl Disk {
    /// A disk of zeros on a loop device. `None`, with a skip message, if none can be made.
    fn new(bytes: u64) -> Option<Self> {
        let init = Init::new()?;
        let file = init.lab.path("disk");
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        match loops::attach(&file, LoopOptions { write: true, ..LoopOptions::default() }) {
            Ok(device) => Some(Self { init, file, device }),
            Err(e) => {
                skipped(&e.to_string());
                None
            }
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let device = fs::OpenOptions::new().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, at).and_then(|()| device.sync_all()).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.device).unwrap()
    }

    /// Runs the init's disk setup. Returns its output and whether it succeeded.
    fn take(&self, mount: &str) -> (String, bool) {
        let device = self.device.display().to_string();
        let output = self.init.run(&format!("{mount}\n{RUN}"), &[("DEVICE", &device)]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(output.status.success() || output.status.code() == Some(3), "{text}");
        (text, output.status.success())
    }

    /// Asserts that the disk is refused as `what`, and not modified.
    fn is_left_alone(&self, what: &str) {
        let before = self.bytes();
        for mount in [WITHOUT, WITH_EXT4] {
            let (text, taken) = self.take(mount);
            assert!(self.bytes() == before, "{what}: it was written to: {text}");
            assert!(!taken && text.contains("FAILED: hfl.cow=/dev/loop"), "{what}: {text}");
            assert!(text.contains(&format!(" is {what}, which this miniroot cannot mount")), "{what}: {text}");
            assert!(text.contains("DO: ") && text.contains("hfl-cow"), "{text}");
        }
    }

    /// Asserts that the whole disk is taken, and returns the device for writes.
    fn is_taken(&self) -> Store {
        let (text, taken) = self.take(WITHOUT);
        assert!(taken, "{text}");
        let device = text.split("cow_device=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Store(device.unwrap_or_else(|| panic!("{text}")).into())
    }
}

/// The device that receives the writes.
struct Store(PathBuf);

impl Store {
    /// Writes what a snapshot writes: its header, and data up to the end.
    fn fill(&self) {
        let device = fs::OpenOptions::new().write(true).open(&self.0).unwrap();
        device.write_all_at(b"SnAp", 0).unwrap();
        device.write_all_at(&[7; 8192], self.bytes() - 8192).unwrap();
        device.sync_all().unwrap();
    }

    fn bytes(&self) -> u64 {
        let name = self.0.file_name().unwrap().to_str().unwrap();
        512 * fs::read_to_string(format!("/sys/block/{name}/size")).unwrap().trim().parse::<u64>().unwrap()
    }

    fn begins_with(&self) -> [u8; 4] {
        let mut first = [0; 4];
        fs::File::open(&self.0).unwrap().read_exact_at(&mut first, 0).unwrap();
        first
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = loops::detach(&self.0);
    }
}

/// Runs a program that formats the disk. False, with a skip message, if it cannot.
fn made(disk: &Disk, name: &str, options: &[&str], on: &Path) -> bool {
    let Some(path) = program(name) else {
        skipped(&format!("no {name}"));
        return false;
    };
    let output = Command::new(path).args(options).arg(on).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    assert!(disk.bytes().iter().any(|&byte| byte != 0), "{name} has written something");
    true
}

fn a_file_system_is_left_alone(what: &str, name: &str, options: &[&str], bytes: u64) {
    let Some(disk) = Disk::new(bytes) else { return };
    if made(&disk, name, options, &disk.device) {
        disk.is_left_alone(what);
    }
}

#[test]
fn btrfs_is_left_alone() {
    a_file_system_is_left_alone("btrfs", "mkfs.btrfs", &["-q", "-L", "keep"], 128 * MIB);
}

#[test]
fn xfs_is_left_alone() {
    a_file_system_is_left_alone("XFS", "mkfs.xfs", &["-q", "-L", "keep"], 320 * MIB);
}

#[test]
fn jfs_is_left_alone() {
    a_file_system_is_left_alone("JFS", "mkfs.jfs", &["-q"], 32 * MIB);
}

#[test]
fn ntfs_is_left_alone() {
    a_file_system_is_left_alone("NTFS", "mkfs.ntfs", &["-q", "-F", "-Q"], 32 * MIB);
}

#[test]
fn exfat_is_left_alone() {
    a_file_system_is_left_alone("exFAT", "mkfs.exfat", &[], 32 * MIB);
}

#[test]
fn swap_is_left_alone() {
    a_file_system_is_left_alone("swap space", "mkswap", &[], 32 * MIB);
}

#[test]
fn an_encrypted_disk_is_left_alone() {
    let key =
        ["-q", "luksFormat", "--key-file", "/etc/hostname", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    a_file_system_is_left_alone("encrypted data (LUKS)", "cryptsetup", &key, 32 * MIB);
}

/// The miniroot refuses ext4 if the kernel module is missing. With the module, it creates a file there.
#[test]
fn ext4_is_left_alone_or_gets_a_file() {
    let Some(disk) = Disk::new(32 * MIB) else { return };
    if !made(&disk, "mke2fs", &["-q", "-F", "-t", "ext4", "-L", "keep"], &disk.device) {
        return;
    }
    let before = disk.bytes();
    let (text, taken) = disk.take(WITHOUT);
    assert!(!taken && text.contains(" is ext2, ext3 or ext4, which this miniroot cannot mount"), "{text}");
    assert!(disk.bytes() == before);
    let (text, taken) = disk.take(WITH_EXT4);
    assert!(taken && text.contains("/hfl/rw/hfl/os-7-abababababab.cow"), "{text}");
    drop(Store(text.split("cow_device=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().into()));
}

#[test]
fn a_partition_table_is_left_alone_and_so_is_its_copy_at_the_end() {
    let Some(disk) = Disk::new(32 * MIB) else { return };
    let Some(sfdisk) = program("sfdisk") else { return skipped("no sfdisk") };
    let script = disk.init.lab.write("table", "label: gpt\n,8M\n");
    let mut command = Command::new(sfdisk);
    command.arg("--no-reread").arg(&disk.device).stdin(fs::File::open(script).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    disk.is_left_alone("a partition table");
    disk.write(0, &[0; 17 * 1024]);
    disk.is_left_alone("data of an unknown kind");
}

/// Signatures of formats whose tools need kernel support. Only the identifying bytes are written.
#[test]
fn members_of_raids_pools_and_volume_groups_are_left_alone() {
    let raid = [0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0];
    let end = 32 * MIB;
    let pool = b"\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x24";
    let cases: [(&str, u64, &[u8]); 10] = [
        ("a member of a RAID", 4096, &raid),
        ("a member of a ZFS pool", 16384, pool),
        ("data of an unknown kind", 131_072, b"\x0c\xb1\xba\x00"),
        ("data of an unknown kind", end - 262_144 + 16384, pool),
        ("bcachefs or bcache", 4120, &[0xc6, 0x85, 0x73, 0xf6]),
        ("a volume of LVM", 512, b"LABELONE"),
        ("data of an unknown kind", end - 1, b"x"),
        ("data of an unknown kind", ENDS - 1, b"x"),
        ("data of an unknown kind", end - ENDS, b"x"),
        // Shell command substitution strips this text to nothing.
        ("data of an unknown kind", 0, b"\n\n"),
    ];
    for (what, at, bytes) in cases {
        let Some(disk) = Disk::new(end) else { return };
        disk.write(at, bytes);
        disk.is_left_alone(what);
    }
}

/// A superblock at the end of a disk makes it a member of an array, even if the rest is empty, a store
/// of hfl or a mountable file system.
#[test]
fn a_member_of_a_raid_is_left_alone_whatever_else_is_on_it() {
    let (raid, end) = ([0xfc, 0x4e, 0x2b, 0xa9], 32 * MIB);
    let cases: [(&str, u64, &[u8]); 5] = [
        ("md 1.0", end - 8192, &raid),
        ("md 0.90", end - 65536, &raid),
        ("Intel's", end - 1024, b"Intel Raid ISM Cfg Sig. "),
        ("DDF", end - 512, &[0xde, 0x11, 0xde, 0x11]),
        ("DRBD", end - 4096 + 60, &[0x83, 0x74, 0x02, 0x6d]),
    ];
    for (what, at, bytes) in cases {
        for below in ["nothing", "a store", "ext4"] {
            let Some(disk) = Disk::new(end) else { return };
            match below {
                "ext4" if !made(&disk, "mke2fs", &["-q", "-F", "-t", "ext4"], &disk.device) => return,
                "a store" => disk.is_taken().fill(),
                _ => {}
            }
            disk.write(at, bytes);
            let before = disk.bytes();
            for mount in [WITH_EXT4, WITHOUT] {
                let (text, taken) = disk.take(mount);
                assert!(!taken && text.contains("FAILED: hfl.cow=/dev/loop"), "{what}, {below}: {text}");
                assert!(text.contains(" is a member of a RAID or of DRBD"), "{what}, {below}: {text}");
                assert!(disk.bytes() == before, "{what}, {below}");
            }
        }
    }
}

/// A disk with both ends zeroed may still hold data in the middle.
#[test]
fn a_copy_of_a_superblock_in_the_middle_is_respected() {
    for (at, bytes) in [(64 * MIB + 64, b"_BHRfS_M".as_slice()), (8193 * 1024 + 56, b"\x53\xef")] {
        let Some(disk) = Disk::new(96 * MIB) else { return };
        disk.write(at, bytes);
        disk.is_left_alone("data of an unknown kind");
    }
}

#[test]
fn a_disk_that_is_too_small_is_left_alone() {
    let Some(disk) = Disk::new(12 * MIB) else { return };
    let (text, taken) = disk.take(WITHOUT);
    assert!(!taken && text.contains("is smaller than 16 MiB") && disk.bytes().iter().all(|&byte| byte == 0), "{text}");
}

#[test]
fn an_empty_disk_is_taken_and_found_again() {
    let Some(disk) = Disk::new(32 * MIB) else { return };
    let store = disk.is_taken();
    assert_eq!(store.bytes(), 32 * MIB - ENDS - 4096);
    let line = format!("HFL-COW 1 os 7 {}\n", "ab".repeat(32));
    assert!(fs::read(&disk.file).unwrap().starts_with(line.as_bytes()));
    store.fill();
    drop(store);
    let store = disk.is_taken();
    assert_eq!(store.begins_with(), *b"SnAp", "what was written is there again");
    drop(store);
    // The writes of another version are dropped.
    disk.write(0, line.replace("os 7", "os 6").as_bytes());
    let (text, taken) = disk.take(WITHOUT);
    assert!(taken && text.contains("what was written on os 6 ") && text.contains("is dropped"), "{text}");
    let store = Store(text.split("cow_device=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().into());
    assert_eq!(store.begins_with(), [0; 4]);
}

/// The disk held a store of hfl, and another tool reused it and left the first line in place.
#[test]
fn a_disk_that_was_put_to_another_use_is_left_alone() {
    let cases: [(&str, u64, &[u8]); 3] = [
        ("a member of a RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
        ("a store of hfl with other data over it", 32 * MIB - 262_144, b"pool"),
        ("a partition table", 512, b"EFI PART"),
    ];
    for (what, at, bytes) in cases {
        let Some(disk) = Disk::new(32 * MIB) else { return };
        disk.is_taken().fill();
        disk.write(at, bytes);
        disk.is_left_alone(what);
    }
}

/// The marker is written by the command that the message suggests.
#[test]
fn a_disk_that_was_marked_is_taken_whatever_is_on_it() {
    let Some(disk) = Disk::new(128 * MIB) else { return };
    if !made(&disk, "mkfs.btrfs", &["-q"], &disk.device) {
        return;
    }
    disk.write(127 * MIB, b"a copy at the end");
    let (text, _) = disk.take(WITHOUT);
    let command = text.split("let all of it be overwritten: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert_eq!(command, format!("{{ echo hfl-cow; head -c 4194304 /dev/zero; }} >{}", disk.device.display()));
    let marked = Command::new(program("busybox").unwrap()).args(["sh", "-c", command]).status().unwrap();
    assert!(marked.success());
    disk.is_taken().fill();
    assert_eq!(disk.is_taken().begins_with(), *b"SnAp");
    // Marked, then added to a pool; the pool leaves the first bytes as they are.
    let Some(disk) = Disk::new(32 * MIB) else { return };
    disk.write(0, b"hfl-cow\n");
    disk.write(16384, b"\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x24");
    disk.is_left_alone("a member of a ZFS pool");
}
