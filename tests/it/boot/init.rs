//! The functions of the miniroot's init, extracted and run by the real busybox: how it parses its
//! options, before it does anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hfl::format::signing::SecretKey;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Lab, skipped, stderr};
use crate::support::mounting::{WebServer, cannot_mount, nobody};
use crate::support::servers::program;

/// End of the functions and start of the main part.
const WORK: &str = "\n/bin/busybox mkdir -p /proc";
/// Differences from a real boot: the directories, and the exit on failure.
const FRAME: &str = r#"
PATH=$LAB/bin
hfl=$LAB/hfl
fail() { echo "FAILED: $1"; echo "DO: $2"; exit 3; }
field() { case $1 in version) echo 7 ;; size) echo 8388608 ;; index) echo "$INDEX" ;; esac; }
"#;

/// Prefixes each occurrence of `path` in the text with `at`, unless it is the tail of a longer path.
fn moved(text: &str, path: &str, at: &str) -> String {
    let mut out = String::new();
    let mut done = 0;
    for (found, _) in text.match_indices(path) {
        let inside = text[..found].ends_with(|c: char| c.is_alphanumeric());
        out += &text[done..found];
        out += if inside { "/" } else { at };
        done = found + 1;
    }
    out + &text[done..]
}

/// The init of the miniroot in a lab of its own.
pub struct Init {
    pub lab: Lab,
    functions: String,
    /// The first part of the main program: it reads the configuration.
    reading: String,
}

impl Init {
    /// `None`, with a skip message, if there is no busybox.
    pub fn new() -> Option<Self> {
        let Some(busybox) = program("busybox") else {
            skipped("no busybox");
            return None;
        };
        let lab = Lab::new();
        fs::create_dir_all(lab.path("bin")).unwrap();
        fs::create_dir_all(lab.path("run/hfl")).unwrap();
        let installed = Command::new(&busybox).args(["--install", "-s"]).arg(lab.path("bin")).status().unwrap();
        assert!(installed.success());
        symlink(env!("CARGO_BIN_EXE_hfl-mount"), lab.path("bin/hfl-mount")).unwrap();
        let part =
            |name| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/boot").join(name)).unwrap();
        let init =
            part("init").replace(". /hfl/options.sh\n. /hfl/root.sh\n", &(part("options.sh") + &part("root.sh")));
        let at = lab.path("").display().to_string();
        let moved = ["/hfl/", "/run/hfl/", "/proc/cmdline"].iter().fold(init, |text, path| moved(&text, path, &at));
        let (functions, work) = moved.split_once(WORK).expect("functions, then the work");
        let reading = work.split("\nread_config").nth(1).and_then(|rest| rest.split("\nload_modules").next());
        let reading = format!("read_config{}", reading.expect("it reads before it loads"));
        Some(Self { functions: functions.to_owned(), reading, lab })
    }

