//! The steps of templates/ci, executed as they stand: the `run` blocks and `script` lines with bash, the `ExecStart` lines
//! of the unit too.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::support::lab::{Lab, check_mirror, code, full, skipped, stderr};
use crate::support::through::in_place_of;

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/ci");

/// A step: its commands, and the variables of the key that it sees.
struct Step {
    name: String,
    commands: String,
    has_key: bool,
}

fn template(file: &str) -> String {
    fs::read_to_string(Path::new(TEMPLATES).join(file)).unwrap()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The lines below line `at` that are indented deeper, without that indentation.
fn block(lines: &[&str], at: usize) -> String {
    let outer = indent(lines[at]);
    let inner = lines[at + 1..].iter().take_while(|line| line.trim().is_empty() || indent(line) > outer);
    let inner: Vec<&str> = inner.copied().collect();
    let depth = inner.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line)).min().unwrap();
    inner.iter().map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}

/// The simple `NAME: value` lines of the block with this key.
fn variables(text: &str, key: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.trim() == key).unwrap();
    let block = block(&lines, at);
    block.lines().filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect()
}

/// The steps of the workflow that run something.
fn github() -> (BTreeMap<String, String>, Vec<Step>) {
    let text = template("github.yml");
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].trim_start().starts_with("- name: ")).collect();
    let steps = starts.iter().map(|&at| {
        let end = starts.iter().find(|&&next| next > at).copied().unwrap_or(lines.len());
        let run = (at..end).find(|&i| lines[i].trim() == "run: |").unwrap();
        Step {
            name: lines[at].trim().trim_start_matches("- name: ").to_owned(),
            commands: block(&lines, run),
            has_key: lines[at..run].iter().any(|line| line.contains("HFL_KEY:")),
        }
    });
    (variables(&text, "env:"), steps.collect())
}

/// The script of the job, which one shell runs.
fn gitlab() -> (BTreeMap<String, String>, Vec<Step>) {
    let text = template("gitlab.yml");
    let lines: Vec<&str> = text.lines().collect();
    let mut commands = String::new();
    for key in ["before_script:", "script:"] {
        let script = block(&lines, lines.iter().position(|line| line.trim() == key).unwrap());
        let script: Vec<&str> = script.lines().collect();
        for (i, line) in script.iter().enumerate() {
            match line.strip_prefix("- ") {
                Some("|") => commands += &block(&script, i),
                Some(command) => commands += &format!("{command}\n"),
                None => assert!(line.starts_with([' ', '#']) || line.is_empty(), "{line}"),
            }
        }
    }
    (variables(&text, "variables:"), vec![Step { name: "script".into(), commands, has_key: true }])
}

/// The commands of the unit. What systemd puts in is put in by the shell in the same way.
fn unit() -> (BTreeMap<String, String>, Vec<Step>) {
    let text = template("hfl-nightly.service");
    let of = |key: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect()
    };
    let variables = of("Environment=").into_iter().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let step = |line: String| Step { name: line.clone(), commands: format!("{line}\n"), has_key: false };
    (variables.collect(), of("ExecStart=").into_iter().map(step).collect())
}

/// Where this machine has Debian's packages from, and the release.
fn debian() -> Result<(String, String), String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(mirror), Some(suite)) = (set("MIRROR"), set("SUITE")) {
        return Ok((mirror, suite));
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = release.lines().any(|line| line == "ID=debian");
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.filter(|_| is_debian).ok_or("not Debian, and no MIRROR and SUITE in the environment")?;
    let indexes =
        Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]).output();
    let indexes = indexes.map_err(|e| format!("apt-get: {e}"))?;
    let indexes = String::from_utf8_lossy(&indexes.stdout).into_owned();
    let wanted = format!(" {suite} main");
    let mirror = indexes.lines().find_map(|line| line.strip_suffix(&wanted)).ok_or("apt knows no mirror of Debian")?;
    Ok((mirror.to_owned(), suite.to_owned()))
}

