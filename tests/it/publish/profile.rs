//! `hfl publish --profile`: a boot profile is published with its version, carried over to later versions, and used.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use hfl::format::head::{Head, SignedHead};
use hfl::format::index::{ExtentSource, Index};
use hfl::format::name::Version;
use hfl::format::profile::{FirstRead, Profile};
use serde_json::Value;

use crate::support::lab::{Lab, Random, check_mirror, code, make_ext4, make_tree, stderr};
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

/// A lab with version 1 of an image of 24 different blocks of 64 KiB on these mirrors.
fn published(mirrors: &[&str]) -> Lab {
    let lab = Lab::with_mirrors(mirrors);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("[publish]\nsplit = \"fixed:64K\"\n{toml}"));
    lab.write("os.img", Random(1).bytes(24 << 16));
    lab.publish(&["os.img"]);
    lab
}

fn head(lab: &Lab, mirror: &str) -> Head {
    let file = fs::read(lab.path(mirror).join("os.head")).unwrap();
    SignedHead::parse(&file).unwrap().verify(&lab.trust("os")).unwrap()
}

fn index(lab: &Lab, mirror: &str, version: u64) -> Index {
    let head = head(lab, mirror);
    let row = head.version(Version::new(version).unwrap()).unwrap();
    Index::parse(&fs::read(lab.path(mirror).join(row.index_path(&head.image).as_str())).unwrap()).unwrap()
}

/// The profile that a mirror's head names for a version, after checking its size and digest.
fn shipped(lab: &Lab, mirror: &str, version: u64) -> Option<Profile> {
    let head = head(lab, mirror);
    let row = Profile::row_in(&head, Version::new(version).unwrap())?;
    let file = fs::read(lab.path(mirror).join(row.path.as_str())).unwrap();
    assert_eq!((file.len() as u64, hfl::format::digest::Sha256::of(&file)), (row.bytes, row.sha256));
    let profile = Profile::parse(&file).unwrap();
    assert_eq!(profile.version().number() as u64, version);
    Some(profile)
}

/// A profile of the blocks at these offsets of a version.
fn profile_at(index: &Index, offsets: impl IntoIterator<Item = u64>) -> Profile {
    let reads = offsets.into_iter().zip(0..).map(|(offset, ms)| FirstRead { id: block_at(index, offset), ms, offset });
    Profile::new(index.header().image.clone(), index.header().version, reads.collect()).unwrap()
}

fn block_at(index: &Index, offset: u64) -> hfl::format::digest::BlockId {
    let mut end = 0;
    let extent = index.extents().iter().find(|extent| {
        end += extent.bytes;
        end > offset
    });
    let Some(ExtentSource::Block { block, .. }) = extent.map(|extent| extent.from) else {
        panic!("a hole at {offset}")
    };
    index.blocks()[block as usize].id
}

/// Converts block numbers to offsets in the image.
fn offsets(blocks: &[u64]) -> Vec<u64> {
    blocks.iter().map(|block| block << 16).collect()
}

fn read_offsets(profile: &Profile) -> Vec<u64> {
    profile.reads().iter().map(|read| read.offset).collect()
}

const BOOT: [u64; 6] = [20, 3, 4, 11, 0, 7];

/// Publishes version 1 again with a profile of its blocks in `BOOT`.
fn publish_boot(lab: &Lab) -> Value {
    lab.write("boot.profile", profile_at(&index(lab, "a", 1), offsets(&BOOT)).to_bytes());
    lab.publish(&["os.img", "--profile", "boot.profile"])
}