    /// Runs a script after the functions, in a mount namespace of its own where possible.
    pub fn run(&self, script: &str, environment: &[(&str, &str)]) -> Output {
        let text = format!("{}\n{FRAME}\n{script}\necho END\n", self.functions);
        let file = self.lab.write("script", text);
        let mut command = match rustix::process::geteuid().is_root() {
            true => Command::new("unshare"),
            false => Command::new("env"),
        };
        if rustix::process::geteuid().is_root() {
            command.arg("-m");
        }
        command.arg(program("busybox").unwrap()).arg("sh").arg(file).env("LAB", self.lab.path(""));
        command.env("INDEX", "ab".repeat(32)).envs(environment.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Output of the init for a kernel command line, up to the point where it looks for its image.
    fn words(&self, config: &str, words: &str) -> String {
        self.lab.write("hfl/config", config);
        self.lab.write("proc/cmdline", words);
        let script = format!(
            "{}\nsize=1000000 name=\necho \"timeout=$timeout panic=$panic\"\n\
             echo \"store=$(cow_bytes \"$cow\")\" memory=\"$(in_bytes \"$(block_memory)\")\"\nmount_image",
            self.reading
        );
        let output = self.run(&script, &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert_eq!(output.status.code(), Some(3), "the shell ended by itself after `{words}`: {text}");
        text
    }
}

const NO_IMAGE: &str = "FAILED: nobody says which image";

#[test]
fn a_number_that_is_none_is_told_and_the_default_is_taken() {
    let Some(init) = Init::new() else { return };
    let cases = [
        ("", "timeout=300 panic=0", ""),
        ("hfl.timeout=8 panic=5", "timeout=8 panic=5", ""),
        ("hfl.timeout=0090", "timeout=90 panic=0", ""),
        ("hfl.timeout=08", "timeout=8 panic=0", ""),
        ("panic=-1", "timeout=300 panic=1", ""),
        ("hfl.timeout=5m", "timeout=300 panic=0", "warning: hfl.timeout=5m: "),
        ("hfl.timeout=", "timeout=300 panic=0", ""),
        ("hfl.timeout=-1", "timeout=300 panic=0", "warning: hfl.timeout=-1: "),
        ("hfl.timeout=1+1", "timeout=300 panic=0", "warning: hfl.timeout=1+1: "),
        ("hfl.timeout=name", "timeout=300 panic=0", "warning: hfl.timeout=name: "),
        ("hfl.timeout=99999999999999999999999", "timeout=300 panic=0", "warning: hfl.timeout=9"),
        ("panic=x", "timeout=300 panic=0", "warning: panic=x: "),
        ("hfl.cow=08M", "store=8388608 ", ""),
        ("hfl.cow=1m", "store=1048576 ", ""),
        ("hfl.cow=0002097152", "store=2097152 ", ""),
        ("hfl.cow=9999999999G", "store=2068576 ", "warning: hfl.cow=9999999999G: "),
        ("hfl.memory=4294967296", "memory=4294967296", ""),
        ("hfl.cow=5x", "store=2068576 ", "warning: hfl.cow=5x: "),
        ("hfl.cow=1G5", "store=2068576 ", "warning: hfl.cow=1G5: "),
        ("hfl.memory=009M", "memory=9437184", ""),
        ("hfl.memory=$((1))", "memory=", "warning: hfl.memory=$((1)): "),
        ("hfl.memory=M", "memory=", "warning: hfl.memory=M: "),
    ];
    for (words, expected, warning) in cases {
        let text = init.words("", words);
        assert!(text.contains(expected) && text.contains(NO_IMAGE), "`{words}`: {text}");
        assert_eq!(text.contains("warning: "), !warning.is_empty(), "`{words}`: {text}");
        assert!(text.contains(warning), "`{words}`: {text}");
    }
    let text = init.words("HFL_TIMEOUT=5m\n", "");
    assert!(text.contains("timeout=300") && text.contains("warning: hfl.timeout=5m"), "{text}");
}

/// A boot menu cannot select a version below the miniroot's minimum version.
#[test]
fn a_menu_cannot_go_below_the_miniroots_least_version() {
    let Some(init) = Init::new() else { return };
    let config = "HFL_MIN_VERSION=42\n";
    for words in ["", "hfl.version=42", "hfl.version=43", "hfl.version=0042"] {
        assert!(init.words(config, words).contains(NO_IMAGE), "`{words}`");
    }
    for words in ["hfl.version=41", "hfl.version=041", "hfl.version=1"] {
        let text = init.words(config, words);
        assert!(text.contains("this miniroot takes 42 or newer") && text.contains("DO: boot version"), "{text}");
    }
    for words in ["hfl.version=newest", "hfl.version=42x", "hfl.version=-1", "hfl.version=4294967296"] {
        assert!(init.words(config, words).contains("is no version"), "`{words}`");
    }
    assert!(init.words("", "hfl.version=1").contains(NO_IMAGE), "without a least version any will do");
}

#[test]
fn the_clients_own_words_say_why_there_is_no_image() {
    let Some(init) = Init::new() else { return };
    if cannot_mount() {
        return;
    }
    let ([signer, other], image) = ([0; 2].map(|_| SecretKey::generate().unwrap().0), image(1 << 20));
    let base = init.lab.path("mirror");
    Publish { key: Some(&signer), ..Publish::default() }.write(&base, &image);
    let state = init.lab.path("state").display().to_string();
    let mount = |url: &str, timeout: u32| {
        let words = format!(
            "url={url} name=test key={} timeout={timeout} cache_options=--no-cache; mount_image",
            other.public()
        );
        let output = init.run(&words, &[("XDG_STATE_HOME", &state)]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output)
    };
    let server = WebServer::new(&base);
    let text = mount(&server.url(), 60);
    println!("{text}");
    assert!(text.contains("FAILED: what the mirrors say does not verify: ") && text.contains("another key"), "{text}");
    let text = mount(&nobody(), 3);
    println!("{text}");
    assert!(text.contains("FAILED: no mirror of test answers: ") && text.contains("connection refused"), "{text}");
    assert!(text.find("connection refused") < text.find("FAILED"), "it is shown while it waits: {text}");
}
