//! Flips one bit in every kind of file of a repository. Readers never return a wrong byte, errors are clear, and files
//! are repaired if a good copy exists.

use std::fs;
use std::path::PathBuf;

use crate::support::lab::{Lab, Random, check_mirror, make_ext4, make_tree, stderr};

fn published(mirrors: &[&str]) -> Lab {
    let lab = Lab::with_mirrors(mirrors);
    make_tree(&lab.path("tree"), 60, 7);
    make_ext4(&lab.path("tree"), &lab.path("os.img"), "16M");
    lab.publish(&["os.img"]);
    lab
}

fn flip(file: &PathBuf, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1 << (at % 8);
    fs::write(file, bytes).unwrap();
}

fn find(lab: &Lab, mirror: &str, wanted: impl Fn(&str) -> bool) -> PathBuf {
    let files = lab.files(mirror);
    lab.path(mirror).join(files.iter().find(|f| wanted(f)).expect("such a file"))
}

#[test]
fn restore_refuses_every_flipped_bit() {
    let lab = published(&["public"]);
    let kinds = [("head", "os.head"), ("index", ".idx"), ("block", "blocks/")];
    let mut random = Random(1);
    let mut flips = 0;
    for (kind, wanted) in kinds {
        let file = find(&lab, "public", |f| f.starts_with(wanted) || f.ends_with(wanted));
        let good = fs::read(&file).unwrap();
        for _ in 0..40 {
            flip(&file, random.next() as usize % good.len());
            let output = lab.run(&["restore", "public/os", "back.img", "--force", "-q", "--timeout", "500ms"]);
            // A flip in an untrusted comment, or in the padding after a stream's last bit, changes nothing.
            if output.status.success() {
                assert_ne!(kind, "index");
                assert!(fs::read(lab.path("back.img")).unwrap() == fs::read(lab.path("os.img")).unwrap());
                fs::remove_file(lab.path("back.img")).unwrap();
            } else {
                assert_eq!(output.status.code(), Some(3), "{kind}: {}", stderr(&output));
                assert!(!lab.path("back.img").exists());
            }
            flips += 1;
            fs::write(&file, &good).unwrap();
        }
    }
    println!("{flips} flipped bits, no wrong byte came out");
    lab.ok(&["restore", "public/os", "back.img", "-q"]);
}

