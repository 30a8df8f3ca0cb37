//! `hfl verify` and `hfl mirrors` on real servers of every kind: all are damaged at once, and each is repaired from the
//! others.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::kinds::{self, Kind, check_store, objects, use_kinds};
use crate::support::lab::{Lab, code, stderr, two_images};

fn json(lab: &Lab, arguments: &[&str]) -> (i32, Value) {
    let output = lab.run(arguments);
    let report = serde_json::from_slice(&output.stdout);
    (code(&output), report.unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", stderr(&output))))
}

/// The problems in the stores, as `mirror kind path`.
fn problems(report: &Value, repaired: bool) -> BTreeSet<String> {
    let problems = report["problems"].as_array().unwrap().iter().filter(|p| p["place"] == "store");
    let problems = problems.inspect(|p| assert_eq!(p["repaired"], repaired, "{p}"));
    let text = |p: &Value, key: &str| p[key].as_str().unwrap().to_owned();
    problems.map(|p| format!("{} {} {}", text(p, "mirror"), text(p, "kind"), text(p, "path"))).collect()
}

/// Damages three blocks of a mirror, different ones on each, and the index and the head on all mirrors but the first.
/// Returns the problems that verify should find.
fn damage(runtime: &Runtime, kind: &Kind, number: usize, head: &RepoPath) -> BTreeSet<String> {
    let held = objects(runtime, &kind.store);
    let blocks: Vec<_> = held.iter().filter(|(path, _)| path.as_str().starts_with("blocks/")).collect();
    let block = |i: usize| blocks[number * 3 + i];
    let index = held.keys().find(|path| path.as_str().contains("/2-") && path.as_str().ends_with(".idx")).unwrap();
    let mut flipped = block(2).1.to_vec();
    flipped[20] ^= 1;
    let put = |path: &RepoPath, bytes: Bytes| runtime.block_on(kind.store.put_replace(path, bytes)).unwrap();
    runtime.block_on(kind.store.delete(block(0).0)).unwrap();
    put(block(1).0, block(1).1.slice(..block(1).1.len() / 2));
    put(block(2).0, flipped.into());
    let mut expected = vec![("missing", block(0).0), ("truncated", block(1).0), ("wrong", block(2).0)];
    // One good index and one good head must remain.
    if number > 0 {
        runtime.block_on(kind.store.delete(index)).unwrap();
        put(head, Bytes::from_static(b"<html>nothing here</html>"));
        expected.extend([("missing", index), ("wrong", head)]);
    }
    expected.into_iter().map(|(what, path)| format!("{} {what} {path}", kind.name)).collect()
}

#[test]
fn all_kinds_are_checked_and_heal_each_other() {
    let mut lab = Lab::new();
    let runtime = Runtime::new().unwrap();
    let kinds = kinds::all(&lab, &runtime);
    use_kinds(&mut lab, &kinds);
    two_images(&lab, 150);
    lab.publish(&["one.img", "--name", "os"]);
    lab.publish(&["two.img", "--name", "os"]);
    let good = objects(&runtime, &kinds[0].store);
    let started = Instant::now();
    let (code, report) = json(&lab, &["verify", "--to", "mirrors.toml", "--deep", "--json"]);
    assert_eq!((code, &report["problems"]), (0, &serde_json::json!([])));
    println!("{} objects on each of {} mirrors read in {:.1?}", good.len(), kinds.len(), started.elapsed());

    let head: RepoPath = "os.head".parse().unwrap();
    let expected = kinds.iter().enumerate().flat_map(|(i, kind)| damage(&runtime, kind, i, &head));
    let expected: BTreeSet<String> = expected.collect();
    let (code, report) = json(&lab, &["verify", "--to", "mirrors.toml", "--deep", "--json"]);
    assert_eq!((code, problems(&report, false)), (3, expected.clone()));
    let started = Instant::now();
    let (code, report) = json(&lab, &["verify", "--to", "mirrors.toml", "--deep", "--repair", "--json"]);
    // The report may still contain problems that a public URL had before the repair.
    assert!(code == 0 || code == 3, "{report}");
    assert_eq!(problems(&report, true), expected);
    println!("{} damages of {} mirrors mended in {:.1?}", expected.len(), kinds.len(), started.elapsed());
    for kind in &kinds {
        assert_eq!(check_store(&runtime, &*kind.store, "os", &lab.trust("os")), [2, 1], "{}", kind.name);
        assert!(objects(&runtime, &kind.store) == good, "{}: byte for byte as before", kind.name);
    }
    let (code, report) = json(&lab, &["verify", "--to", "mirrors.toml", "--deep", "--json"]);
    assert_eq!((code, &report["problems"]), (0, &serde_json::json!([])));
}

#[test]
fn real_stores_are_tried() {
    let mut lab = Lab::new();
    let runtime = Runtime::new().unwrap();
    let kinds = kinds::all(&lab, &runtime);
    use_kinds(&mut lab, &kinds);
    two_images(&lab, 20);
    lab.publish(&["one.img", "--name", "os"]);
    let before = objects(&runtime, &kinds[0].store);
    let started = Instant::now();
    let (code, states) = json(&lab, &["mirrors", "--to", "mirrors.toml", "--count", "--json"]);
    println!("{} mirrors tried in {:.1?}", kinds.len(), started.elapsed());
    print!("{}", lab.ok(&["mirrors", "--to", "mirrors.toml"]));
    assert_eq!(code, 0, "{states}");
    for (kind, state) in kinds.iter().zip(states["mirrors"].as_array().unwrap()) {
        let found = &state["capabilities"];
        let honest = |promise: &str, verdict: &str| assert_eq!(found[promise]["verdict"], verdict, "{}", kind.name);
        if kind.name == "rclone" {
            // After concurrent requests, rclone lists objects that are gone and hides some that exist, so nothing else
            // is checked.
            honest("exclusive_create", "no");
            continue;
        }
        for promise in ["exclusive_create", "atomic_replace", "conditional_put"] {
            assert_ne!(found[promise]["verdict"], "unknown", "{}: {found}", kind.name);
        }
        assert!(found["read_back"].is_null() || found["read_back"]["verdict"] == "yes", "{}: {found}", kind.name);
        assert_eq!(state["images"][0]["version"], 1, "{}", kind.name);
        assert_eq!(state["objects"], before.len(), "{}", kind.name);
        assert!(objects(&runtime, &kind.store) == before, "{}: nothing is left", kind.name);
        if kind.name == "seaweed" {
            honest("conditional_put", "yes");
        }
    }
}