/// Two publishers that could not reach each other's mirror made two versions with one number. The version that resolves
/// this keeps the profile.
#[test]
fn a_version_made_by_sync_keeps_the_profile() {
    let lab = published(&["a", "b"]);
    publish_boot(&lab);
    for mirror in ["a", "b"] {
        lab.write(
            "one.toml",
            format!("[publish]\nsplit = \"fixed:64K\"\n[[mirror]]\nname = \"{mirror}\"\nwrite = \"./{mirror}\"\n"),
        );
        let mut publish = lab.command(&["publish", "os.img", "--force", "--to", "one.toml", "-q"]);
        assert!(publish.env("XDG_STATE_HOME", lab.path(&format!("state-{mirror}"))).status().unwrap().success());
        fs::OpenOptions::new().write(true).open(lab.path("os.img")).unwrap().write_all_at(b"other", 15 << 16).unwrap();
    }
    assert_ne!(
        head(&lab, "a").newest().index_sha256,
        head(&lab, "b").newest().index_sha256,
        "one number, two versions"
    );
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    for mirror in ["a", "b"] {
        assert_eq!(read_offsets(&shipped(&lab, mirror, 3).unwrap()), offsets(&BOOT), "{mirror}");
    }
}

#[test]
fn an_unchanged_image_gets_a_profile_and_no_new_version() {
    let lab = published(&["a", "b"]);
    assert_eq!(shipped(&lab, "a", 1), None);
    let report = publish_boot(&lab);
    assert_eq!((&report["outcome"], &report["version"]), (&Value::from("no-change"), &Value::from(1)));
    assert_eq!((&report["profile_blocks"], &report["mirrors"][0]["objects"]), (&Value::from(6), &Value::from(0)));
    for mirror in ["a", "b"] {
        assert_eq!(read_offsets(&shipped(&lab, mirror, 1).unwrap()), offsets(&BOOT));
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [1]);
    }
    let files = lab.files("a");
    let again = publish_boot(&lab);
    assert_eq!((&again["mirrors"][0]["files"], lab.files("a")), (&Value::from(0), files), "the same one is no change");
    assert_eq!(lab.publish(&["os.img"])["mirrors"][0]["files"], 0, "nor is none");

    let other = profile_at(&index(&lab, "a", 1), offsets(&[5, 6]));
    lab.write("boot.profile", other.to_bytes());
    lab.publish(&["os.img", "--profile", "boot.profile"]);
    assert_eq!(shipped(&lab, "b", 1), Some(other), "a new one takes its place");
    assert_eq!(head(&lab, "a").files.len(), 1);

    let log: Value = serde_json::from_str(&lab.ok(&["log", "a/os", "--json"])).unwrap();
    assert!(log["versions"][0]["profile"].as_str().unwrap().starts_with("profile/os/1-"), "{log}");
    let text = lab.ok(&["log", "a/os"]);
    assert!(text.contains("profile") && !text.contains("curl"), "{text}");
}

#[test]
fn it_is_carried_over_to_an_image_changed_in_place() {
    let lab = published(&["a", "b"]);
    publish_boot(&lab);
    let mut changed = fs::read(lab.path("os.img")).unwrap();
    changed[(3 << 16) + 5] ^= 1;
    changed[(9 << 16) + 5] ^= 1;
    lab.write("os.img", &changed);
    // The first mirror has a damaged copy, so the copy of the other one is used.
    let path = head(&lab, "a").files[0].path.clone();
    fs::write(lab.path("a").join(path.as_str()), "nothing").unwrap();
    let report = lab.publish(&["os.img"]);
    assert_eq!((&report["version"], &report["profile_blocks"]), (&Value::from(2), &Value::from(6)));
    let (old, new) = (index(&lab, "a", 1), index(&lab, "a", 2));
    let profile = shipped(&lab, "a", 2).unwrap();
    assert_eq!(profile, profile_at(&new, offsets(&BOOT)), "block 3 by its place, the others by their contents");
    assert_ne!(block_at(&old, 3 << 16), block_at(&new, 3 << 16));
    assert!(shipped(&lab, "b", 1).is_some(), "the old version keeps its own");

    // A profile that was recorded on the old version is published with the next one.
    changed[(11 << 16) + 5] ^= 1;
    lab.write("os.img", &changed);
    lab.publish(&["os.img", "--profile", "boot.profile"]);
    assert_eq!(shipped(&lab, "b", 3), Some(profile_at(&index(&lab, "b", 3), offsets(&BOOT))));
    lab.ok(&["rollback", "os", "1", "--to", "mirrors.toml"]);
    assert_eq!(read_offsets(&shipped(&lab, "a", 4).unwrap()), offsets(&BOOT), "a version that comes back has its own");
}