#[test]
fn a_damaged_head_stops_a_publisher_unless_another_mirror_has_a_good_one() {
    let lab = published(&["a", "b"]);
    flip(&lab.path("a/os.head"), 60);
    let output = lab.run(&["publish", "os.img", "--force", "--to", "mirrors.toml", "--json"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
    flip(&lab.path("b/os.head"), 60);
    let text = lab.fails(3, &["publish", "os.img", "--to", "mirrors.toml"]);
    assert!(text.contains("os.head"), "{text}");
}

#[test]
fn a_damaged_index_is_named_and_healed_from_another_mirror() {
    let lab = published(&["a", "b"]);
    let index = |mirror: &str| find(&lab, mirror, |f| f.ends_with(".idx"));
    flip(&index("a"), 300);
    lab.ok(&["publish", "os.img", "--force", "--to", "mirrors.toml", "-q"]);
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [2, 1], "mirror {mirror}");
    }
    let both = published(&["public"]);
    flip(&find(&both, "public", |f| f.ends_with(".idx")), 300);
    let text = both.fails(3, &["sync", "--to", "mirrors.toml"]);
    assert!(text.contains("no mirror has a good index of os version 1"), "{text}");
    // The image suffices to publish the next version. The damaged version stays in the history.
    let output = both.run(&["publish", "os.img", "--to", "mirrors.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("no mirror has a good copy of index/os/1-"), "{output:?}");
    both.ok(&["restore", "public/os", "back.img"]);
    let log = both.ok(&["log", "public/os"]);
    assert!(log.lines().any(|line| line.trim_start().starts_with("1 ")), "{log}");
}

#[test]
fn damaged_blocks_that_nobody_vouches_for_are_replaced() {
    let lab = published(&["public"]);
    fs::remove_file(lab.path("public/os.head")).unwrap();
    fs::remove_file(lab.path("public/images")).unwrap();
    let blocks: Vec<String> = lab.files("public").into_iter().filter(|f| f.starts_with("blocks/")).collect();
    flip(&lab.path("public").join(&blocks[0]), 20);
    fs::write(lab.path("public").join(&blocks[1]), "").unwrap();
    fs::write(lab.path("public").join(&blocks[2]), vec![b'x'; 8 << 20]).unwrap();
    let report = lab.publish(&["os.img", "--first"]);
    assert_eq!(report["mirrors"][0]["repaired"], 3);
    assert_eq!(report["mirrors"][0]["found"].as_u64(), Some(blocks.len() as u64 - 3));
    assert_eq!(check_mirror(&lab.path("public"), "os", &lab.trust("os")), [2], "the number 1 is not used again");
}

#[test]
fn a_damaged_list_of_images_costs_that_mirror_only() {
    let lab = published(&["a", "b"]);
    fs::write(lab.path("a/images"), b"o\xf3\n").unwrap();
    let output = lab.run(&["publish", "os.img", "--force", "--to", "mirrors.toml", "--json"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["mirrors"][0]["why"].as_str().unwrap().contains("is not the name of an image"), "{report}");
    assert_eq!(check_mirror(&lab.path("b"), "os", &lab.trust("os")), [2, 1]);
    let text = published(&["a"]);
    fs::write(text.path("a/images"), b"o\xf3\n").unwrap();
    assert!(text.fails(3, &["publish", "os.img", "--force", "--to", "mirrors.toml"]).contains("correct it by hand"));
}

#[test]
fn a_damaged_signature_of_an_index_is_not_needed_and_not_accepted() {
    let lab = published(&["public"]);
    let signature = find(&lab, "public", |f| f.ends_with(".minisig"));
    flip(&signature, 120);
    lab.ok(&["restore", "public/os", "back.img", "-q"]);
    let index = lab.path("public").join(signature.with_extension(""));
    let mut minisign = std::process::Command::new("minisign");
    minisign.arg("-Vm").arg(index).arg("-p").arg(lab.path("home/.config/hfl/keys/os.pub"));
    match minisign.output() {
        Err(e) => crate::support::lab::skipped(&format!("minisign cannot be run: {e}")),
        Ok(output) => assert!(!output.status.success()),
    }
}

#[test]
fn a_missing_block_is_made_again_before_the_head_switches() {
    let lab = published(&["public"]);
    let block = find(&lab, "public", |f| f.starts_with("blocks/"));
    let packed = std::process::Command::new("gzip").args(["-1", "-k"]).arg(lab.path("os.img")).status();
    assert!(packed.unwrap().success());
    // Of a compressed file the image is unpacked a second time.
    for (image, versions) in [("os.img", &[2, 1][..]), ("os.img.gz", &[3, 2, 1])] {
        fs::remove_file(&block).unwrap();
        let output = lab.run(&["publish", image, "--force", "--to", "mirrors.toml"]);
        assert_eq!(output.status.code(), Some(0), "{image}: {}", stderr(&output));
        assert!(stderr(&output).contains("made again"), "{image}: {}", stderr(&output));
        assert_eq!(check_mirror(&lab.path("public"), "os", &lab.trust("os")), versions);
    }
    // Without the image at hand, no head is switched.
    lab.write("os.img", Random(3).bytes(300_000));
    lab.publish(&["os.img"]);
    fs::remove_file(&block).unwrap();
    let text = lab.fails(3, &["rollback", "os", "1", "--label", "again", "--to", "mirrors.toml"]);
    assert!(text.contains("missing"), "{text}");
    assert!(fs::read_to_string(lab.path("public/os.head")).unwrap().contains("versions 4\n"));
}
