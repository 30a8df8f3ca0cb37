//! Shared by the boot tests: a small system with a kernel and modules, programs for it, and a parser of
//! miniroots.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hfl::format::digest::Sha256;

use crate::support::lab::{Lab, Random};

pub const KERNEL: &str = "6.1.0-9-test";

/// An ELF file header for x86-64 (62), AArch64 (183) and so on, without program headers, followed by
/// `tail`.
pub fn elf(machine: u8, tail: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    (elf[16], elf[18]) = (2, machine);
    elf.extend_from_slice(tail);
    elf
}

/// A bzImage with the fields that a boot loader reads.
pub fn bzimage(version: &str, bytes: usize) -> Vec<u8> {
    let mut kernel = Random(bytes as u64).bytes(bytes.max(2048));
    kernel[514..518].copy_from_slice(b"HdrS");
    kernel[526..528].copy_from_slice(&512_u16.to_le_bytes());
    kernel[566] = 1;
    let text = format!("{version} (builder) #1 SMP\0");
    kernel[1024..1024 + text.len()].copy_from_slice(text.as_bytes());
    kernel
}

/// Creates a system in `tree`: one kernel, and modules with dependencies.
pub fn make_system(lab: &Lab) {
    lab.write("tree/etc/os-release", "ID=test\n");
    lab.write("tree/sbin/init", elf(62, b"init"));
    lab.write(&format!("tree/boot/vmlinuz-{KERNEL}"), bzimage(KERNEL, 300_000));
    let modules = [
        ("drivers/virtio/virtio", ""),
        ("drivers/virtio/virtio_ring", ""),
        ("drivers/virtio/virtio_pci", "drivers/virtio/virtio_ring.ko drivers/virtio/virtio.ko"),
        ("net/core/failover", ""),
        ("drivers/net/net_failover", "net/core/failover.ko"),
        ("drivers/net/virtio_net", "drivers/net/net_failover.ko drivers/virtio/virtio.ko net/core/failover.ko"),
        ("fs/fuse/fuse", ""),
        ("drivers/block/loop", ""),
        ("drivers/md/dm-mod", ""),
        ("drivers/md/dm-bufio", "drivers/md/dm-mod.ko"),
        ("drivers/md/dm-snapshot", "drivers/md/dm-bufio.ko drivers/md/dm-mod.ko"),
        ("drivers/sound/never-wanted", ""),
    ];
    let mut list = String::new();
    for (seed, (path, needs)) in modules.iter().enumerate() {
        let tail = Random(seed as u64).bytes(5_000);
        lab.write(&format!("tree/lib/modules/{KERNEL}/kernel/{path}.ko"), elf(62, &tail));
        let needs: String = needs.split_whitespace().map(|need| format!(" kernel/{need}")).collect();
        list += &format!("kernel/{path}.ko:{needs}\n");
    }
    lab.write(&format!("tree/lib/modules/{KERNEL}/modules.dep"), list);
    lab.write(
        &format!("tree/lib/modules/{KERNEL}/modules.builtin"),
        "kernel/fs/ext4/ext4.ko\nkernel/fs/jbd2/jbd2.ko\n",
    );
}

/// Makes an ext image of `tree`; `kind` is ext2, ext3 or ext4.
pub fn make_image(lab: &Lab, kind: &str, image: &str, size: &str) -> PathBuf {
    let image = lab.path(image);
    let _ = fs::remove_file(&image);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("E2FSPROGS_FAKE_TIME", "1750000000");
    mke2fs.args(["-q", "-F", "-t", kind, "-d"]).arg(lab.path("tree")).arg(&image).arg(size);
    let made = mke2fs.output().expect("mke2fs is installed (e2fsprogs)");
    assert!(made.status.success(), "{}", crate::support::lab::stderr(&made));
    image
}

/// Read-only file systems: the program that makes one, and its options.
pub const PACKED: [(&str, &[&str]); 11] = [
    ("mksquashfs", &["-comp", "gzip"]),
    ("mksquashfs", &["-comp", "xz"]),
    ("mksquashfs", &["-comp", "xz", "-Xbcj", "x86", "-b", "1M"]),
    ("mksquashfs", &["-comp", "zstd", "-always-use-fragments"]),
    ("mksquashfs", &["-comp", "lz4", "-no-fragments"]),
    ("mksquashfs", &["-noI", "-noD", "-noF", "-b", "4K"]),
    ("mkfs.erofs", &[]),
    ("mkfs.erofs", &["-zlz4"]),
    ("mkfs.erofs", &["-zlz4hc", "-C65536", "-Efragments,dedupe"]),
    ("mkfs.erofs", &["-zdeflate"]),
    ("mkfs.erofs", &["-zzstd"]),
];

/// Lists these file systems as built into the kernel of the lab's system.
pub fn know_packed(lab: &Lab) {
    let list = format!("tree/lib/modules/{KERNEL}/modules.builtin");
    let known = fs::read_to_string(lab.path(&list)).expect("a list");
    let more = "kernel/fs/squashfs/squashfs.ko\nkernel/fs/erofs/erofs.ko\nkernel/fs/overlayfs/overlay.ko\n";
    lab.write(&list, known + more);
}

