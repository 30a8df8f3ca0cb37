//! Inputs that cannot be published: each causes a clear error, and nothing is published.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::lab::{Lab, Random, code, make_ext4, or_skip, skipped, stderr, tool};

/// Runs a publish that must fail with this exit code and these words in its message, and publish no head.
fn refused(lab: &Lab, expected: i32, arguments: &[&str], words: &[&str]) {
    let all: Vec<&str> =
        ["publish"].into_iter().chain(arguments.iter().copied()).chain(["--to", "mirrors.toml"]).collect();
    let text = lab.fails(expected, &all);
    for word in words {
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    let heads: Vec<String> = lab.files("public").into_iter().filter(|f| f.ends_with(".head")).collect();
    assert!(heads.is_empty(), "{arguments:?} published {heads:?}");
}

#[test]
fn what_is_no_raw_image() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("empty.img", "");
    fs::create_dir(lab.path("dir.img")).unwrap();
    assert!(Command::new("mkfifo").arg(lab.path("fifo.img")).status().unwrap().success());
    refused(&lab, 1, &["empty.img"], &["empty.img: empty"]);
    refused(&lab, 1, &["dir.img"], &["a directory, not an image", "hint: make an image of it"]);
    refused(&lab, 1, &["fifo.img"], &["a pipe or socket", "standard input"]);
    refused(&lab, 1, &["/dev/zero", "--name", "zero"], &["a character device"]);
    refused(&lab, 1, &["missing.img"], &["missing.img: no such file"]);
    refused(&lab, 1, &["-", "--name", "nothing"], &["standard input is empty"]);
    let files: [(&str, usize, &[u8], &str); 6] = [
        ("a.qed", 0, b"QED\0", "qemu-img convert -O raw a.qed a.img"),
        ("a.hdd", 0, b"WithouFreSpacExt", "qemu-img convert -O raw a.hdd a.img"),
        ("a.zip", 0, b"PK\x03\x04", "unzip -p a.zip > a.img"),
        ("a.7z", 0, b"7z\xbc\xaf\x27\x1c", "7z x -so a.7z > a.img"),
        ("a.tar", 257, b"ustar\0", "tar -xf a.tar -C TREE && mke2fs -t ext4 -d TREE a.img 2G"),
        ("a.cpio", 0, b"070701", "cpio -id -D TREE < a.cpio && mke2fs"),
    ];
    for (file, at, magic, words) in files {
        let mut bytes = vec![1; 4096];
        bytes[at..][..magic.len()].copy_from_slice(magic);
        lab.write(file, bytes);
        refused(&lab, 1, &[file, "--name", "packed"], &[file, words]);
    }
}

/// A virtual disk is read at any offset, so not from a pipe, and not while it is compressed.
#[test]
fn a_virtual_disk_needs_a_file() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("a.qcow2", [&b"QFI\xfb\0\0\0\x03"[..], &[0; 4096]].concat());
    let pipe = publish_pipe(&lab, "a.qcow2", u64::MAX, &[]);
    let words = "a qcow2 image: not a raw image; its blocks would share nothing";
    assert!(code(&pipe) == 1 && stderr(&pipe).contains(words), "{}", stderr(&pipe));
    let Some(()) = compress(&lab, "gzip", &["-c"], "a.qcow2", "a.qcow2.gz") else { return };
    refused(&lab, 1, &["a.qcow2.gz"], &["a qcow2 image within gzip", "qemu-img convert -O raw FILE a.img"]);
}

/// Compresses a lab file with a program that writes to standard output.
fn compress(lab: &Lab, program: &str, arguments: &[&str], from: &str, to: &str) -> Option<()> {
    let input = fs::File::open(lab.path(from)).unwrap();
    let output = Command::new(program).args(arguments).stdin(input).output();
    let output = output.ok().or_else(|| or_skip(Err(format!("{program} is missing"))))?;
    assert!(output.status.success(), "{program}: {}", stderr(&output));
    lab.write(to, output.stdout);
    Some(())
}

