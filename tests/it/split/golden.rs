//! The cuts of an image are part of the format: those of one image are frozen here.
//!
//! A change of these cuts is more than a change of a test. After it, no image shares anything with what mirrors hold.
//! It needs a new revision of the rule, with a file of its own.

use super::cuts;
use super::image::{Kind, pages};
use hfl::split::{Cut, PageSize, Rule};
use sha1::{Digest, Sha1};
use std::path::Path;

#[test]
fn fixed_is_frozen() {
    compare("split-fixed.txt", Rule::Fixed(262_144));
}

#[test]
fn pages_1_is_frozen() {
    compare("split-pages.txt", Rule::PAGES);
}

#[test]
fn pages_1_of_smaller_pages_is_frozen() {
    compare("split-pages-1024.txt", Rule::Pages(PageSize::OneKib));
    compare("split-pages-2048.txt", Rule::Pages(PageSize::TwoKib));
}

#[test]
fn bytes_1_is_frozen() {
    compare("split-bytes.txt", Rule::Bytes);
}

#[test]
fn content_1_is_frozen() {
    let disk = super::disks::disk_of_everything(&image());
    compare_image("split-content.txt", Rule::Content1, &disk);
    compare_image("split-content.txt", Rule::Content, &disk);
}

#[test]
fn content_1_of_compressed_file_systems_is_frozen() {
    compare_image("split-packed.txt", Rule::Content1, &super::packed::frozen());
    compare_image("split-erofs.txt", Rule::Content1, &super::packed::frozen_erofs());
}

#[test]
fn content_2_is_frozen() {
    compare_image("split-iso.txt", Rule::Content, &super::packed::frozen());
    compare_image("split-erofs.txt", Rule::Content, &super::packed::frozen_erofs());
    for (file, page) in [("split-files-1024.txt", PageSize::OneKib), ("split-files.txt", PageSize::FourKib)] {
        compare_image(file, Rule::Content, &super::files::frozen(page));
    }
}

/// 1,664 pages: the contents of a small ext4 image, then a big file, small files, and a short last page.
fn image() -> Vec<u8> {
    let mut runs = vec![(Kind::Plain, 3), (Kind::Zero, 13), (Kind::Inodes, 150), (Kind::Zero, 40)];
    for file in 1..60 {
        runs.extend([
            (Kind::Plain, file * 7 % 23),
            (Kind::Tail, 1),
            (Kind::Zero, usize::from(file % 9 == 0) * (file / 6)),
        ]);
        runs.push(if file % 4 == 0 {
            (Kind::DirectoryStart, 1)
        } else {
            (Kind::DirectoryEnd, usize::from(file % 7 == 0))
        });
    }
    runs.extend([
        (Kind::Plain, 600),
        (Kind::Tail, 80),
        (Kind::NearlyInodes, 2),
        (Kind::NearlyZero, 5),
        (Kind::Plain, 2),
    ]);
    pages(&runs, 1000, 2026)
}

/// One line per block: its SHA-1, its length, its first span, and the number of its spans.
fn line(cut: &Cut) -> String {
    let digest: String = Sha1::digest(&cut.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let first = cut.spans[0];
    format!("{digest} {} {}+{} {}", cut.bytes.len(), first.offset, first.len, cut.spans.len())
}

fn compare(file: &str, rule: Rule) {
    compare_image(file, rule, &image());
}

fn compare_image(file: &str, rule: Rule, image: &[u8]) {
    let found: Vec<String> = cuts(rule, image).iter().map(line).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let frozen: Vec<&str> = text.lines().collect();
    let gone = frozen.iter().filter(|line| !found.iter().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = found.iter().filter(|line| !frozen.contains(&line.as_str())).map(|line| format!("+ {line}"));
    let diff: Vec<String> = gone.chain(new).collect();
    let hint = "`-` is frozen, `+` is what this program does";
    assert!(diff.is_empty(), "{rule} differs from {}; {hint}:\n{}\n", path.display(), diff.join("\n"));
    assert!(frozen == found, "{rule}: the blocks of {} come in another order", path.display());
}