#[test]
fn it_is_carried_over_to_an_image_that_was_built_again() {
    let lab = Lab::with_mirrors(&["a"]);
    make_tree(&lab.path("tree"), 900, 5);
    make_ext4(&lab.path("tree"), &lab.path("os.img"), "64M");
    lab.publish(&["os.img"]);
    let old = index(&lab, "a", 1);
    let mut at = 0;
    let starts = old.extents().iter().filter_map(|extent| {
        at += extent.bytes;
        matches!(extent.from, ExtentSource::Block { .. }).then_some(at - extent.bytes)
    });
    let mut seen = std::collections::HashSet::new();
    let starts: Vec<u64> = starts.filter(|&start| seen.insert(block_at(&old, start))).step_by(2).collect();
    lab.write("boot.profile", profile_at(&old, starts).to_bytes());
    lab.publish(&["os.img", "--profile", "boot.profile"]);
    // New files come first, so all other files move.
    (0..10).for_each(|i| drop(lab.write(&format!("tree/aaa/{i}"), Random(70 + i).bytes(50_000))));
    make_ext4(&lab.path("tree"), &lab.path("os.img"), "64M");
    lab.publish(&["os.img"]);
    let (before, after, new) = (shipped(&lab, "a", 1).unwrap(), shipped(&lab, "a", 2).unwrap(), index(&lab, "a", 2));
    let ids = |profile: &Profile| profile.reads().iter().map(|read| read.id).collect::<Vec<_>>();
    let in_new: std::collections::HashSet<_> = new.blocks().iter().map(|block| block.id).collect();
    let kept: Vec<_> = ids(&before).into_iter().filter(|id| in_new.contains(id)).collect();
    assert!(ids(&after).iter().all(|id| in_new.contains(id)), "only blocks of the new version");
    println!("of {} blocks {} are still there, {} are read now", ids(&before).len(), kept.len(), ids(&after).len());
    assert!(kept.len() * 3 > ids(&before).len() && kept.iter().all(|id| ids(&after).contains(id)));
    let moved = after.reads().iter().filter(|read| before.reads().iter().all(|b| b.offset != read.offset)).count();
    assert!(moved > 0 && after.reads().iter().all(|read| block_at(&new, read.offset) == read.id), "{moved} moved");
}

#[test]
fn a_bad_profile_is_refused_before_anything_is_sent() {
    let lab = published(&["a"]);
    let (before, index) = (lab.files("a"), index(&lab, "a", 1));
    let good = String::from_utf8(profile_at(&index, offsets(&BOOT)).to_bytes()).unwrap();
    let foreign = Profile::new("other".parse().unwrap(), Version::FIRST, Vec::new()).unwrap();
    let elsewhere = FirstRead { id: hfl::format::digest::BlockId([7; 20]), ms: 0, offset: 1 << 40 };
    let nowhere = Profile::new("os".parse().unwrap(), Version::FIRST, vec![elsewhere]).unwrap();
    let bad: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "expected HFL-PROFILE"),
        ("an image", Random(3).bytes(1 << 20), "HFL-PROFILE"),
        ("damaged", good.replace("blocks 6", "blocks 5").into(), "line "),
        ("hostile", b"HFL-PROFILE 1\nimage os\nversion 1\nblocks 524288\n--\n".to_vec(), "too short"),
        ("too large", vec![b'x'; (64 << 20) + 1], "at most 67108864"),
        ("foreign", foreign.to_bytes(), "this is a profile of image other, not of os"),
        ("of nothing here", nowhere.to_bytes(), "none of its blocks are in this image"),
    ];
    for (what, bytes, why) in bad {
        lab.write("bad.profile", bytes);
        let said = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml", "--profile", "bad.profile"]);
        assert!(said.contains("bad.profile: ") && said.contains(why), "{what}: {said}");
    }
    let said = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml", "--profile", "absent.profile"]);
    assert!(said.contains("absent.profile"), "{said}");
    let after: Vec<String> = lab.files("a").into_iter().filter(|file| file != "publish.lock").collect();
    assert_eq!(after, before, "nothing but a word that work may have been left undone");
}

