//! Progress: as JSON, as lines, and on terminals of several widths.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::lab::{Lab, Random, code, full, skipped, stderr};
use crate::support::through::in_place_of;

/// A mirror that takes 2 MB a second.
fn lab(megabytes: usize) -> Lab {
    let lab = Lab::new();
    lab.write("mirrors.toml", "[[mirror]]\nname = \"slow\"\nwrite = \"./slow\"\nrate = 2000000\n");
    let mut random = Random(1);
    let bytes: Vec<u8> = (0..megabytes << 17).flat_map(|_| random.next().to_le_bytes()).collect();
    lab.write("os.img", bytes);
    lab
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn a_line_each_second_and_at_each_phase_for_programs() {
    let lab = lab(8);
    let publish = ["publish", "os.img", "--to", "mirrors.toml"];
    let output = lab.run(&[&publish[..], &["--progress", "json", "--json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let on_stderr = lines(&stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases: Vec<&str> = on_stderr.iter().map(|line| line["phase"].as_str().unwrap()).collect();
    for phase in ["open", "survey", "read", "send", "switch"] {
        assert!(phases.contains(&phase), "{phase} in {phases:?}");
    }
    assert!(phases.iter().filter(|phase| **phase == "send" || **phase == "read").count() >= 4, "{phases:?}");
    let last = on_stderr.last().unwrap();
    assert!(last["done"] == report["size"] && last["total"] == report["size"], "{last}");
    assert_eq!(last["blocks"]["new"], report["new"]["blocks"]);
    assert_eq!(last["mirrors"]["slow"]["sent"], last["mirrors"]["slow"]["to_send"]);

    for command in [&["sync"][..], &["verify"], &["gc"], &["mirrors"], &["rollback", "os", "1"]] {
        let all = [command, &["--to", "mirrors.toml", "--progress-file", "p.json"]].concat();
        assert_eq!(code(&lab.run(&all)), 0);
        let lines = lines(&fs::read_to_string(lab.path("p.json")).unwrap());
        assert!(lines.iter().all(|line| line["schema"] == 1 && line["phase"].is_string()), "{command:?}: {lines:?}");
        assert!(lines.len() > 1, "{command:?}");
    }
    let said = lab.fails(1, &["verify", "--to", "none.toml", "--progress", "json"]);
    assert_eq!(lines(&said).last().unwrap()["exit"], 1, "{said}");
}

#[test]
fn a_line_every_ten_seconds_for_logs() {
    let lab = lab(24);
    let publish = ["publish", "os.img", "--to", "mirrors.toml"];
    let output = lab.run(&publish);
    let said = stderr(&output);
    let figures = said.lines().find(|line| line.contains("slow: ") && line.contains("sent"));
    let figures = figures.unwrap_or_else(|| panic!("no figures in {said}"));
    println!("{figures}");
    assert!(
        figures.starts_with("hfl: ") && figures.contains("MiB waiting") && figures.contains("blocks: "),
        "{figures}"
    );
    assert!(!said.contains('\u{1b}'), "no colours");
    let quiet = lab.run(&[&publish[..], &["-q", "--force"]].concat());
    assert_eq!((stderr(&quiet), code(&quiet)), (String::new(), 0));
}

/// hfl on a terminal of this width.
fn terminal(lab: &Lab, columns: usize, command: &str) -> Command {
    let command = format!("stty cols {columns} rows 24; {} {command}", env!("CARGO_BIN_EXE_hfl"));
    let mut script = Command::new("script");
    in_place_of(&mut script, &lab.command(&[])).args(["-qefc", &command, "/dev/null"]);
    script.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").stdin(Stdio::null());
    script
}

/// Runs hfl on a terminal of this width; `None` if there is no `script`.
fn on_terminal(lab: &Lab, columns: usize, environment: &[(&str, &str)], command: &str) -> Option<Output> {
    let output = terminal(lab, columns, command).envs(environment.iter().copied()).output();
    if output.is_err() {
        skipped("no script (bsdutils)");
    }
    output.ok()
}

/// The longest time for which a terminal shows nothing new while a command runs, and all that it showed.
fn longest_silence(lab: &Lab, command: &str) -> Option<(Duration, String)> {
    let child = terminal(lab, 80, command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    if child.is_err() {
        skipped("no script (bsdutils)");
    }
    let mut child = child.ok()?;
    let (mut shown, mut piece, mut longest, mut last) = (Vec::new(), [0; 4096], Duration::ZERO, Instant::now());
    let mut terminal = child.stdout.take().unwrap();
    loop {
        let bytes = terminal.read(&mut piece).unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if bytes == 0 {
            break;
        }
        shown.extend_from_slice(&piece[..bytes]);
    }
    child.wait().unwrap();
    Some((longest, String::from_utf8_lossy(&shown).into_owned()))
}

/// While files are copied, and while a mirror says nothing or refuses.
#[test]
fn no_command_is_silent_for_long() {
    let lab = Lab::with_mirrors(&["a"]);
    lab.write("os.img", Random(1).bytes(3 << 20));
    lab.publish(&["os.img"]);
    lab.write("os.img", Random(2).bytes(3 << 20));
    lab.publish(&["os.img"]);
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let tables = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    for (name, place) in [("hangs", hanging.local_addr().unwrap().to_string()), ("refuses", "127.0.0.1:1".to_owned())] {
        let mirror = format!("[[mirror]]\nname = \"{name}\"\nwrite = \"webdav+http://{place}/\"\n");
        lab.write(&format!("{name}.toml"), tables.clone() + &mirror);
    }
    let commands = ["demo demo", "gc --to refuses.toml --keep 1"];
    // These wait until they give up, for minutes.
    let hanging = ["gc --to hangs.toml --keep 1", "verify --to hangs.toml", "mirrors --to hangs.toml"];
    for command in commands.into_iter().chain(hanging.into_iter().filter(|_| full())) {
        let Some((longest, shown)) = longest_silence(&lab, command) else { return };
        println!("{command}: silent for {:.1} s at most", longest.as_secs_f64());
        assert!(!shown.contains("Usage:"), "{shown}");
        assert!(longest < Duration::from_secs(4), "{command}: {longest:?}: {shown}");
    }
}

/// The width of the widest line that is drawn on a terminal with so many columns, and all that was ever shown. A line that
/// is filled with spaces up to the last column is followed by the next without a line feed. Warnings are no drawn lines.
fn widest(output: &str, columns: usize) -> (usize, String) {
    let (mut shown, mut rest) = (String::new(), output.chars());
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().find(char::is_ascii_alphabetic)),
            '\r' => shown.push('\n'),
            c => shown.push(c),
        }
    }
    let drawn = shown.lines().filter(|line| !line.starts_with("hfl: "));
    let rows = drawn
        .flat_map(|line| line.chars().collect::<Vec<_>>().chunks(columns).map(String::from_iter).collect::<Vec<_>>());
    (rows.map(|row| row.trim_end().chars().count()).max().unwrap_or(0), shown)
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let lab = lab(6);
    for columns in [50, 80, 200] {
        let Some(output) = on_terminal(&lab, columns, &[], "publish os.img --to mirrors.toml --force") else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let progress = text.split(" is published").next().unwrap();
        let (widest, shown) = widest(progress, columns);
        println!("{columns} columns: the widest line has {widest}");
        assert!(widest > 20 && widest < columns, "{widest} of {columns}: {shown}");
        let first = columns == 50;
        for said in ["sending to the mirrors", "slow", "sent"] {
            assert!(!first || shown.contains(said), "{said} in {shown}");
        }
        assert!(!shown.contains("zero:") && !shown.contains('%'), "{shown}");
        fs::remove_dir_all(lab.path("slow/blocks")).unwrap();
        fs::remove_dir_all(lab.path("slow")).unwrap();
        lab.forget();
    }
}

#[test]
fn colours_and_characters_are_those_of_the_terminal() {
    let lab = lab(1);
    lab.publish(&["os.img"]);
    let log = "log os/none --unsigned";
    let Some(coloured) = on_terminal(&lab, 80, &[], log) else { return };
    let said = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert!(said(coloured).contains("\u{1b}[1;31merror:\u{1b}[0m"));
    for plain in [&[("NO_COLOR", "1")], &[("TERM", "dumb")]] {
        assert!(!said(on_terminal(&lab, 80, plain, log).unwrap()).contains('\u{1b}'), "{plain:?}");
    }
    lab.write("os.img", Random(9).bytes(1 << 20));
    lab.publish(&["os.img"]);
    let diff = |locale| said(on_terminal(&lab, 80, &[("LC_ALL", locale)], "diff os --to mirrors.toml").unwrap());
    let (utf8, ascii) = (diff("C.UTF-8"), diff("C"));
    assert!(utf8.contains("unchanged, changed up to ░ 25 %"), "{utf8}");
    assert!(ascii.is_ascii() && ascii.contains(". unchanged, changed up to - 25 %"), "{ascii}");
    for command in ["log slow/os", "diff os --to mirrors.toml", "mirrors --to mirrors.toml", "verify --to mirrors.toml"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        let quiet = lab.run(&[&words[..], &["-q"]].concat());
        assert_eq!((code(&quiet), quiet.stdout.len(), stderr(&quiet)), (0, 0, String::new()), "{command} -q");
        let verbose = lab.run(&[&words[..], &["-v"]].concat());
        assert!(code(&verbose) == 0 && stderr(&verbose).starts_with("hfl: "), "{command} -v: {}", stderr(&verbose));
    }
}
