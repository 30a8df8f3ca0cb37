//! Checks the source tree: each folder is a layer, imports go down only and without cycles, and every
//! module has a header.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use self::imports::{Import, Module, Sources};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Sources of the library, parsed once for all tests.
static LIBRARY: LazyLock<Sources> = LazyLock::new(|| Sources::read(&root().join("lib.rs")));

/// The layers in the order of lib.rs, lowest first. Folders listed together there share a layer and do
/// not import each other.
fn layers() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let modules = |block: &str| -> Vec<String> {
        let lines =
            block.lines().filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")));
        lines.map(|line| line.trim_end_matches(';').to_owned()).collect()
    };
    text.split("\n\n").map(modules).filter(|layer| !layer.is_empty()).collect()
}

/// Import cycles, as lists of modules. Imports between a module and its own parents or children do not
/// count: together they are one module split over several files.
fn circles(imports: &BTreeSet<Import>) -> Vec<Vec<Module>> {
    let is_kin = |import: &Import| import.from.starts_with(&import.to) || import.to.starts_with(&import.from);
    let mut next: BTreeMap<&Module, Vec<&Module>> = BTreeMap::new();
    imports.iter().filter(|import| !is_kin(import)).for_each(|i| next.entry(&i.from).or_default().push(&i.to));
    let reached = |start| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            let fresh = next.get(module).into_iter().flatten().filter(|module| seen.insert(**module));
            open.extend(fresh.copied());
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = next.keys().map(|&module| (module, reached(module))).collect();
    let mut found = BTreeSet::new();
    for (module, others) in &reach {
        if others.contains(module) {
            let circle = others.iter().filter(|other| reach.get(**other).is_some_and(|back| back.contains(module)));
            found.insert(circle.map(|module| (*module).clone()).collect::<Vec<Module>>());
        }
    }
    found.into_iter().collect()
}

#[test]
fn imports_go_down_only() {
    let (library, layers) = (&*LIBRARY, layers());
    let layer = |module: &Module| layers.iter().position(|layer| module.first().is_some_and(|m| layer.contains(m)));
    let imports = library.imports(library, "crate");
    let goes_up = |import: &&Import| {
        let (from, to) = (layer(&import.from), layer(&import.to));
        to > from || (to == from && import.from.first() != import.to.first())
    };
    let up: Vec<String> = imports.iter().filter(goes_up).map(shown).collect();
    assert_eq!(up, Vec::<String>::new(), "these look up");
    for (module, path) in library.files().filter(|(module, _)| !module.is_empty()) {
        assert!(layer(module).is_some(), "{} is in no layer", path.display());
    }
    println!("{} imports look down, in {} layers", imports.len(), layers.len());
    assert!(imports.len() > 800);
}

#[test]
fn no_file_leads_back_to_itself() {
    let mut of_crates = vec![("the library", circles(&LIBRARY.imports(&LIBRARY, "crate")))];
    for binary in ["hfl", "hfl-mount"] {
        let sources = Sources::read(&root().join("bin").join(binary).join("main.rs"));
        of_crates.push((binary, circles(&sources.imports(&sources, "crate"))));
    }
    for (name, circles) in of_crates {
        let shown: Vec<String> =
            circles.iter().map(|circle| circle.iter().map(|m| m.join("::")).collect::<Vec<_>>().join(", ")).collect();
        assert_eq!(shown, Vec::<String>::new(), "circles in {name}");
    }
}

/// A store moves bytes at paths; it does not know formats.
#[test]
fn stores_know_no_block_index_or_head() {
    for import in LIBRARY.imports(&LIBRARY, "crate").iter().filter(|import| import.from.starts_with(&["store".into()]))
    {
        let of_formats = import.to.get(1).filter(|_| import.to[0] == "format");
        let unknown = ["block", "delta", "head", "index", "profile", "retirement"];
        assert!(of_formats.is_none_or(|part| !unknown.contains(&part.as_str())), "{}", shown(import));
    }
}

