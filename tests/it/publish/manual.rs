//! Manual pages and completions of both programs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::lab::{Lab, skipped};
use crate::support::mounting::client;
use crate::support::servers::program;

/// The pages of both programs, by name.
fn pages(lab: &Lab) -> BTreeSet<String> {
    lab.ok(&["manual", "man"]);
    let mount = client(&lab.path("home")).args(["manual", "man"]).current_dir(lab.path("")).output().unwrap();
    assert!(mount.status.success());
    fs::read_dir(lab.path("man")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Each command has a page, and each page of a command that does something has an example.
#[test]
fn every_command_has_a_page_with_an_example() {
    let lab = Lab::new();
    let pages = pages(&lab);
    for page in [
        "hfl.1",
        "hfl-publish.1",
        "hfl-boot-try.1",
        "hfl-key-new.1",
        "hfl-mount.1",
        "hfl-mount-fetch.1",
        "hfl-mount-device-loop.1",
    ] {
        assert!(pages.contains(page), "{page} of {pages:?}");
    }
    let mut without = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(lab.path("man").join(page)).unwrap();
        let title = page.trim_end_matches(".1").to_uppercase();
        assert!(
            text.contains(".SH NAME")
                && text.contains(".SH SYNOPSIS")
                && text.replace('\\', "").contains(&format!(".TH {title} 1")),
            "{page}"
        );
        let has_below = pages.iter().any(|other| other.starts_with(&format!("{}-", page.trim_end_matches(".1"))));
        if !has_below && !text.contains(".SH EXAMPLES") {
            without.push(page);
        }
    }
    assert!(without.is_empty(), "pages without an example: {without:?}");
    let mount = fs::read_to_string(lab.path("man/hfl-mount.1")).unwrap();
    assert!(
        mount.contains(".SH \"EXIT STATUS\"") || mount.contains(".SH EXIT STATUS"),
        "the page of hfl-mount is its own"
    );
    let Some(groff) = program("groff") else { return skipped("no groff") };
    for page in &pages {
        let output =
            Command::new(&groff).args(["-man", "-Tutf8", "-ww"]).arg(lab.path("man").join(page)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}

/// A paragraph that its author broke into lines and that is broken again has short lines in the middle.
#[test]
fn the_text_of_help_is_wrapped_once() {
    let lab = Lab::new();
    let mut paragraphs = 0;
    for page in pages(&lab) {
        let name = page.trim_end_matches(".1");
        let (mut command, below) = match name.strip_prefix("hfl-mount") {
            Some(below) => (client(&lab.path("home")), below),
            None => (lab.command(&[]), name.trim_start_matches("hfl")),
        };
        command.args(below.split('-').filter(|word| !word.is_empty())).arg("--help");
        for columns in [80, 100] {
            let output = command.env("COLUMNS", columns.to_string()).output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<&str> = help.lines().collect();
            // Lists and commands are indented.
            let is_text = |line: &str| line.starts_with(|c: char| !c.is_whitespace()) && !line.starts_with("Usage:");
            for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| is_text(line))) {
                let first_word = pair[1].split(' ').next().unwrap_or_default();
                let is_full = pair[0].len() + 1 + first_word.len() > columns;
                assert!(is_full && pair[0].len() <= columns, "{name}, {columns} columns: {pair:?}");
                paragraphs += 1;
            }
        }
    }
    assert!(paragraphs > 10, "{paragraphs} breaks of lines");
}

#[test]
fn completions_are_read_by_their_shells() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let of_mount = client(&lab.path("home")).args(["completion", shell]).output().unwrap().stdout;
        for (name, text) in [("hfl", lab.ok(&["completion", shell]).into_bytes()), ("hfl-mount", of_mount)] {
            assert!(text.windows(name.len()).any(|part| part == name.as_bytes()));
            let file = lab.write(&format!("{name}.{shell}"), text);
            let Some(shell) = program(shell) else {
                skipped(&format!("no {shell}"));
                continue;
            };
            let output = Command::new(shell).arg("-n").arg(file).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
