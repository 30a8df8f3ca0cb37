//! Images in the files of virtual machines, and sparse images of Android: their contents are published.

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::support::lab::{Lab, Mounted, Random, stderr, tool};

const MIB: usize = 1 << 20;

/// A disk of 24 MiB: data, a hole, data that compresses, zeros that are written.
fn disk(seed: u64) -> Vec<u8> {
    let mut disk = vec![0; 24 * MIB];
    disk[..2 * MIB].copy_from_slice(&Random(seed).bytes(2 * MIB));
    disk[9 * MIB..][..MIB].copy_from_slice(&Random(seed + 1).bytes(4096).repeat(256));
    disk[23 * MIB..].copy_from_slice(&Random(seed + 2).bytes(MIB));
    disk
}

fn qemu_img(lab: &Lab, arguments: &[&str]) -> Option<()> {
    tool(lab, "qemu-img", arguments, "")
}

#[track_caller]
fn same(lab: &Lab, file: &str) {
    let report = lab.publish(&[file, "--name", "os"]);
    assert_eq!(report["outcome"], "no-change", "{file}: {report}");
}

#[test]
fn virtual_disks_give_the_version_of_what_is_in_them() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("os.img", disk(1));
    assert_eq!(lab.publish(&["os.img"])["hole_bytes"], 20 * MIB);
    for (file, format, options) in [
        ("plain.qcow2", "qcow2", &[][..]),
        ("old.qcow2", "qcow2", &["-o", "compat=0.10,cluster_size=4096"]),
        ("compressed.qcow2", "qcow2", &["-c"]),
        ("zstd.qcow2", "qcow2", &["-c", "-o", "compression_type=zstd"]),
        ("extended.qcow2", "qcow2", &["-o", "extended_l2=on,cluster_size=131072"]),
        ("sparse.vmdk", "vmdk", &[]),
        ("stream.vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("flat.vmdk", "vmdk", &["-o", "subformat=monolithicFlat"]),
        ("extents.vmdk", "vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
        ("dynamic.vhd", "vpc", &["-o", "force_size=on"]),
        ("disk.vhdx", "vhdx", &[]),
        ("disk.vdi", "vdi", &[]),
    ] {
        let arguments = [&["convert", "-f", "raw", "-O", format], options, &["os.img", file]].concat();
        let Some(()) = qemu_img(&lab, &arguments) else { return };
        same(&lab, file);
    }
    // An image and what was changed in it since, in two files, the second of which names the first.
    let Some(()) = qemu_img(&lab, &["create", "-q", "-f", "qcow2", "-b", "plain.qcow2", "-F", "qcow2", "over.qcow2"])
    else {
        return;
    };
    same(&lab, "over.qcow2");
    tool(&lab, "qemu-io", &["-c", "write -P 7 3M 64k", "over.qcow2"], "");
    lab.publish(&["over.qcow2", "--name", "os"]);
    let mut changed = disk(1);
    changed[3 * MIB..][..65536].fill(7);
    lab.ok(&["restore", "public/os", "back.img", "-q"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == changed);
}

#[test]
fn a_virtual_disk_reads_no_file_outside_its_directory() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("secret.img", disk(2));
    fs::create_dir(lab.path("inner")).unwrap();
    let make = |arguments: &[&str]| qemu_img(&lab, arguments);
    let outside = lab.path("secret.img").display().to_string();
    for backing in ["../secret.img", &outside] {
        let arguments = ["create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "raw", "inner/a.qcow2", "24M"];
        let Some(()) = make(&arguments) else { return };
        let text = lab.fails(1, &["publish", "inner/a.qcow2", "--to", "mirrors.toml"]);
        assert!(text.contains("outside its own directory"), "{text}");
    }
    make(&["create", "-q", "-f", "qcow2", "-o", "data_file=../data.raw", "inner/d.qcow2", "24M"]);
    lab.write("data.raw", disk(4));
    let text = lab.fails(1, &["publish", "inner/d.qcow2", "--to", "mirrors.toml"]);
    assert!(text.contains("outside its own directory"), "{text}");
    std::os::unix::fs::symlink("../secret.img", lab.path("inner/link.img")).unwrap();
    make(&["create", "-q", "-f", "qcow2", "-u", "-b", "link.img", "-F", "raw", "inner/l.qcow2", "24M"]);
    let text = lab.fails(1, &["publish", "inner/l.qcow2", "--to", "mirrors.toml"]);
    assert!(text.contains("outside its own directory"), "{text}");
    lab.write(
        "inner/flat.vmdk",
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\
         RW 49152 FLAT \"../secret.img\" 0\n",
    );
    let text = lab.fails(1, &["publish", "inner/flat.vmdk", "--to", "mirrors.toml"]);
    assert!(text.contains("../secret.img, outside its own directory"), "{text}");
    assert!(lab.files("public").iter().all(|file| !file.ends_with(".head")));
}

#[test]
fn a_damaged_virtual_disk_is_an_error() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("os.img", disk(3));
    for (format, file, options, cut) in [
        ("qcow2", "a.qcow2", &[][..], "a.qcow2"),
        ("qcow2", "c.qcow2", &["-c"], "c.qcow2"),
        ("qcow2", "z.qcow2", &["-c", "-o", "compression_type=zstd"], "z.qcow2"),
        ("vmdk", "a.vmdk", &[], "a.vmdk"),
        ("vmdk", "s.vmdk", &["-o", "subformat=streamOptimized"], "s.vmdk"),
        ("vmdk", "f.vmdk", &["-o", "subformat=monolithicFlat"], "f-flat.vmdk"),
        ("vpc", "a.vhd", &[], "a.vhd"),
        ("vhdx", "a.vhdx", &[], "a.vhdx"),
        ("vdi", "a.vdi", &[], "a.vdi"),
    ] {
        let arguments = [&["convert", "-f", "raw", "-O", format], options, &["os.img", file]].concat();
        let Some(()) = qemu_img(&lab, &arguments) else { return };
        let bytes = fs::metadata(lab.path(cut)).unwrap().len();
        fs::File::options().write(true).open(lab.path(cut)).unwrap().set_len(bytes / 3).unwrap();
        let text = lab.fails(1, &["publish", file, "--name", "os", "--to", "mirrors.toml"]);
        assert!(text.contains(file), "{text}");
    }
    assert!(lab.files("public").iter().all(|file| !file.ends_with(".head")));
}

/// A sparse image of Android with chunks of all kinds.
#[test]
fn a_sparse_image_of_android() {
    let lab = Lab::with_mirrors(&["public"]);
    let data = Random(5).bytes(300 * 4096);
    let mut image = data.clone();
    image.resize(1000 * 4096, 0);
    image[700 * 4096..900 * 4096].chunks_mut(4).for_each(|word| word.copy_from_slice(b"abcd"));
    lab.write("os.img", &image);
    lab.publish(&["os.img"]);

    let chunk = |kind: u16, blocks: u32, data: &[u8]| {
        let total = 12 + data.len() as u32;
        let header = [&kind.to_le_bytes()[..], &[0, 0], &blocks.to_le_bytes(), &total.to_le_bytes()].concat();
        [&header[..], data].concat()
    };
    let header = |blocks: u32, chunks: u32| {
        let words = [4096, blocks, chunks, 0].map(u32::to_le_bytes).concat();
        [b"\x3a\xff\x26\xed\x01\0\0\0\x1c\0\x0c\0", &words[..]].concat()
    };
    let chunks = [
        chunk(0xcac1, 300, &data),
        chunk(0xcac3, 400, &[]),
        chunk(0xcac2, 200, b"abcd"),
        chunk(0xcac3, 100, &[]),
        chunk(0xcac4, 0, &[0; 4]),
    ];
    let sparse = [header(1000, 5), chunks.concat()].concat();
    lab.write("os.simg", &sparse);
    same(&lab, "os.simg");
    for (what, bytes) in [
        ("cut", sparse[..sparse.len() / 2].to_vec()),
        ("fewer", [header(1000, 3), chunks.concat()].concat()),
        ("more", [header(999, 5), chunks.concat()].concat()),
    ] {
        lab.write("bad.simg", bytes);
        let text = lab.fails(1, &["publish", "bad.simg", "--name", "os", "--to", "mirrors.toml"]);
        assert!(text.contains("bad.simg: damaged or cut off"), "{what}: {text}");
    }
}

/// Directories become images, the same ones each time.
#[test]
fn a_directory_is_published_as_an_image() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 30, 5);
    let mut names: Vec<String> = lab.files("tree");
    names.sort();
    assert!(lab.fails(1, &["publish", "tree", "--to", "mirrors.toml"]).contains("hfl publish --fs"));
    for (kind, program, version) in
        [("ext4", "mke2fs", "-V"), ("erofs", "mkfs.erofs", "--help"), ("squashfs", "mksquashfs", "-version")]
    {
        let name = format!("tree-{kind}");
        let Some(()) = tool(&lab, program, &[version], "") else { continue };
        let report = lab.publish(&["tree/", "--fs", kind, "--name", &name]);
        assert_eq!(report["outcome"], "published");
        let again = lab.publish(&["tree", "--fs", kind, "--name", &name]);
        assert_eq!(again["outcome"], "no-change", "{kind}: {again}");
        lab.ok(&["restore", &format!("public/{name}"), "back.img", "-q", "--force"]);
        let point = lab.path("mounted");
        let Some(_mounted) = Mounted::image(&point, &lab.path("back.img")) else { continue };
        for name in &names {
            let (one, two) = (fs::read(lab.path("tree").join(name)), fs::read(point.join(name)));
            assert!(one.unwrap() == two.unwrap(), "{kind}: {name}");
        }
    }
    lab.write("file.img", Random(1).bytes(10_000));
    let text = lab.fails(2, &["publish", "file.img", "--fs", "ext4", "--to", "mirrors.toml"]);
    assert!(text.contains("not a directory"), "{text}");
}

