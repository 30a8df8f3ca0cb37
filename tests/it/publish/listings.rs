//! Mirrors with empty or truncated listings. A publish tries to send what seems to be missing and finds that it is
//! there. Nothing is ever removed because of a listing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hfl::format::head::Trust;
use hfl::format::layout::RepoPath;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::kinds::{Kind, blocks, check_store, objects, reset, use_kinds};
use crate::support::lab::{Lab, skipped, two_images};
use crate::support::relay::{Relay, Shown};

const SPLIT: &str = "fixed:32K";

/// Version 1 on a directory mirror and on a server whose listings can be truncated.
struct Cut {
    lab: Lab,
    runtime: Runtime,
    kinds: Vec<Kind>,
    relay: Relay,
    trust: Trust,
}

impl Cut {
    fn start(kind: Option<Kind>) -> Option<Self> {
        let Some(mut kind) = kind else {
            skipped("a server is not installed");
            return None;
        };
        let mut relay = None;
        kind.behind(|server| relay.insert(Relay::start(server)).address());
        let relay = relay?;
        let mut lab = Lab::new();
        let kinds = vec![Kind::directory(&lab, "good"), kind];
        use_kinds(&mut lab, &kinds);
        two_images(&lab, 60);
        lab.publish(&["one.img", "--name", "os", "--split", SPLIT]);
        let trust = lab.trust("os");
        Some(Self { lab, runtime: Runtime::new().unwrap(), kinds, relay, trust })
    }

    fn name(&self) -> &str {
        self.kinds[1].name
    }

    fn versions(&self) -> [Vec<u32>; 2] {
        [0, 1].map(|i| check_store(&self.runtime, &*self.kinds[i].store, "os", &self.trust))
    }

    fn hold(&self) -> [BTreeMap<RepoPath, Bytes>; 2] {
        [0, 1].map(|i| objects(&self.runtime, &self.kinds[i].store))
    }

    fn reset(&self, held: &[BTreeMap<RepoPath, Bytes>; 2]) {
        self.kinds.iter().zip(held).for_each(|(kind, held)| reset(&self.runtime, &kind.store, held));
        self.lab.forget();
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.lab.ok(arguments)).unwrap()
    }
}

/// Publishes, syncs and collects while the server lists only half of its objects, then nothing.
fn listings(kind: Option<Kind>) {
    let Some(cut) = Cut::start(kind) else { return };
    let one = cut.hold();
    for shown in [Shown::Half, Shown::Nothing] {
        cut.reset(&one);
        publishes(&cut, shown, "mirrors.toml");
        cut.relay.show(Shown::All);
        collects(&cut, shown);
    }
    // The server is the only mirror: no other mirror holds the blocks that its listing omits.
    cut.reset(&one);
    cut.lab.write("alone.toml", &cut.kinds[1].table);
    publishes(&cut, Shown::Half, "alone.toml");
}

/// Publishes and syncs with `--check list`.
fn publishes(cut: &Cut, shown: Shown, to: &str) {
    cut.relay.show(shown);
    let left_out = cut.relay.left_out();
    let before = cut.hold();
    let publish = ["publish", "two.img", "--name", "os", "--split", SPLIT, "--json", "--check", "list", "--to", to];
    let published = cut.json(&publish);
    let synced = cut.json(&["sync", "--json", "--check", "list", "--to", to]);
    let mirror = |report: &Value| report["mirrors"].as_array().unwrap().last().unwrap().clone();
    let (sent, again) = (mirror(&published), mirror(&synced["images"][0]));
    println!(
        "{} shows {shown:?}: {} entries left out; published: {} sent, {} found; synced: {} sent, {} found",
        cut.name(),
        cut.relay.left_out() - left_out,
        sent["objects"],
        sent["found"],
        again["objects"],
        again["found"]
    );
    assert!(cut.relay.left_out() > left_out);
    assert_eq!(sent["objects"], published["new"]["blocks"], "only what is new is really written: {sent}");
    assert!(sent["found"].as_u64() > Some(0) && again["found"].as_u64() > Some(0), "what seemed missing was found");
    assert_eq!(again["objects"], 0, "{again}");
    let alone = to != "mirrors.toml";
    assert_eq!(cut.versions(), [if alone { vec![1] } else { vec![2, 1] }, vec![2, 1]]);
    let after = cut.hold();
    for (before, after) in before.iter().zip(&after) {
        assert!(before.keys().all(|path| after.contains_key(path)), "nothing is lost");
    }
}

/// Collects version 1. Whatever the listing shows, only blocks that version 1 alone names are removed.
fn collects(cut: &Cut, shown: Shown) {
    let before = cut.hold();
    let all: Vec<BTreeSet<RepoPath>> = cut.kinds.iter().map(|kind| blocks(&cut.runtime, &kind.store)).collect();
    let gc = ["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0", "--more-than-half", "--json"];
    cut.json(&gc);
    let collected: Vec<BTreeSet<RepoPath>> = cut.kinds.iter().map(|kind| blocks(&cut.runtime, &kind.store)).collect();
    let ones: BTreeSet<_> = all[0].difference(&collected[0]).cloned().collect();
    assert!(!ones.is_empty());
    cut.reset(&before);
    cut.relay.show(shown);
    let report = cut.json(&gc);
    assert_eq!(cut.versions(), [[2], [2]]);
    for (kind, all) in cut.kinds.iter().zip(&all) {
        let left = blocks(&cut.runtime, &kind.store);
        let gone: BTreeSet<_> = all.difference(&left).cloned().collect();
        println!("{} shows {shown:?}: {} of {} blocks went from {}", cut.name(), gone.len(), all.len(), kind.name);
        assert!(gone.is_subset(&ones), "only what the retired version alone named");
    }
    cut.relay.show(Shown::All);
    cut.json(&gc);
    assert_eq!(
        cut.kinds.iter().map(|kind| blocks(&cut.runtime, &kind.store)).collect::<Vec<_>>(),
        collected,
        "{report}"
    );
    assert_eq!(cut.versions(), [[2], [2]]);
}

#[test]
fn an_s3_store_with_cut_listings() {
    listings(Kind::seaweed(&Runtime::new().unwrap()));
}

#[test]
fn a_web_server_with_cut_listings() {
    listings(Kind::nginx());
}

/// All mirrors list nothing. Signed heads and records decide what is removed, not listings.
#[test]
fn a_collection_where_nothing_is_listed() {
    let Some(cut) = Cut::start(Kind::nginx()) else { return };
    let toml = cut.lab.write("alone.toml", &cut.kinds[1].table);
    cut.lab.publish(&["two.img", "--name", "os", "--split", SPLIT]);
    let before = blocks(&cut.runtime, &cut.kinds[1].store);
    cut.relay.show(Shown::Nothing);
    let to = toml.to_str().unwrap();
    let report = cut.json(&["gc", "--to", to, "--keep", "1", "--grace-days", "0", "--more-than-half", "--json"]);
    let gone = before.len() - blocks(&cut.runtime, &cut.kinds[1].store).len();
    assert_eq!(report["swept"]["blocks"], gone, "{report}");
    assert_eq!(cut.versions()[1], [2]);
    println!("an empty listing: of {} blocks {gone} removed, which version 1 alone named", before.len());
}
