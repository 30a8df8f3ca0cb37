//! Packages: what Cargo.toml says of them is what templates/package/build makes. `tests/packages.sh` makes and installs them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::lab::{Lab, code, skipped, stderr};

const PACKAGES: [&str; 2] = ["hfl", "hfl-mount"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `templates/package/build` with these arguments, without a key.
fn build(arguments: &[&str]) -> Command {
    let mut command = Command::new(project().join("templates/package/build"));
    command.args(arguments).env_remove("HFL_KEY").env_remove("HFL_KEY_PASSWORD");
    command
}

fn made(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0, "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    output
}

/// Programs as the script wants them, static ones in place of what is only packed here. `None` where there is none.
fn programs(lab: &Lab) -> Option<PathBuf> {
    let Some(client) = std::env::var_os("HFL_STATIC_CLIENT") else {
        skipped("HFL_STATIC_CLIENT names no static client (tests/all.sh builds one)");
        return None;
    };
    let directory = lab.path("programs");
    fs::create_dir_all(directory.join("static")).unwrap();
    symlink(env!("CARGO_BIN_EXE_hfl"), directory.join("hfl")).unwrap();
    symlink(env!("CARGO_BIN_EXE_hfl-mount"), directory.join("hfl-mount")).unwrap();
    symlink(&client, directory.join("static/hfl")).unwrap();
    symlink(&client, directory.join("static/hfl-mount")).unwrap();
    Some(directory)
}

fn metadata() -> toml::Table {
    let manifest: toml::Table = fs::read_to_string(project().join("Cargo.toml")).unwrap().parse().unwrap();
    manifest["package"]["metadata"].as_table().unwrap().clone()
}

/// The files of a package as (source, destination, mode), from the section of one format.
fn assets(format: &toml::Value, package: &str) -> Vec<(String, String, String)> {
    let section = if package == "hfl" { format } else { &format["variants"][package] };
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let asset = |asset: &toml::Value| match asset.as_array() {
        Some(parts) => (text(&parts[0]), text(&parts[1]), text(&parts[2])),
        None => (text(&asset["source"]), text(&asset["dest"]), text(&asset["mode"])),
    };
    section["assets"].as_array().unwrap().iter().map(asset).collect()
}

/// Files and links below `directory`, by their paths in it.
fn files(directory: &Path) -> BTreeSet<String> {
    let entries = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.map(|entry| entry.path().strip_prefix(directory).unwrap().display().to_string()).collect()
}

/// Which of the staged files of a package its assets name.
fn named(assets: &[(String, String, String)], package: &str, staged: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (source, ..) in assets {
        let inside = source.strip_prefix(&format!("target/package/{package}/")).unwrap_or_else(|| panic!("{source}"));
        let prefix = inside.trim_end_matches('*').trim_end_matches("**/");
        let is_it = |file: &&String| if inside.ends_with('*') { file.starts_with(prefix) } else { *file == inside };
        let here: Vec<String> = staged.iter().filter(is_it).cloned().collect();
        assert!(!here.is_empty(), "{source}: the script makes no such file");
        found.extend(here);
    }
    found
}

#[test]
fn the_script_makes_what_the_metadata_names_and_nothing_else() {
    let lab = Lab::new();
    let Some(programs) = programs(&lab) else { return };
    let out = lab.path("out").display().to_string();
    let programs = programs.display().to_string();
    let told = made(&mut build(&["--only", "tar", "--programs", &programs, &out]));
    assert!(String::from_utf8_lossy(&told.stdout).contains("SHA256SUMS is not signed"), "{told:?}");
    let metadata = metadata();
    for package in PACKAGES {
        let staged = files(&project().join("target/package").join(package));
        let deb = assets(&metadata["deb"], package);
        assert_eq!(named(&deb, package, &staged), staged, "{package}: .deb");
        let rpm = named(&assets(&metadata["generate-rpm"], package), package, &staged);
        // What is of Debian alone, and a link, which the rpm makes when it is installed.
        let of_debian = ["/lintian/", "/initramfs-tools/"];
        let not_there =
            |file: &&String| !of_debian.iter().any(|part| file.contains(part)) && !file.ends_with("/mount.hfl");
        let missing: Vec<&String> = staged.difference(&rpm).filter(not_there).collect();
        assert!(missing.is_empty(), "{package}: .rpm lacks {missing:?}");
        for (source, destination, mode) in deb {
            let executable =
                ["/bin/", "/lib/hfl/hfl-", "/dracut/", "/initramfs-tools/"].iter().any(|place| source.contains(place));
            let expected = if source.contains("/sbin/") {
                "777"
            } else if executable {
                "755"
            } else {
                "644"
            };
            assert_eq!(mode, expected, "{source} -> {destination}");
        }
    }
    let tarball = format!("hfl-{}-{}-linux.tar.gz", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    assert_eq!(lab.files("out"), ["SHA256SUMS".to_owned(), tarball.clone()]);
    let again = lab.path("again").display().to_string();
    made(&mut build(&["--only", "tar", "--programs", &programs, &again]));
    let sums = |directory: &str| fs::read_to_string(lab.path(directory).join("SHA256SUMS")).unwrap();
    assert_eq!(sums("out"), sums("again"), "the same bytes each time");
    check_signatures(&lab, &programs, &out);
}

/// Signs with keys that hfl made, in the forms in which they are given to jobs.
fn check_signatures(lab: &Lab, programs: &str, out: &str) {
    if Command::new("minisign").arg("-v").output().is_err() {
        return skipped("no minisign");
    }
    lab.ok(&["key", "new", "--out", "release.key"]);
    let text = fs::read_to_string(lab.path("release.key")).unwrap();
    let line = text.lines().nth(1).unwrap();
    let file = lab.path("release.key").display().to_string();
    let arguments = ["--only", "tar", "--programs", programs, out];
    let by_file = build(&[&["--key", &file][..], &arguments].concat());
    let mut by_text = build(&arguments);
    by_text.env("HFL_KEY", &text);
    let mut by_line = build(&arguments);
    by_line.env("HFL_KEY", line);
    for mut command in [by_file, by_text, by_line] {
        let _ = fs::remove_file(lab.path("out/SHA256SUMS.minisig"));
        let output = made(&mut command);
        assert!(!format!("{output:?}").contains(line), "the key is printed");
        let mut verify = Command::new("minisign");
        verify.args(["-Vqm", "out/SHA256SUMS", "-p", "release.pub"]).current_dir(lab.path(""));
        assert!(verify.status().unwrap().success());
    }
    let left: Vec<PathBuf> =
        fs::read_dir(project().join("target/package")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!left.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(line))), "a key is left");
    let refused = build(&arguments).env("HFL_KEY", "nonsense").output().unwrap();
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("could not be signed"), "{}", stderr(&refused));
}

