//! Inputs that cannot be published: each ends with a clear error, and nothing is published.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::lab::{Lab, Random, code, stderr};

/// Runs a publish that must fail with this exit code and these words, and leave no head.
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
    let packed: [(&str, &[u8], &str); 6] = [
        ("a.qcow2", b"QFI\xfb\0\0\0\x03", "qemu-img convert -O raw a.qcow2 a.img"),
        ("a.vmdk", b"KDMV\x01", "qemu-img convert -O raw a.vmdk a.img"),
        ("a.img.gz", b"\x1f\x8b\x08\0", "gzip -dc a.img.gz > a.img"),
        ("a.img.xz", b"\xfd7zXZ\0\0", "xz -dc a.img.xz > a.img"),
        ("a.img.zst", b"\x28\xb5\x2f\xfd\0", "zstd -dc a.img.zst > a.img"),
        ("a.vdi", b"<<< Oracle VM", "qemu-img convert -O raw a.vdi a.img"),
    ];
    for (file, magic, command) in packed {
        let mut bytes = magic.to_vec();
        bytes.resize(4096, 1);
        lab.write(file, bytes);
        refused(&lab, 1, &[file, "--name", "packed"], &["not a raw image", command]);
    }
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
    refused(&lab, 2, &["image.img", "--colour"], &["--colour", "Usage"]);
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
