//! The JSON of each command is as src/doc/json.schema.json says.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::fixture::Publish;
use crate::support::lab::{Lab, Random, code, skipped, stderr};
use crate::support::mounting::run;
use crate::support::nbd::Exported;
use crate::support::schema::{assert_is, check, definitions};

fn lab() -> Lab {
    let lab = Lab::with_mirrors(&["a", "b"]);
    let mut bytes = Random(1).bytes(3 << 20);
    lab.write("os.img", &bytes);
    lab.write("two.img", &bytes);
    let first = lab.publish(&["os.img", "two.img", "--split", "fixed:64K", "--label", "first"]);
    assert_is("publish-images", &first);
    bytes[1 << 20..][..9].copy_from_slice(b"something");
    lab.write("os.img", &bytes);
    lab
}

/// The report of a command that may find a problem.
fn report(lab: &Lab, words: &str) -> Value {
    let words: Vec<&str> = words.split(' ').collect();
    let output = lab.run(&[&words[..], &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", stderr(&output)))
}

#[test]
fn the_reports_of_hfl() {
    let lab = lab();
    let is = |name: &str, words: &str| assert_is(name, &report(&lab, words));
    is("publish", "publish os.img --to mirrors.toml --dry-run");
    is("publish", "publish os.img --to mirrors.toml --deltas");
    is("publish", "publish os.img --to mirrors.toml");
    is("diff", "diff os --to mirrors.toml");
    is("diff", "diff two --to mirrors.toml");
    is("publish", "rollback os 1 --to mirrors.toml");
    is("publish", "publish os.img --to mirrors.toml --whole-sha256");
    is("log", "log a/os");
    is("restore", "restore a/os out.img");
    is("key-new", "key new --out k");
    is("key-show", "key show");
    is("key-check", "key check os");
    is("mirrors", "mirrors --to mirrors.toml --count");
    fs::remove_dir_all(lab.path("b/index")).unwrap();
    fs::remove_file(lab.path("b/images")).unwrap();
    is("verify", "verify --to mirrors.toml --deep");
    is("publish-images", "sync --to mirrors.toml");
    is("gc", "gc --to mirrors.toml --keep 1 --more-than-half");
    is("gc", "gc --to mirrors.toml --keep 1 --grace-days 0");
    let tables = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", tables + "[[mirror]]\nname = \"c\"\nwrite = \"webdav+http://127.0.0.1:1/\"\n");
    is("mirrors", "mirrors --to mirrors.toml");
    is("verify", "verify --to mirrors.toml");
    is("demo", "demo demo");
}

#[test]
fn errors_and_progress_of_both_programs() {
    let lab = lab();
    for words in ["log a/none --unsigned", "publish none.img --to mirrors.toml", "publish --json", "diff"] {
        let words: Vec<&str> = words.split(' ').collect();
        let output = lab.run(&[&words[..], &["--json"]].concat());
        let said: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        assert_is("error", &said);
        assert_eq!(said["exit"], code(&output));
    }
    let output = run(&lab.path("home"), &["fetch", "--json", "--unsigned", "--timeout", "1", "http://127.0.0.1:1/os"]);
    let last = stderr(&output).lines().last().unwrap().to_owned();
    assert_is("error", &serde_json::from_str(&last).unwrap());
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--progress", "json", "--force"]);
    for line in stderr(&output).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_is(if line["warning"].is_null() { "progress" } else { "warning" }, &line);
    }
}

#[test]
fn a_mount_that_works() {
    if !Path::new("/dev/fuse").exists() {
        return skipped("no /dev/fuse");
    }
    let lab = lab();
    fs::create_dir(lab.path("point")).unwrap();
    let output = lab.run(&["mount", "--json", "--key", "home/.config/hfl/keys/os.pub", "./a/os", "point"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = fs::read(report["file"].as_str().unwrap());
    let ended = Command::new("fusermount3").arg("-u").arg(lab.path("point")).status();
    assert_is("mount", &report);
    assert_eq!(file.unwrap().len() as u64, report["size"]);
    assert!(ended.unwrap().success());
}

#[test]
fn an_export() {
    let lab = Lab::new();
    Publish::default().write(&lab.path("public"), &[1; 5000]);
    let export = Exported::new(&lab.path("home"), &["--json"], &lab.path("public/test").display().to_string());
    assert_is("mount-nbd", &serde_json::from_str(export.said()).unwrap());
}

#[test]
fn the_schema_is_one() {
    // A wrong value of each kind is noticed.
    let error = json!({ "schema": 1, "error": "e", "hint": null, "exit": 1 });
    let definitions = definitions();
    let fits = |value: &Value| check(&definitions["error"], value, &definitions, "").is_ok();
    assert!(fits(&error));
    for (key, wrong) in
        [("schema", json!(2)), ("error", json!(null)), ("hint", json!(1)), ("exit", json!(6)), ("new", json!(1))]
    {
        let mut value = error.clone();
        value[key] = wrong;
        assert!(!fits(&value), "{value}");
    }
    assert!(!fits(&json!({ "schema": 1 })));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doc/json.schema.json");
    let checked = Command::new("python3")
        .args([
            "-c",
            "import sys, json, jsonschema; jsonschema.Draft202012Validator.check_schema(json.load(open(sys.argv[1])))",
        ])
        .arg(file)
        .output();
    match checked {
        Ok(output) if output.status.success() => {}
        Ok(output) if !stderr(&output).contains("No module named") => panic!("{}", stderr(&output)),
        _ => skipped("no jsonschema of Python"),
    }
}