/// The same bytes give the same version, whether they come from a file, a pipe, or compressed.
#[test]
fn the_same_bytes_give_the_same_version_however_they_come() {
    let lab = Lab::with_mirrors(&["public"]);
    let small = Random(9).bytes(1_500_000);
    lab.write("os.img", crate::split::disks::disk_of_everything(&small));
    lab.publish(&["os.img", "--name", "pipe"]);
    lab.publish(&["os.img"]);
    let same = |report: serde_json::Value, what: &str| assert_eq!(report["outcome"], "no-change", "{what}: {report}");
    let pipe = |file: &str| {
        let output = publish_pipe(&lab, file, u64::MAX, &["--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{file}: {}", stderr(&output)))
    };
    same(pipe("os.img"), "a pipe");
    lab.ok(&["restore", "public/os", "back.img", "-q"]);
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("os.img")).unwrap());
    for (program, arguments, file) in [
        ("gzip", &["-1", "-c"][..], "os.img.gz"),
        ("xz", &["-0", "-c"], "os.img.xz"),
        ("zstd", &["-1", "-c", "-q"], "os.img.zst"),
        ("bzip2", &["-1", "-c"], "os.img.bz2"),
        ("lz4", &["-1", "-c", "-q"], "os.img.lz4"),
    ] {
        let Some(()) = compress(&lab, program, arguments, "os.img", file) else { continue };
        same(lab.publish(&[file]), file);
        same(pipe(file), &format!("{file} from a pipe"));
        let whole = fs::read(lab.path(file)).unwrap();
        for end in [whole.len() / 2, whole.len() - 1] {
            lab.write("cut", &whole[..end]);
            let text = lab.fails(1, &["publish", "cut", "--name", "os", "--to", "mirrors.toml"]);
            assert!(text.contains("cut: damaged or cut off"), "{file} until {end}: {text}");
        }
        // Two files in one, as these programs and their parallel versions write them.
        lab.write("twice", [&whole[..], &whole].concat());
        lab.publish(&["twice", "--name", "twice"]);
        lab.ok(&["restore", "public/twice", "back.img", "-q", "--force"]);
        let image = fs::read(lab.path("os.img")).unwrap();
        assert!(fs::read(lab.path("back.img")).unwrap() == [&image[..], &image].concat(), "{file} twice");
        compress(&lab, program, arguments, file, "packed-twice");
        let text = lab.fails(1, &["publish", "packed-twice", "--name", "os", "--to", "mirrors.toml"]);
        assert!(text.contains("unpack it once"), "{text}");
    }
    assert_eq!(lab.publish(&["os.img"])["outcome"], "no-change");
}

/// Files of an ext4 are cut in the order of their paths, so the image must be read at any offset, whatever holds it.
#[test]
fn a_real_ext4_is_cut_alike_however_it_comes() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 150, 5);
    make_ext4(&lab.path("tree"), &lab.path("os.img"), "24M");
    assert_eq!(lab.publish(&["os.img"])["split"], "content 2");
    lab.publish(&["os.img", "--name", "pipe"]);
    let Some(()) = compress(&lab, "gzip", &["-1", "-c"], "os.img", "os.img.gz") else { return };
    assert_eq!(lab.publish(&["os.img.gz"])["outcome"], "no-change");
    for file in ["os.img", "os.img.gz"] {
        let output = publish_pipe(&lab, file, u64::MAX, &["--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(report["outcome"], "no-change", "{file} from a pipe: {}", stderr(&output));
    }
    let convert = |arguments: &[&str]| {
        Command::new("qemu-img").args(arguments).args(["os.img", "os.qcow2"]).current_dir(lab.path("")).status()
    };
    match convert(&["convert", "-c", "-O", "qcow2"]) {
        Ok(status) if status.success() => assert_eq!(lab.publish(&["os.qcow2"])["outcome"], "no-change"),
        _ => skipped("qemu-img cannot be run"),
    }
    // A seed is cut by the same rule, and so has every block.
    let report = lab.ok(&["restore", "public/os", "back.img", "--seed", "os.img.gz", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
    assert_eq!(report["fetched_blocks"], 0, "{report}");
    assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("os.img")).unwrap());
    let cache = walkdir::WalkDir::new(lab.path("home/.cache")).into_iter().filter_map(Result::ok);
    assert_eq!(cache.filter(|entry| entry.file_type().is_file()).count(), 0, "nothing remains");
}

/// A rule is not changed by accident: without --split, that of the version before counts.
#[test]
fn the_rule_of_the_version_before_stays() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("os.img", Random(2).bytes(400_000));
    assert_eq!(lab.publish(&["os.img", "--split", "pages"])["split"], "pages 1");
    lab.write("os.img", Random(3).bytes(400_000));
    assert_eq!(lab.publish(&["os.img"])["split"], "pages 1");
    let other = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--split", "bytes"]);
    let words =
        "cut by `bytes 1`, otherwise than version 2, which was cut by `pages 1`: almost nothing is shared with it";
    assert!(code(&other) == 0 && stderr(&other).contains(words), "{}", stderr(&other));
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("[publish]\nsplit = \"fixed:64K\"\n{toml}"));
    let kept = lab.run(&["publish", "os.img", "--to", "mirrors.toml"]);
    let words =
        "cut by `bytes 1`, like version 3; `split` of mirrors.toml says `fixed 65536`, which counts for first versions";
    assert!(code(&kept) == 0 && stderr(&kept).contains(words), "{}", stderr(&kept));
    assert_eq!(lab.publish(&["os.img", "--name", "another"])["split"], "fixed 65536");
}