/// Makes an image of `tree`. `None` if the program is missing or does not support the options.
pub fn make_packed(lab: &Lab, (program, options): (&str, &[&str]), image: &str) -> Option<PathBuf> {
    let (image, tree) = (lab.path(image), lab.path("tree"));
    let _ = fs::remove_file(&image);
    let mut command = Command::new(crate::support::servers::program(program)?);
    match program {
        "mksquashfs" => command.arg(&tree).arg(&image).args(["-noappend", "-no-progress", "-quiet"]).args(options),
        _ => command.args(options).arg(&image).arg(&tree),
    };
    let made = command.stdin(Stdio::null()).output().expect("it runs");
    made.status.success().then_some(image)
}

/// Path of a boot file of a version in `boot/NAME/VERSION` of a mirror; its name contains digits of its
/// digest.
pub fn booted_with(directory: &Path, file: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let is_it = |path: &PathBuf| {
        let digits = Sha256::of(&fs::read(path).expect("a file")).to_string();
        path.file_name().is_some_and(|name| name.to_str() == Some(&format!("{file}-{}", &digits[..12])))
    };
    paths.find(is_it).unwrap_or_else(|| panic!("no {file} in {}", directory.display()))
}

/// Creates a busybox and a client with valid file headers, as `busybox` and `client` of the lab.
pub fn make_programs(lab: &Lab) {
    lab.write("busybox", elf(62, b"busybox"));
    lab.write("client", elf(62, b"hfl-mount version mark:9.9.9;"));
}

/// Runs `hfl boot build` with the lab's programs. Returns the report and the output directory.
pub fn build(lab: &Lab, image: &str, more: &[&str]) -> (serde_json::Value, PathBuf) {
    let arguments = ["boot", "build", image, "--busybox", "busybox", "--client", "client", "--json", "--out", "out"];
    let report = lab.ok(&[&arguments[..], more].concat());
    (serde_json::from_str(&report).expect("JSON"), lab.path("out"))
}

/// Runs `hfl boot build`, expects this exit code, and returns standard error.
pub fn refused(lab: &Lab, code: i32, image: &str, more: &[&str]) -> String {
    let arguments = ["boot", "build", image, "--busybox", "busybox", "--client", "client", "--out", "refused"];
    lab.fails(code, &[&arguments[..], more].concat())
}

/// An entry of a miniroot.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub device: (u32, u32),
    pub data: Vec<u8>,
}

impl Entry {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).expect("text")
    }
}

/// Reads a miniroot: a gzip-compressed cpio archive in "newc" format.
pub fn read_miniroot(path: &Path) -> BTreeMap<String, Entry> {
    let packed = fs::read(path).expect("a miniroot");
    assert_eq!(packed[..4], [0x1f, 0x8b, 8, 0], "gzip without a name");
    assert_eq!(packed[4..8], [0; 4], "without a time");
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut archive).expect("gzip");
    let mut entries = BTreeMap::new();
    let mut at = 0;
    loop {
        assert_eq!(&archive[at..at + 6], b"070701");
        let field = |i: usize| {
            let digits = std::str::from_utf8(&archive[at + 6 + 8 * i..at + 14 + 8 * i]).expect("digits");
            u32::from_str_radix(digits, 16).expect("a number")
        };
        let (bytes, name_bytes) = (field(6) as usize, field(11) as usize);
        let name = std::str::from_utf8(&archive[at + 110..at + 109 + name_bytes]).expect("a name").to_owned();
        let data = (at + 110 + name_bytes).next_multiple_of(4);
        if name == "TRAILER!!!" {
            return entries;
        }
        assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "{name} is root's and has no time");
        let entry = Entry { mode: field(1), device: (field(9), field(10)), data: archive[data..data + bytes].to_vec() };
        assert!(entries.insert(name, entry).is_none(), "each path once");
        at = (data + bytes).next_multiple_of(4);
    }
}

/// Compresses a file with a program and removes the original. False if the program is missing.
pub fn pack(program: &str, file: &Path) -> bool {
    let made = Command::new(program).args(["-q", "-f"]).arg(file).stdin(Stdio::null()).status();
    let packed = made.is_ok_and(|status| status.success());
    let _ = fs::remove_file(file);
    packed
}

/// Copies a file system into the single partition, at 1 MiB, of a sparse disk of `bytes`.
pub fn make_disk(file_system: &Path, disk: &Path, bytes: u64) {
    use std::os::unix::fs::FileExt as _;
    let content = fs::read(file_system).expect("a file system");
    let mut table = vec![0; 512];
    table[446..450].copy_from_slice(&[0x80, 0, 2, 0]);
    table[450] = 0x83;
    table[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    table[458..462].copy_from_slice(&((content.len() / 512) as u32).to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = fs::File::create(disk).expect("a disk");
    file.write_all(&table).expect("a table");
    file.write_all_at(&content, 1 << 20).expect("a partition");
    file.set_len(bytes).expect("a sparse disk");
}