fn shown(import: &Import) -> String {
    format!("{} -> {}", import.from.join("::"), import.to.join("::"))
}

fn sources() -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(root()).into_iter().flatten().map(walkdir::DirEntry::into_path);
    files.filter(|f| f.extension().is_some_and(|e| e == "rs")).collect()
}

/// Whether `file` is one of `folders` or lies below one of them; the entries are relative to `src` and
/// may be files.
fn is_in(file: &Path, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.starts_with(root().join(folder)))
}

/// Modules with children use `mod.rs`.
#[test]
fn a_folder_has_a_mod_file() {
    for file in sources() {
        let folder = file.with_extension("");
        assert!(!folder.is_dir(), "{} belongs into {}", file.display(), folder.join("mod.rs").display());
    }
}

#[test]
fn formats_are_pure() {
    for file in sources().iter().filter(|f| is_in(f, &["format", "config", "split"])) {
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

/// Debian 12 ships Rust 1.85 with standard libraries for machines that no other source covers;
/// tests/cross.sh uses it.
#[test]
fn the_client_is_written_for_rust_1_85() {
    let publishers = ["bin/hfl", "boot", "config", "disk", "error.rs", "publish", "qemu", "repo/survey", "split"];
    let drivers = ["store/ftp", "store/rsync", "store/s3", "store/sftp", "store/webdav"];
    let formats = ["format/retirement.rs", "format/sign.rs"];
    for file in sources().iter().filter(|file| !is_in(file, &publishers)) {
        let text = fs::read_to_string(file).unwrap();
        let is_in_it = !is_in(file, &drivers) && !is_in(file, &formats);
        for newer in ["&& let ", ".with_added_extension(", ".cast_signed()", ".cast_unsigned()"] {
            assert!(!is_in_it || !text.contains(newer), "{}: `{newer}` is newer than 1.85", file.display());
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

/// Programs are started with [`hfl::system::child::command`], which keeps secrets out of their
/// environment. hfl-mount executes itself directly.
#[test]
fn programs_are_started_in_one_place() {
    let own = ["system/child.rs", "bin/hfl-mount/root.rs"];
    for file in sources().iter().filter(|file| !is_in(file, &own)) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("Command::new("), "{}: use child::command", file.display());
    }
}

/// Paths in the documents for developers and users exist.
#[test]
fn documents_name_what_is_there() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    let chapters = ["architecture", "contributing", "format", "operating", "split"].map(|c| format!("src/doc/{c}.md"));
    for document in chapters.iter().map(String::as_str).chain(["README.md"]) {
        let text = fs::read_to_string(base.join(document)).unwrap();
        // Text between two of these characters is code or the target of a link.
        for name in text.split(['`', '(', ')', ' ', '\n']) {
            let is_path = ["src/", "tests/", "benches/", "templates/"].iter().any(|folder| name.starts_with(folder));
            if is_path && !name.contains(['*', '<', '{']) && !name.contains("NAME") {
                let path = base.join(name.trim_end_matches(['.', ',', ';', ':']));
                let is_there = path.exists() || path.with_extension("rs").exists();
                assert!(is_there, "{document} names {name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked}");
}

/// The layer diagram contains every layer, the lowest at the bottom.
#[test]
fn the_architecture_shows_the_layers() {
    let text = fs::read_to_string(root().join("doc/architecture.md")).unwrap();
    let picture = text.split("## Layers").nth(1).unwrap().split("```").nth(1).unwrap();
    let shown = |folder: &str| {
        let is_named = |line: &str| line.split_whitespace().any(|word| word.trim_end_matches(',') == folder);
        picture.lines().position(is_named).unwrap_or_else(|| panic!("{folder} is not shown"))
    };
    let layers: Vec<Vec<String>> =
        layers().into_iter().map(|layer| layer.into_iter().filter(|m| m != "doc" && m != "weaken").collect()).collect();
    let places: Vec<usize> = layers.iter().flatten().map(|folder| shown(folder)).collect();
    assert!(places.is_sorted_by(|lower, upper| lower >= upper), "{layers:?} {places:?}");
}