#[test]
fn what_may_be_a_mistake_is_told() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 20, 3);
    crate::support::lab::make_ext4(&lab.path("tree"), &lab.path("os.img"), "16M");
    assert!(!stderr(&lab.run(&["publish", "os.img", "--to", "mirrors.toml"])).contains("warning"));
    let image = fs::File::options().read(true).write(true).open(lab.path("os.img")).unwrap();
    let mut features = [0];
    image.read_exact_at(&mut features, 1024 + 96).unwrap();
    image.write_all_at(&[features[0] | 4], 1024 + 96).unwrap();
    let unclean = stderr(&lab.run(&["publish", "os.img", "--to", "mirrors.toml"]));
    assert!(unclean.contains("os.img: the ext4 file system at byte 0 was not unmounted"), "{unclean}");
    lab.write("os.img", Random(3).bytes(4096));
    let small = stderr(&lab.run(&["publish", "os.img", "--to", "mirrors.toml"]));
    assert!(small.contains("os.img: 4096 bytes, the version before has 16777216: is it the right image?"), "{small}");
}

#[test]
fn what_is_no_call() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("image.img", Random(1).bytes(10_000));
    lab.write("A b.img", Random(1).bytes(10_000));
    refused(&lab, 2, &["A b.img"], &["cannot be the image's name", "hint: --name a-b"]);
    refused(&lab, 2, &["image.img", "--name", "../../etc"], &["is not allowed in a name"]);
    refused(&lab, 2, &["image.img", "--split", "fixed:3k"], &["fixed"]);
    refused(&lab, 2, &["image.img", "--level", "13"], &["13"]);
    refused(&lab, 2, &["image.img", "--jobs", "0"], &["0"]);
    refused(&lab, 2, &["image.img", "--label", "a\nb"], &["label"]);
    refused(&lab, 2, &["image.img", "--colour"], &["hfl: error: unexpected", "--colour", "Usage"]);
    refused(&lab, 2, &["mirrors.toml"], &["names the mirrors, and is no image"]);
    refused(
        &lab,
        1,
        &["https://host/image.img", "--name", "x"],
        &["hint: images are files: curl -sf https://host/image.img |"],
    );
    fs::create_dir(lab.path("rootfs")).unwrap();
    refused(&lab, 1, &["rootfs/."], &["a directory, not an image", "--fs erofs"]);
    assert!(lab.fails(2, &["serve", "public", "--listen", "x"]).contains("as in 8080"));
    for (toml, words) in [
        ("", "no mirror"),
        (
            "[[mirror]]\nname = \"a\"\nwrite = \"./a\"\n[[mirors]]\n",
            "line 4: unknown key `mirors` at the top of the file; did you mean `mirror`?",
        ),
        ("[[mirror]]\nname = \"a\"\nwrite = \"gopher://a/\"\n", "unknown protocol `gopher`"),
        ("[[mirror]]\nname = \"a\"\nwrite = \"ftp://u:secret@h/\"\n", "a password does not belong into the URL"),
        ("[[mirror]]\nname = \"a\"\nwrite = \"./a\"\nenabled = false\n", "every mirror is disabled"),
        ("[[mirror]]\nname = \"a\"\nwrite = \"./a\"\nread = \"http://h:70000/\"\n", "port"),
        ("[[mirror]]\nname = \"a\"\n", "missing field `write`"),
    ] {
        lab.write("mirrors.toml", toml);
        refused(&lab, 2, &["image.img"], &[words]);
    }
    assert!(!lab.fails(2, &["publish", "image.img", "--to", "mirrors.toml"]).contains("secret"));
    let missing = lab.fails(1, &["publish", "image.img", "--to", "missing.toml"]);
    assert!(missing.contains("[[mirror]]"), "{missing}");
}

