//! Settings of the client: the command line, the environment and the configuration of an image, in that order.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{code, stderr};
use crate::support::mounting::client;

/// A repository and a directory of configurations.
struct Configured {
    home: TempDir,
}

impl Configured {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Publish::default().write(&home.path().join("a"), &image(1 << 20));
        fs::create_dir(home.path().join("config")).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("config/test.toml"), text).unwrap();
    }

    fn run(&self, variables: &[(&str, &str)], words: &[&str]) -> Output {
        let mut command = client(self.home.path());
        command.args(words).envs(variables.iter().copied()).current_dir(self.home.path()).output().unwrap()
    }

    /// The cache that a fetch used.
    fn cache(&self, variables: &[(&str, &str)], words: &[&str]) -> String {
        let output = self.run(variables, &[&["fetch", "--json"], words].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        PathBuf::from(report["cache"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn refused(&self, variables: &[(&str, &str)], words: &[&str], expected: &str) {
        let output = self.run(variables, words);
        let said = stderr(&output);
        assert!(code(&output) == 2 && said.contains(expected) && !said.contains("panicked"), "{words:?}: {said}");
    }
}

#[test]
fn the_nearest_setting_counts() {
    let configured = Configured::new();
    configured.configure("unsigned = true\ncache = 'of-file'\nno-readahead = true\n");
    let variable = [("HFL_MOUNT_CACHE", "of-variable")];
    assert_eq!(configured.cache(&[], &["a/test"]), "of-file");
    assert_eq!(configured.cache(&variable, &["a/test"]), "of-variable");
    assert_eq!(configured.cache(&variable, &["a/test", "--cache", "of-line"]), "of-line");
    // What excludes what is said nearer is left out.
    configured.configure("key = 'RWQnothing'\ncache = 'of-file'\n");
    assert_eq!(configured.cache(&[], &["a/test", "--unsigned"]), "of-file");
    assert_eq!(configured.cache(&[("HFL_MOUNT_UNSIGNED", "yes")], &["a/test"]), "of-file");
    configured.refused(&[("HFL_MOUNT_UNSIGNED", "no")], &["fetch", "a/test"], "--key");
    configured.configure("unsigned = true\n");
    configured.refused(&[("HFL_MOUNT_UNSIGNED", "no")], &["fetch", "a/test"], "--key");
}

/// The image's name is enough where its configuration says where it is; a version goes with it.
#[test]
fn a_configured_image_needs_only_its_name() {
    let configured = Configured::new();
    configured.configure("source = 'a/test'\nunsigned = true\ncache = 'c'\n");
    assert_eq!(configured.cache(&[], &["test"]), "c");
    assert_eq!(configured.cache(&[], &["test@1"]), "c");
    let output = configured.run(&[], &["fetch", "test@7"]);
    assert!(code(&output) == 1 && stderr(&output).contains("no version 7"), "{}", stderr(&output));
    configured.configure("source = ['http://127.0.0.1:9/test', 'a/test']\nunsigned = true\n");
    configured.cache(&[], &["test"]);
    configured.configure("source = ['a/test', 'a/other']\nunsigned = true\n");
    configured.refused(&[], &["fetch", "test"], "different images");
}

#[test]
fn wrong_settings_are_told_with_where_they_are_from() {
    let configured = Configured::new();
    let fetch = ["fetch", "a/test", "--unsigned"];
    let file = configured.path("config/test.toml").display().to_string();
    for (text, expected) in [
        ("tiemout = '5s'", ": tiemout: no such option"),
        ("timeout = 'soon'", ": timeout: invalid value"),
        ("json = 'perhaps'", ": json: expected true or false"),
        ("cache = ['a']", ": cache: expected a text, a number"),
        ("source = 3", ": source: expected a text"),
        ("timeout = ", ": line 1"),
        ("\n\n[x", ": line 3"),
        ("help = true", ": help: no such option"),
        ("version = 3", ": version: no such option"),
    ] {
        configured.configure(text);
        let words = if text.starts_with("source") { &["fetch", "test", "--unsigned"] } else { &fetch };
        configured.refused(&[], words, &format!("{file}{expected}"));
    }
    configured.configure("");
    configured.refused(&[("HFL_MOUNT_TIMEOUT", "soon")], &fetch, "HFL_MOUNT_TIMEOUT: invalid value");
    configured.refused(&[("HFL_MOUNT_CACHE", "")], &fetch, "HFL_MOUNT_CACHE is set, but empty");
    configured.refused(&[], &["a/test", "point", "-o", "unsigned,bogus=1"], "-o bogus: no such option");
    configured.refused(&[], &["a/test", "point"], "--unsigned");
    configured.refused(&[], &["a/test@1", "a/test@2", "point", "--unsigned"], "different versions");
    configured.refused(&[], &["a/test@1", "point", "--unsigned", "--version", "1"], "--version");
}

/// Every option that the help shows has its variable, of that name.
#[test]
fn every_option_has_a_variable() {
    let configured = Configured::new();
    let help = configured.run(&[], &["--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    let options = help.lines().filter_map(|line| {
        line.trim_start().strip_prefix("--").or_else(|| line.split_once(", --").map(|(_, rest)| rest))
    });
    let names: Vec<&str> =
        options.map(|rest| rest.split([' ', '[', '<', '=']).next().unwrap()).filter(|name| *name != "help").collect();
    assert!(names.len() > 25 && names.contains(&"cache-size") && names.contains(&"contents"), "{names:?}");
    for name in names {
        let variable = format!("HFL_MOUNT_{}", name.to_uppercase().replace('-', "_"));
        configured.refused(
            &[(&variable, "")],
            &["a/test", "point", "--unsigned"],
            &format!("{variable} is set, but empty"),
        );
    }
}

#[test]
fn the_version_of_the_program_says_what_it_is() {
    let configured = Configured::new();
    let said = |words: &[&str]| String::from_utf8(configured.run(&[], words).stdout).unwrap();
    assert!(said(&["-V"]).starts_with(&format!("hfl-mount {}\n", env!("CARGO_PKG_VERSION"))));
    let long = said(&["--version"]);
    assert!(
        ["commit ", "features ", "mount", "target ", std::env::consts::ARCH].iter().all(|word| long.contains(word)),
        "{long}"
    );
    assert!(said(&["help", "fetch"]).contains("hfl-mount fetch [OPTIONS]"));
    let help = said(&["--help"]);
    assert!(
        ["fetch", "status", "nbd", "device"]
            .iter()
            .all(|name| help.lines().any(|line| line.trim_start().starts_with(&format!("{name} ")))),
        "{help}"
    );
}