#[test]
fn one_that_no_mirror_has_is_not_carried_over_and_costs_no_publish() {
    let lab = published(&["a", "b"]);
    publish_boot(&lab);
    let path = head(&lab, "a").files[0].path.clone();
    ["a", "b"].iter().for_each(|mirror| fs::write(lab.path(mirror).join(path.as_str()), "nothing").unwrap());
    lab.write("os.img", Random(2).bytes(24 << 16));
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("the new version has no profile"), "{}", stderr(&output));
    assert_eq!(shipped(&lab, "a", 2), None);
}

#[test]
fn a_dry_run_counts_the_profile() {
    let lab = published(&["a", "b"]);
    lab.write("boot.profile", profile_at(&index(&lab, "a", 1), offsets(&BOOT)).to_bytes());
    let compare = |what: &str, arguments: &[&str]| {
        let plan = lab.publish(&[arguments, &["--dry-run"]].concat());
        let done = lab.publish(arguments);
        for (plan, done) in plan["mirrors"].as_array().unwrap().iter().zip(done["mirrors"].as_array().unwrap()) {
            ["objects", "bytes", "files", "file_bytes"]
                .iter()
                .for_each(|key| assert_eq!(plan[key], done[key], "{what}: {key}"));
        }
        println!("{what}: {} files, {} bytes", done["mirrors"][0]["files"], done["mirrors"][0]["file_bytes"]);
        done["mirrors"][0]["files"].as_u64().unwrap()
    };
    let with = compare("the same image", &["os.img", "--profile", "boot.profile"]);
    assert_eq!(with, 4, "the profile, its signature, the head, the page of the image");
    assert_eq!(compare("nothing new", &["os.img", "--profile", "boot.profile"]), 0);
    lab.write("os.img", Random(2).bytes(24 << 16));
    assert_eq!(
        compare("a new version", &["os.img"]),
        with + 5,
        "and the index, its signature, the front page, two feeds"
    );
}