#[test]
fn an_image_that_changes_while_it_is_read() {
    let lab = Lab::with_mirrors(&["public"]);
    let image = lab.write("moving.img", Random(3).bytes(48 << 20));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().write(true).open(&image).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"moving").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let output = lab.run(&["publish", "moving.img", "--to", "mirrors.toml"]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains("changed while it was read; nothing was published"), "{}", stderr(&output));
    });
    assert!(!lab.path("public/moving.head").exists());
}

#[test]
fn an_image_that_shrinks_while_it_is_read() {
    let lab = Lab::with_mirrors(&["public"]);
    let image = lab.write("shrinking.img", Random(4).bytes(48 << 20));
    let child =
        lab.command(&["publish", "shrinking.img", "--to", "mirrors.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    fs::File::options().write(true).open(&image).unwrap().set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(!lab.path("public/shrinking.head").exists());
}

#[test]
fn output_that_nobody_takes() {
    let lab = Lab::with_mirrors(&["public"]);
    for arguments in [&["--help"][..], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = lab.command(arguments).stdout(full).output().unwrap();
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
    lab.write("image.img", Random(1).bytes(10_000));
    lab.publish(&["image.img"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = lab.command(&["log", "public/image"]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("no space left"), "{}", stderr(&output));
}

#[test]
fn errors_as_json() {
    let lab = Lab::with_mirrors(&["public"]);
    let text = lab.fails(1, &["publish", "missing.img", "--to", "mirrors.toml", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["exit"], 1);
    assert!(error["error"].as_str().unwrap().contains("missing.img"));
}

/// Publishes the first `bytes` bytes of a lab file through standard input.
fn publish_pipe(lab: &Lab, file: &str, bytes: u64, more: &[&str]) -> std::process::Output {
    let mut image = fs::File::open(lab.path(file)).unwrap().take(bytes);
    let arguments = [&["publish", "-", "--name", "pipe", "--to", "mirrors.toml"], more].concat();
    let mut child =
        lab.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = std::io::copy(&mut image, &mut child.stdin.take().unwrap());
    child.wait_with_output().unwrap()
}

/// Real images of every kind, whole and truncated. A truncated file is refused before anything is sent. Through a pipe,
/// truncation is detected at the end. `--force` publishes the image anyway.
#[test]
fn an_image_that_was_cut_off() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 120, 3);
    let sparse = |file: &str, bytes: u64| fs::File::create(lab.path(file)).unwrap().set_len(bytes).unwrap();
    let mib = |n: u64| n << 20;
    for (file, bytes) in [("ext2", mib(8)), ("ext4", mib(24)), ("xfs", mib(320)), ("btrfs", mib(128)), ("fat", mib(8))]
    {
        sparse(&format!("{file}.img"), bytes);
    }
    for disk in ["mbr.img", "gpt.img", "logical.img"] {
        sparse(disk, mib(32));
    }
    // Name of the image, expected message, program, arguments, standard input.
    let kinds: [(&str, &str, &str, &[&str], &str); 9] = [
        ("ext2", "the ext2 file system in it has 8388608", "mke2fs", &["-q", "-F", "-t", "ext2", "ext2.img"], ""),
        ("ext4", "the ext4 file system in it has 25165824", "mke2fs", &["-q", "-F", "-t", "ext4", "ext4.img"], ""),
        ("xfs", "the XFS file system in it has 335544320", "mkfs.xfs", &["-q", "-f", "xfs.img"], ""),
        ("btrfs", "the Btrfs file system in it has 134217728", "mkfs.btrfs", &["-q", "-f", "btrfs.img"], ""),
        ("squash", "the squashfs file system in it has", "mksquashfs", &["tree", "squash.img", "-quiet"], ""),
        ("erofs", "the EROFS file system in it has", "mkfs.erofs", &["erofs.img", "tree"], ""),
        (
            "mbr",
            "its partition table reaches to byte 25165824",
            "sfdisk",
            &["-q", "mbr.img"],
            "label: dos\n2048,47104,83\n",
        ),
        (
            "gpt",
            "its partition table reaches to byte 33554432",
            "sfdisk",
            &["-q", "gpt.img"],
            "label: gpt\n2048,2048,L\n",
        ),
        (
            "logical",
            "its partition table reaches to byte 16777216",
            "sfdisk",
            &["-q", "logical.img"],
            "label: dos\n2048,2048,83\n4096,28672,E\n6144,26624,83\n",
        ),
    ];
    for (name, said, program, arguments, input) in kinds {
        let Some(()) = tool(&lab, program, arguments, input) else { continue };
        let (whole, file) = (format!("{name}.img"), format!("{name}-cut.img"));
        lab.publish(&[&whole, "--dry-run"]);
        let bytes = 1_000_000.min(fs::metadata(lab.path(&whole)).unwrap().len() / 2);
        fs::copy(lab.path(&whole), lab.path(&file)).unwrap();
        fs::File::options().write(true).open(lab.path(&file)).unwrap().set_len(bytes).unwrap();
        let words = [said, &format!("only {bytes} came: was the input cut off?"), "--force"];
        refused(&lab, 1, &[&file], &words);
        let output = publish_pipe(&lab, &whole, bytes, &[]);
        assert_eq!(code(&output), 1, "{name}: {}", stderr(&output));
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{}", stderr(&output));
        assert!(!lab.path("public/pipe.head").exists());
    }
    // A FAT boot sector is not taken for a partition table, whatever bytes it ends with.
    if tool(&lab, "mkfs.vfat", &["fat.img"], "").is_some() {
        lab.publish(&["fat.img", "--dry-run"]);
    }
    lab.publish(&["ext4-cut.img", "--force"]);
    assert_eq!(code(&publish_pipe(&lab, "ext4.img", 20_000_000, &["--force"])), 0);
    assert_eq!(code(&publish_pipe(&lab, "ext4.img", mib(24), &[])), 0, "a whole one needs nothing");
}

#[test]
fn a_size_that_loop_devices_cut_is_told() {
    let lab = Lab::with_mirrors(&["public"]);
    lab.write("odd.img", Random(1).bytes(100_000));
    lab.write("even.img", Random(1).bytes(100_352));
    let odd = lab.run(&["publish", "odd.img", "--to", "mirrors.toml"]);
    assert_eq!(code(&odd), 0);
    let words = "warning: odd.img: 100000 bytes are no multiple of 512; loop devices lose the last 160 bytes";
    assert!(stderr(&odd).contains(words), "{}", stderr(&odd));
    assert!(!stderr(&lab.run(&["publish", "even.img", "--to", "mirrors.toml"])).contains("warning"));
}

/// A loop device, detached on drop.
struct Loop(String);

impl Loop {
    fn new(file: &std::path::Path, arguments: &[&str]) -> Option<Self> {
        let output = Command::new("losetup").args(arguments).args(["--show", "-f"]).arg(file).output().ok()?;
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Some(Self(device)) } else { or_skip(Err("no loop device".into())) }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Runs `work` while a device is mounted. Returns whether it could be mounted.
fn while_mounted(device: &str, options: &str, work: impl FnOnce()) -> bool {
    let point = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "ext4", "-o", options, device]).arg(point.path()).output().unwrap();
    if !mounted.status.success() {
        return or_skip::<()>(Err(format!("cannot mount {device}: {}", stderr(&mounted)))).is_some();
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    assert!(Command::new("umount").arg(point.path()).status().unwrap().success());
    done.unwrap();
    true
}

#[test]
fn a_device_that_is_in_use() {
    let lab = Lab::with_mirrors(&["public"]);
    crate::support::lab::make_tree(&lab.path("tree"), 20, 3);
    crate::support::lab::make_ext4(&lab.path("tree"), &lab.path("os.img"), "16M");
    let Some(device) = Loop::new(&lab.path("os.img"), &[]) else { return };
    let publish = [device.0.as_str(), "--name", "os"];
    let in_use = || {
        let words = ["in use: it is mounted, or part of something else", "unmount it", "--force"];
        refused(&lab, 1, &publish, &words);
        lab.publish(&[device.0.as_str(), "--name", "forced", "--force"]);
        fs::remove_dir_all(lab.path("public")).unwrap();
    };
    if !while_mounted(&device.0, "rw", in_use) {
        return;
    }
    lab.publish(&publish);
    drop(device);
    let Some(device) = Loop::new(&lab.path("os.img"), &["-r"]) else { return };
    while_mounted(&device.0, "ro", || {
        assert_eq!(lab.publish(&[&device.0, "--name", "read-only"])["version"], 1, "nobody can write to it");
    });
}