/// A laboratory with a good mirror and, in dead.toml, one that nobody answers at; and the environment of a job; or why not.
fn job(variables: BTreeMap<String, String>) -> Result<(Lab, BTreeMap<String, String>), String> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("mmdebstrap") {
        return Err("no mmdebstrap".into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("not root, which mmdebstrap needs here".into());
    }
    let (mirror, suite) = debian()?;
    let lab = Lab::with_mirrors(&["good"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lab.write("dead.toml", format!("[[mirror]]\nname = \"dead\"\nwrite = \"webdav+http://{closed}/${{NAME}}\"\n"));
    let mut all = variables;
    let (variant, include) = if full() { ("essential", "systemd-sysv") } else { ("extract", "busybox-static") };
    let program = Path::new(env!("CARGO_BIN_EXE_hfl")).parent().unwrap().display().to_string();
    for (name, value) in [
        ("MIRROR", mirror),
        ("SUITE", suite),
        ("VARIANT", variant.into()),
        ("INCLUDE", include.into()),
        ("SIZE", "600M".into()),
        ("PATH", format!("{program}:{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())),
        ("GITHUB_STEP_SUMMARY", lab.path("summary.md").display().to_string()),
        ("MIRRORS", lab.path("mirrors.toml").display().to_string()),
        ("CREDENTIALS_DIRECTORY", lab.path("credentials").display().to_string()),
        ("HOME", lab.path("home").display().to_string()),
    ] {
        all.insert(name.into(), value);
    }
    fs::create_dir_all(lab.path("credentials")).unwrap();
    lab.ok(&["key", "new", "--out", "credentials/key"]);
    Ok((lab, all))
}

fn run(lab: &Lab, step: &Step, variables: &BTreeMap<String, String>) -> Output {
    let mut bash = Command::new("bash");
    in_place_of(&mut bash, &lab.command(&[])).args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &step.commands]);
    bash.envs(variables).env("CI", "true");
    if step.has_key {
        bash.env("HFL_KEY", fs::read_to_string(lab.path("credentials/key")).unwrap()).env("HFL_KEY_PASSWORD", "");
    }
    bash.output().unwrap()
}

/// Runs the steps twice, as in two nights. In the second, the image differs, and a mirror
/// cannot be reached. `ends` are the exit codes that a step may have.
fn two_nights(
    name: &str,
    (variables, steps): (BTreeMap<String, String>, Vec<Step>),
    ends: &[i32],
) -> Option<(Lab, String)> {
    let (lab, variables) = match job(variables) {
        Ok(job) => job,
        Err(why) => {
            skipped(&why);
            return None;
        }
    };
    let (mut behind, started) = (false, Instant::now());
    let mut said = String::new();
    for night in 0..2 {
        if night == 1 {
            let tables = ["mirrors.toml", "dead.toml"].map(|file| fs::read_to_string(lab.path(file)).unwrap());
            lab.write("mirrors.toml", tables.concat());
        }
        for step in &steps {
            let output = run(&lab, step, &variables);
            said += &format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
            assert!(ends.contains(&code(&output)), "{name}: {}: {}: {said}", step.name, code(&output));
            behind |= code(&output) == 6;
        }
    }
    assert_eq!(behind, ends.contains(&6), "a mirror that is left behind is told by an exit code");
    println!("{name}: two nights in {:.1?}", started.elapsed());
    let public = fs::read_to_string(lab.path("credentials/key.pub")).unwrap();
    let trust = hfl::format::head::Trust::Key(public.parse().unwrap());
    assert_eq!(check_mirror(&lab.path("good"), "debian", &trust), [2, 1], "{said}");
    Some((lab, said))
}

fn shows_the_change(lab: &Lab, file: &str) {
    let summary = fs::read_to_string(lab.path(file)).unwrap();
    assert!(summary.contains("<code>debian</code> version 1 → 2\n"), "{summary}");
    assert!(summary.contains("| upload to each mirror |"), "{summary}");
}

#[test]
fn the_workflow_of_github() {
    let Some((lab, said)) = two_nights("github", github(), &[0]) else { return };
    shows_the_change(&lab, "summary.md");
    assert!(said.contains("::warning::some mirrors were left behind"), "{said}");
}

#[test]
fn the_job_of_gitlab() {
    let Some((lab, _)) = two_nights("gitlab", gitlab(), &[0, 6]) else { return };
    shows_the_change(&lab, "changes.md");
}

#[test]
fn the_unit_of_systemd() {
    let text = template("hfl-nightly.service");
    assert!(text.lines().any(|line| line == "SuccessExitStatus=6"), "such a mirror is no failure of the unit");
    let Some((lab, _)) = two_nights("systemd", unit(), &[0, 6]) else { return };
    shows_the_change(&lab, "changes.md");
}