#[test]
fn the_script_explains_itself() {
    let version = made(&mut build(&["--version"]));
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), env!("CARGO_PKG_VERSION"));
    let help = made(&mut build(&["--help"]));
    assert!(String::from_utf8_lossy(&help.stdout).starts_with("usage: templates/package/build"));
    for wrong in [&["--onyl", "deb"][..], &["--only", "zip"], &["--only"], &["one", "two"]] {
        let output = build(wrong).output().unwrap();
        assert_eq!(code(&output), 2, "{wrong:?}");
        assert!(stderr(&output).starts_with("build: "), "{wrong:?}: {}", stderr(&output));
    }
}

#[test]
fn missing_tools_are_named_with_the_command_that_installs_them() {
    let lab = Lab::new();
    let out = lab.path("out").display().to_string();
    let output = build(&["--only", "deb,rpm", &out]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(code(&output), 69, "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("cargo-deb: cargo install cargo-deb --locked --version "), "{told}");
    assert!(told.contains("cargo-generate-rpm: cargo install cargo-generate-rpm --locked --version "), "{told}");
}

#[test]
fn the_files_that_the_metadata_needs_are_there() {
    let (metadata, scripts) = (metadata(), project().join("templates/package/scripts"));
    assert_eq!(
        metadata["deb"]["variants"]["hfl-mount"]["maintainer-scripts"].as_str(),
        Some("templates/package/scripts")
    );
    for script in files(&scripts) {
        let checked = Command::new("sh").arg("-n").arg(scripts.join(&script)).status().unwrap();
        assert!(checked.success(), "{script}");
    }
    for name in ["copyright", "hfl.lintian", "hfl-mount.lintian", "Containerfile", "licences"] {
        assert!(project().join("templates/package").join(name).is_file(), "{name}");
    }
}