#[test]
fn verify_and_gc_know_it() {
    let lab = published(&["a", "b"]);
    publish_boot(&lab);
    let verify = |options: &[&str]| {
        let output = lab.run(&[&["verify", "--to", "mirrors.toml", "--json"], options].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problem = |p: &Value| format!("{} {}", p["kind"].as_str().unwrap(), p["path"].as_str().unwrap());
        (code(&output), report["problems"].as_array().unwrap().iter().map(problem).collect::<Vec<_>>())
    };
    assert_eq!(verify(&["--deep"]), (0, vec![]));
    let path = head(&lab, "a").files[0].path.clone();
    for file in [path.as_str().to_owned(), path.signature().as_str().to_owned()] {
        let place = lab.path("a").join(&file);
        let good = fs::read(&place).unwrap();
        let mut bad = good.clone();
        bad[80] ^= 1;
        for (kind, damage) in [("wrong", Some(bad)), ("missing", None)] {
            match damage {
                Some(bad) => fs::write(&place, bad).unwrap(),
                None => fs::remove_file(&place).unwrap(),
            }
            assert_eq!(verify(&[]), (3, vec![format!("{kind} {file}")]));
            assert_eq!(verify(&["--repair"]).0, 0);
            assert!(fs::read(&place).unwrap() == good, "{kind} {file}");
        }
    }
    let other = profile_at(&index(&lab, "a", 1), offsets(&[5, 6]));
    lab.write("boot.profile", other.to_bytes());
    lab.publish(&["os.img", "--profile", "boot.profile"]);
    let of_version_1 = || lab.files("a").into_iter().filter(|f| f.starts_with("profile/os/1-")).count();
    assert_eq!(of_version_1(), 4, "the one that was replaced lies there until its version goes");
    lab.write("os.img", Random(2).bytes(24 << 16));
    lab.publish(&["os.img"]);
    lab.ok(&["gc", "--to", "mirrors.toml", "--keep", "1", "--grace-days", "0"]);
    let left: Vec<String> = lab.files("b").into_iter().filter(|f| f.starts_with("profile/")).collect();
    assert!(left.len() == 2 && left.iter().all(|f| f.starts_with("profile/os/2-")), "{left:?}");
    assert_eq!(verify(&["--deep"]), (0, vec![]));
    assert!(shipped(&lab, "a", 2).is_some());
}

#[test]
fn a_head_that_outgrows_its_limit_drops_the_profiles_of_the_versions_that_go() {
    let lab = published(&["a"]);
    publish_boot(&lab);
    let mut head = head(&lab, "a");
    let (row, file) = (head.versions[0].clone(), head.files[0].clone());
    let named = |version: Version| hfl::format::layout::RepoPath::profile(&head.image, version, &file.sha256);
    let versions: Vec<Version> = (1..2000).rev().map(|n| Version::new(n).unwrap()).collect();
    head.versions = versions.iter().map(|&version| hfl::format::head::VersionRow { version, ..row.clone() }).collect();
    head.files = versions.iter().map(|&v| hfl::format::head::FileRow { path: named(v), ..file.clone() }).collect();
    head.files.sort_by(|a, b| a.path.cmp(&b.path));
    head.drop_oldest_beyond_limit();
    println!("{} of 2000 versions with a profile fit", head.versions.len());
    assert!(head.versions.len() > 500 && head.versions.len() == head.files.len());
    assert!(head.versions.iter().all(|row| Profile::row_in(&head, row.version).is_some()));
    SignedHead::new(head, hfl::format::head::HeadSignature::Unsigned).unwrap();
}

#[test]
fn recorded_at_one_mount_shipped_and_fetched_ahead_by_the_next_client() {
    if cannot_mount() {
        return;
    }
    let lab = published(&["a"]);
    let (server, record) = (WebServer::new(&lab.path("a")), lab.path("boot.profile"));
    let key = fs::read_to_string(lab.path("home/.config/hfl/keys/os.pub")).unwrap();
    let key = key.lines().last().unwrap();
    let arguments = ["--key", key, "--no-cache", "--record", record.to_str().unwrap()];
    let mounted = Mounted::new(&lab.path("first"), &arguments, &[&server.url()], "os");
    let file = fs::File::open(mounted.file()).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    BOOT.iter().for_each(|block| file.read_exact_at(&mut [0; 100], block << 16).unwrap());
    drop(file);
    mounted.end();
    let mut changed = fs::read(lab.path("os.img")).unwrap();
    changed[(3 << 16) + 5] ^= 1;
    lab.write("os.img", &changed);
    lab.publish(&["os.img", "--profile", "boot.profile"]);

    let new = index(&lab, "a", 2);
    let home = lab.path("second");
    let mounted = Mounted::new(&home, &["--key", key], &[&server.url()], "os");
    let cached = |block: u64| {
        let path = hfl::format::layout::RepoPath::block(&block_at(&new, block << 16));
        home.join("cache/hfl").join(path.as_str()).exists()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !BOOT.iter().all(|&block| cached(block)) {
        assert!(Instant::now() < deadline, "the blocks of the profile are not fetched");
        std::thread::sleep(Duration::from_millis(50));
    }
    let others = (0..24).filter(|block| !BOOT.contains(block) && cached(*block)).count();
    println!("{} blocks were fetched ahead, and {others} others", BOOT.len());
    assert!(others < 3);
    assert!(fs::read(mounted.file()).unwrap() == changed);
    mounted.end();
}