#[test]
fn free_blocks_are_read_as_zeros_when_asked() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 20, 3);
    lab.write("tree/old", Random(8).bytes(3 * MIB));
    crate::support::lab::make_ext4(&lab.path("tree"), &lab.path("os.img"), "32M");
    let Some(()) = tool(&lab, "debugfs", &["-w", "-R", "rm old", "os.img"], "") else { return };
    let text = stderr(&lab.run(&["publish", "os.img", "--to", "mirrors.toml"]));
    assert!(text.contains("old data in blocks that ext4 calls free; --zero-free leaves it out"), "{text}");
    lab.ok(&["restore", "public/os", "back.img", "-q"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("os.img")).unwrap(), "the default is exact");

    let plain = lab.publish(&["os.img"]);
    let holes = |report: &serde_json::Value| report["hole_bytes"].as_u64().unwrap();
    tool(&lab, "xz", &["-0", "-k", "os.img"], "");
    for file in ["os.img", "os.img.xz"] {
        let free = lab.publish(&[file, "--zero-free", "--name", "zero"]);
        assert!(holes(&free) >= holes(&plain) + 2 * MIB as u64, "{file}: {free}");
    }
    assert_eq!(lab.publish(&["os.img", "--zero-free", "--name", "zero"])["outcome"], "no-change");
    lab.ok(&["restore", "public/zero", "zero.img", "-q"]);
    tool(&lab, "e2fsck", &["-f", "-n", "zero.img"], "");
    let (before, after) = (fs::read(lab.path("os.img")).unwrap(), fs::read(lab.path("zero.img")).unwrap());
    let differ = before.iter().zip(&after).filter(|(one, two)| one != two);
    assert!(differ.clone().count() > 2 * MIB && differ.clone().all(|(_, now)| *now == 0));

    // What cannot be told for certain is not left out.
    let image = fs::File::options().read(true).write(true).open(lab.path("os.img")).unwrap();
    let mut number = [0; 4];
    image.read_exact_at(&mut number, 2048).unwrap();
    let bitmap = u64::from(u32::from_le_bytes(number)) * 1024;
    let mut bits = [0; 1];
    image.read_exact_at(&mut bits, bitmap + 200).unwrap();
    image.write_all_at(&[bits[0] ^ 1], bitmap + 200).unwrap();
    let text = lab.fails(1, &["publish", "os.img", "--zero-free", "--name", "zero", "--to", "mirrors.toml"]);
    assert!(text.contains("the block bitmap of group 0 is damaged") && text.contains("e2fsck"), "{text}");
    image.write_all_at(&bits, bitmap + 200).unwrap();
    let mut state = [0; 1];
    image.read_exact_at(&mut state, 1024 + 96).unwrap();
    image.write_all_at(&[state[0] | 4], 1024 + 96).unwrap();
    let text = lab.fails(1, &["publish", "os.img", "--zero-free", "--name", "zero", "--to", "mirrors.toml"]);
    assert!(text.contains("no ext4 file system that is clean"), "{text}");
}
