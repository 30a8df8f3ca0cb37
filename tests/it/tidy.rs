//! Keeps the house tidy: the layers look down only, and every module says what it is.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first; a module of one may use those of lower ones and of its own, never of a higher one.
const LAYERS: [&[&str]; 7] = [
    &[
        "block",
        "delta",
        "digest",
        "elf",
        "doc",
        "head",
        "image_list",
        "index",
        "keys",
        "layout",
        "mirrors",
        "name",
        "profile",
        "retirement",
        "weaken",
        "sign",
        "split",
        "text",
        "time",
        "url",
    ],
    &["bridge", "child", "store"],
    &["read"],
    &["survey"],
    &["boot", "template"],
    &["publish", "mount"],
    &["emulate"],
];

fn sources() -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(src).into_iter().flatten().map(walkdir::DirEntry::into_path);
    files.filter(|f| f.extension().is_some_and(|e| e == "rs")).collect()
}

/// The first component of a source's path below `src`, without `.rs`.
fn module(file: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = file.strip_prefix(src).unwrap().components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The modules of this crate that a text names as `crate::module`.
fn used(text: &str) -> Vec<&str> {
    text.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect()
}

#[test]
fn imports_go_down_only() {
    let mut checked = 0;
    for file in sources() {
        let (own, text) = (module(&file), fs::read_to_string(&file).unwrap());
        let Some(own_layer) = layer(&own) else {
            assert!(["lib", "bin"].contains(&own.as_str()), "{} is in no layer", file.display());
            continue;
        };
        assert!(!text.contains("use crate::{"), "{}: one line for each import", file.display());
        for other in used(&text) {
            let Some(other_layer) = layer(other) else { continue };
            let siblings = own_layer == 5 && own != other && other_layer == 5;
            assert!(other_layer <= own_layer && !siblings, "{}: {own} must not use {other}", file.display());
            checked += 1;
        }
    }
    println!("{checked} imports look down");
    assert!(checked > 150);
}

#[test]
fn the_vocabulary_is_pure() {
    for file in sources().iter().filter(|f| layer(&module(f)) == Some(0)) {
        let text = fs::read_to_string(file).unwrap();
        for impure in [
            "std::fs",
            "TcpStream",
            "UdpSocket",
            "std::thread",
            "std::env",
            "SystemTime::now",
            "tokio::",
            "Instant::now",
        ] {
            let threads_alone = impure == "std::thread" && text.contains("thread_local!");
            assert!(!text.contains(impure) || threads_alone, "{}: {impure}", file.display());
        }
    }
}

/// Debian 12 has Rust 1.85 for machines that nobody else builds a standard library for; tests/cross.sh takes it.
#[test]
fn the_client_is_written_for_rust_1_85() {
    let not_in_it = ["publish", "survey", "retirement", "emulate", "boot", "elf", "mirrors", "sign", "split"];
    let drivers = ["bin/hfl/", "store/ftp", "store/rsync", "store/s3", "store/sftp", "store/webdav"];
    for file in sources().iter().filter(|file| !not_in_it.contains(&module(file).as_str())) {
        let shown = file.display().to_string();
        let text = fs::read_to_string(file).unwrap();
        let is_in_it = !drivers.iter().any(|driver| shown.contains(&format!("/src/{driver}")));
        for newer in ["&& let ", ".with_added_extension(", ".cast_signed()", ".cast_unsigned()"] {
            assert!(!is_in_it || !text.contains(newer), "{shown}: `{newer}` is newer than 1.85");
        }
    }
}

#[test]
fn every_module_says_what_it_is_and_nothing_is_left_undone() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} begins without a word about itself", file.display());
        for undone in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
            assert!(!text.contains(undone), "{}: {undone}", file.display());
        }
        let library = !file.components().any(|c| c.as_os_str() == "bin");
        assert!(!library || !text.contains("println!("), "{}: the library is silent", file.display());
    }
}

/// Programs are started with [`hfl::child::command`], which keeps secrets from them; hfl-mount calls itself again as it is.
#[test]
fn programs_are_started_in_one_place() {
    let own = ["src/child.rs", "bin/hfl-mount/root.rs"];
    for file in sources().iter().filter(|file| !own.iter().any(|own| file.display().to_string().ends_with(own))) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("Command::new("), "{}: use child::command", file.display());
    }
}
