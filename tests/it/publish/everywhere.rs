//! One publish to mirrors of every kind, on real servers, in one run.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio::runtime::Runtime;

use crate::support::kinds::{self, blocks, check_store, objects, use_kinds};
use crate::support::lab::{Lab, two_images};

/// What a publish writes besides blocks: an index, its signature, a head, two pages and two feeds; the style sheet is there.
const FILES: u64 = 7;

#[test]
fn all_kinds_in_one_run() {
    let mut lab = Lab::new();
    let runtime = Runtime::new().unwrap();
    let kinds = kinds::all(&lab, &runtime);
    use_kinds(&mut lab, &kinds);
    two_images(&lab, 150);

    let plan = lab.publish(&["one.img", "--name", "os", "--dry-run"]);
    let started = Instant::now();
    let first = lab.publish(&["one.img", "--name", "os"]);
    println!("version 1 to {} mirrors in {:.1?}", kinds.len(), started.elapsed());
    let one: Vec<BTreeSet<_>> = kinds.iter().map(|kind| blocks(&runtime, &kind.store)).collect();
    let plan_two = lab.publish(&["two.img", "--name", "os", "--dry-run"]);
    let started = Instant::now();
    let second = lab.publish(&["two.img", "--name", "os"]);
    println!("version 2 to {} mirrors in {:.1?}", kinds.len(), started.elapsed());
    let trust = lab.trust("os");
    let here = objects(&runtime, &kinds[0].store);
    for (i, kind) in kinds.iter().enumerate() {
        let (planned, sent) = (&plan["mirrors"][i], &first["mirrors"][i]);
        for figure in ["objects", "bytes", "files"] {
            assert_eq!(planned[figure], sent[figure], "{}: the dry run says {figure}", kind.name);
        }
        for figure in ["objects", "bytes", "files", "file_bytes"] {
            let (planned, sent) = (&plan_two["mirrors"][i], &second["mirrors"][i]);
            assert_eq!(planned[figure], sent[figure], "{}: the dry run says {figure} of version 2", kind.name);
        }
        assert_eq!(second["mirrors"][i]["objects"], second["new"]["blocks"], "{}: exactly the new blocks", kind.name);
        assert_eq!(second["mirrors"][i]["files"], FILES, "{}", kind.name);
        let new = blocks(&runtime, &kind.store).difference(&one[i]).count();
        assert_eq!(second["new"]["blocks"], new, "{}: and they are there", kind.name);
        assert_eq!(check_store(&runtime, &*kind.store, "os", &trust), [2, 1], "{}", kind.name);
        assert!(objects(&runtime, &kind.store) == here, "{}: all mirrors hold the same", kind.name);
    }
    let again = lab.publish(&["two.img", "--name", "os"]);
    assert_eq!(again["outcome"], "no-change");
    let nothing = |m: &serde_json::Value| m["objects"] == 0 && m["files"] == 0;
    assert!(again["mirrors"].as_array().unwrap().iter().all(nothing), "{again}");
}
