//! Only signed objects decide: neither what a mirror's owner can write into files, nor what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use hfl::format::digest::Sha256;
use hfl::format::head::{Head, HeadSignature, SignedHead, VersionRow};
use hfl::format::layout::RepoPath;
use hfl::format::name::Version;
use hfl::format::retirement::Retirement;
use hfl::format::signing::SecretKey;
use hfl::format::time::Timestamp;

use crate::support::lab::{Lab, Random, check_mirror, code, stderr};
use crate::support::library::{OtherClock, keep_one, repository};

/// Publishes `count` versions of `os` to these mirrors, of 16 blocks each. Half of the blocks are new each time.
fn versions(mirrors: &[&str], count: u64) -> Lab {
    let lab = Lab::with_mirrors(mirrors);
    for version in 1..=count {
        publish(&lab, version);
    }
    lab
}

fn image(version: u64) -> Vec<u8> {
    let mut bytes = Random(1).bytes(1 << 19);
    bytes.extend(Random(100 + version).bytes(1 << 19));
    bytes
}

fn publish(lab: &Lab, version: u64) {
    lab.write("os.img", image(version));
    lab.publish(&["os.img", "--split", "fixed:65536"]);
}

/// The files of a mirror, by path.
fn contents(lab: &Lab, mirror: &str) -> BTreeMap<String, Vec<u8>> {
    let files = lab.files(mirror).into_iter();
    files.map(|file| (file.clone(), fs::read(lab.path(mirror).join(file)).unwrap())).collect()
}

fn head(lab: &Lab, mirror: &str) -> Head {
    let file = fs::read(lab.path(mirror).join("os.head")).unwrap();
    SignedHead::parse(&file).unwrap().verify(&lab.trust("os")).unwrap()
}

fn secret(lab: &Lab) -> SecretKey {
    let text = fs::read_to_string(lab.path("home/.config/hfl/keys/os.key")).unwrap();
    SecretKey::parse(&text, None).unwrap()
}

fn put_head(lab: &Lab, mirror: &str, head: Head) {
    let signature = secret(lab).sign(&head.body(), &head.trusted_comment()).unwrap();
    let sealed = SignedHead::new(head, HeadSignature::Signed(Box::new(signature))).unwrap();
    fs::write(lab.path(mirror).join("os.head"), sealed.to_bytes()).unwrap();
}

fn put_record(lab: &Lab, mirror: &str, row: &VersionRow, marked: Timestamp) {
    let row = VersionRow { new_bytes: 0, label: None, ..row.clone() };
    let retirement = Retirement { image: "os".parse().unwrap(), marked, row, files: Vec::new() };
    let signature = secret(lab).sign(&retirement.body(), &retirement.trusted_comment()).unwrap();
    let file = retirement.to_bytes(&HeadSignature::Signed(Box::new(signature)));
    lab.write(&format!("{mirror}/{}", retirement.path()), file);
}

fn gc(lab: &Lab, options: &[&str]) -> (i32, String) {
    let all: Vec<&str> = ["gc", "--to", "mirrors.toml", "--more-than-half"].iter().chain(options).copied().collect();
    all_said(lab, &all)
}

/// Returns the exit code, and the text of both outputs.
fn all_said(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let output = lab.run(arguments);
    (code(&output), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

#[test]
fn a_record_that_nobody_signed_decides_nothing() {
    let lab = versions(&["a", "b"], 1);
    let (own, other) = (contents(&lab, "a"), contents(&lab, "b"));
    let mut forged = String::from("HFL-RETIRED 1\nimage os\nmarked 2000-01-01T00:00:00Z\n");
    let digest = "b".repeat(64);
    forged += &format!("version 7 100 {digest} 2000-01-01T00:00:00Z 4096\n");
    let named = own.keys().map(|path| format!("file {path} 1 {digest}\n"));
    forged.extend(named);
    for seal in ["", "--\nunsigned\n"] {
        lab.write(&format!("b/retired/os/7-{}", &digest[..12]), format!("{forged}{seal}"));
        let (code, said) = gc(&lab, &["--grace-days", "0"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("it decides nothing") && said.contains("nothing to remove"), "{said}");
        assert_eq!(contents(&lab, "a"), own, "nothing is removed from the other mirror");
        let left = contents(&lab, "b");
        assert!(other.iter().all(|(path, bytes)| left.get(path) == Some(bytes)), "nor from this one");
    }
}

#[test]
fn no_mirror_shortens_the_grace_period() {
    let lab = versions(&["a", "b"], 2);
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("os 1 is retired and goes after"), "{said}");
    let before = contents(&lab, "a");
    // The index of the retired version under another number, and a record of that number with its grace period long
    // over.
    let index = before.keys().find(|path| path.starts_with("index/os/1-") && path.ends_with(".idx")).unwrap();
    let file = before[index].clone();
    let digest = Sha256::of(&file);
    lab.write(
        &format!("b/{}", RepoPath::index(&"os".parse().unwrap(), Version::new(4_000_000_000).unwrap(), &digest)),
        &file,
    );
    let record = format!(
        "HFL-RETIRED 1\nimage os\nmarked 2000-01-01T00:00:00Z\nversion 4000000000 {} {digest} 2000-01-01T00:00:00Z 1048576\n",
        file.len()
    );
    lab.write(&format!("b/retired/os/4000000000-{}", &digest.to_string()[..12]), record.clone());
    lab.write(&format!("b/retired/os/4000000000-{}", &digest.to_string()[..12]), record + "--\nunsigned\n");
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("nothing to remove"), "{said}");
    assert_eq!(contents(&lab, "a"), before);
}

/// The old record is left over from an interrupted run. The version was really retired much later.
#[test]
fn of_several_records_the_latest_counts() {
    let lab = versions(&["a", "b"], 2);
    let old = head(&lab, "a").versions[1].clone();
    gc(&lab, &["--keep", "1"]);
    put_record(&lab, "a", &old, Timestamp::from_unix(1_000_000_000));
    let before = contents(&lab, "a");
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("os 1 is retired and goes after 20"), "{said}");
    assert_eq!(contents(&lab, "a"), before);
    put_record(&lab, "b", &old, Timestamp::from_unix(1_000_000_000));
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("removed 8 blocks"), "{said}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2]);
}

/// Three versions on two mirrors. The first was retired long ago and the second just now. These two share half of their
/// blocks, and the third has none of them.
fn one_due_one_pending() -> Lab {
    let lab = versions(&["a", "b"], 2);
    lab.write("os.img", Random(50).bytes(1 << 20));
    lab.publish(&["os.img", "--split", "fixed:65536"]);
    let old = head(&lab, "a").versions[2].clone();
    gc(&lab, &["--keep", "1"]);
    for mirror in ["a", "b"] {
        put_record(&lab, mirror, &old, Timestamp::from_unix(1_000_000_000));
    }
    lab
}

/// Two retired versions share blocks that no head names. These are removed with the last of the two.
#[test]
fn what_a_version_in_its_grace_period_shares_stays() {
    let lab = one_due_one_pending();
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("removed 8 blocks"), "{said}");
    let (code, said) = gc(&lab, &["--keep", "1", "--grace-days", "0"]);
    assert!(code == 0 && said.contains("removed 16 blocks"), "{said}");
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [3]);
    }
}

/// The blocks of a retired version are unknown without its index. Until its grace period is over, no block is removed.
#[test]
fn what_a_version_in_its_grace_period_had_stays_though_its_index_is_lost() {
    let lab = one_due_one_pending();
    for mirror in ["a", "b"] {
        let index =
            lab.files(mirror).into_iter().find(|f| f.starts_with("index/os/2-") && f.ends_with(".idx")).unwrap();
        lab.write(&format!("{mirror}/{index}"), "rotten");
    }
    let blocks = |mirror| contents(&lab, mirror).into_keys().filter(|f| f.starts_with("blocks/")).count();
    let before = blocks("a");
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(
        code == 3 && said.contains("os version 2: no mirror has a good index of it") && said.contains("or wait"),
        "{code}: {said}"
    );
    assert_eq!((blocks("a"), blocks("b")), (before, before));
    let (code, said) = gc(&lab, &["--keep", "1", "--grace-days", "0"]);
    assert!(code == 0 && said.contains("removed 16 blocks"), "{code}: {said}");
}

/// A mirror that was away gets the head that retires a version days later than the others. Until then its clients saw
/// that version.
#[test]
fn the_grace_period_begins_when_the_last_mirror_retires_a_version() {
    let lab = versions(&["a", "b"], 2);
    let old = head(&lab, "a").versions[1].clone();
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", toml.replace("\"./b\"", "\"./b\"\nenabled = false"));
    gc(&lab, &["--keep", "1"]);
    put_record(&lab, "a", &old, Timestamp::from_unix(1_000_000_000));
    lab.write("mirrors.toml", &toml);
    let before = contents(&lab, "a");
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("os 1 is retired and goes after 20"), "{said}");
    assert_eq!(contents(&lab, "a"), before);
    assert_eq!(head(&lab, "b"), head(&lab, "a"));
}

/// Clients that have seen the later version would refuse the older one.
#[test]
fn a_mirror_that_lost_its_head_gets_no_older_one() {
    let lab = versions(&["a", "b"], 1);
    publish_to(&lab, "a", 2);
    gets_no_other_head(&lab, 1, &[3, 1]);
}

/// Clients that have seen one of the two would refuse the other.
#[test]
fn a_mirror_that_lost_its_head_gets_no_other_one_of_that_number() {
    let lab = versions(&["a", "b"], 1);
    publish_to(&lab, "a", 2);
    lab.forget();
    publish_to(&lab, "b", 3);
    gets_no_other_head(&lab, 2, &[3, 2, 1]);
}

/// Publishes to only one of the mirrors a and b.
fn publish_to(lab: &Lab, mirror: &str, contents: u64) {
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    let other = if mirror == "a" { "\"./b\"" } else { "\"./a\"" };
    lab.write("mirrors.toml", toml.replace(other, &format!("{other}\nenabled = false")));
    publish(lab, contents);
    lab.write("mirrors.toml", &toml);
}

/// Mirror a has a version 2 and loses its head. Mirror b has version `of_b`. At the end, both have these versions.
fn gets_no_other_head(lab: &Lab, of_b: u32, versions: &[u32]) {
    fs::remove_file(lab.path("a/os.head")).unwrap();
    for state in ["known", "unknown"] {
        if state == "unknown" {
            lab.forget();
        }
        let keys = lab.path("home/.config/hfl/keys");
        let public = fs::read_to_string(keys.join("os.pub")).unwrap();
        fs::rename(keys.join("os.key"), lab.path("os.key")).unwrap();
        let (status, said) = all_said(lab, &["sync", "--to", "mirrors.toml", "--key", public.lines().nth(1).unwrap()]);
        fs::rename(lab.path("os.key"), keys.join("os.key")).unwrap();
        assert!(status == 6 && said.contains("no mirror has a head that names it"), "{state}: {said}");
        assert!(!lab.path("a/os.head").exists() && head(lab, "b").newest().version.number() == of_b, "{state}");
    }
    // A damaged head is not repaired with that head either.
    lab.write("a/os.head", "damaged");
    let (status, said) = all_said(lab, &["verify", "--to", "mirrors.toml", "--repair"]);
    assert!(status != 0 && said.contains("which no head that is known names"), "{said}");
    fs::remove_file(lab.path("a/os.head")).unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), versions);
    }
}

#[test]
fn a_head_that_was_lost_is_no_new_beginning() {
    let lab = versions(&["a"], 3);
    fs::remove_file(lab.path("a/os.head")).unwrap();
    let before = contents(&lab, "a");
    for state in ["known", "unknown"] {
        if state == "unknown" {
            lab.forget();
        }
        let said = lab.fails(5, &["publish", "os.img", "--to", "mirrors.toml"]);
        assert!(said.contains("no mirror has its head, but") && said.contains("--first"), "{state}: {said}");
        assert_eq!(contents(&lab, "a"), before, "{state}");
    }
    lab.publish(&["os.img", "--split", "fixed:65536", "--first"]);
    assert_eq!(head(&lab, "a").newest().version.number(), 4, "no number is used again");
}

/// On a machine without state, and without a list of images that names the image, the signatures of its indexes are the
/// evidence, even if an index itself is damaged.
#[test]
fn an_index_bears_witness_to_a_number_only_if_it_is_signed() {
    let lab = versions(&["a", "b"], 2);
    let newest = head(&lab, "a").newest().clone();
    let path = newest.index_path(&"os".parse().unwrap());
    for mirror in ["a", "b"] {
        fs::remove_file(lab.path(mirror).join("os.head")).unwrap();
        fs::remove_file(lab.path(mirror).join("images")).unwrap();
        flip(&lab.path(mirror).join(path.as_str()));
    }
    lab.forget();
    let said = lab.fails(5, &["publish", "os.img", "--to", "mirrors.toml"]);
    assert!(said.contains("index/os/2-"), "{said}");
    // A number without a valid signature does not use up all version numbers.
    let digest = newest.index_sha256;
    let signature = fs::read_to_string(lab.path("a").join(path.signature().as_str())).unwrap();
    for (number, forged) in [
        (4_294_967_295_u64, "untrusted comment: x\n".to_owned()),
        (4_000_000_000, signature.clone()),
        (3_999_999_999, signature.replace("hfl index os 2 ", "hfl index os 3999999999 ")),
    ] {
        let path = RepoPath::index(&"os".parse().unwrap(), Version::new(number).unwrap(), &digest);
        lab.write(&format!("b/{path}"), "anything");
        lab.write(&format!("b/{path}.minisig"), forged);
    }
    lab.publish(&["os.img", "--split", "fixed:65536", "--first"]);
    assert_eq!(head(&lab, "b").newest().version.number(), 3);
}

/// On two nights, a machine without state can reach only one of the mirrors, a different one each time.
#[test]
fn two_versions_of_one_number_end_in_the_next_one() {
    let lab = versions(&["a", "b"], 1);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    let without = |other: &str| toml.replace(&format!("\"./{other}\""), &format!("\"./{other}\"\nenabled = false"));
    lab.forget();
    for (night, (mirror, other)) in [("a", "b"), ("b", "a")].into_iter().enumerate() {
        lab.write("mirrors.toml", without(other));
        fs::write(lab.path("os.img"), image(10 + night as u64)).unwrap();
        lab.publish(&["os.img", "--split", "fixed:65536"]);
        lab.forget();
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [2, 1]);
    }
    lab.write("mirrors.toml", &toml);
    let report = lab.publish(&["os.img", "--split", "fixed:65536"]);
    assert_eq!((&report["version"], &report["outcome"]), (&3.into(), &"published".into()), "{report}");
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [3, 2, 1]);
    }
    assert_eq!(head(&lab, "a"), head(&lab, "b"));
    // The version that only one of the two mirrors had is retired, so that its objects do not stay forever.
    let records: Vec<String> =
        ["a", "b"].iter().flat_map(|m| lab.files(m)).filter(|f| f.starts_with("retired/")).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    let (code, said) = gc(&lab, &["--grace-days", "0"]);
    assert!(code == 0 && said.contains("os 2"), "{said}");
    assert_eq!(lab.run(&["verify", "--to", "mirrors.toml", "--deep"]).status.code(), Some(0));
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [3, 2, 1]);
    }
}

#[test]
fn a_directory_whose_disk_is_not_mounted_is_left_alone() {
    let lab = versions(&["a", "usb"], 2);
    fs::rename(lab.path("usb"), lab.path("elsewhere")).unwrap();
    fs::create_dir(lab.path("usb")).unwrap();
    fs::write(lab.path("os.img"), image(3)).unwrap();
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--split", "fixed:65536"]);
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is its disk mounted?"), "{output:?}");
    assert_eq!(lab.files("usb"), Vec::<String>::new(), "nothing is written below the place where it is mounted");
    fs::remove_dir(lab.path("usb")).unwrap();
    fs::rename(lab.path("elsewhere"), lab.path("usb")).unwrap();
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(check_mirror(&lab.path("usb"), "os", &lab.trust("os")), [3, 2, 1]);
}

#[test]
fn versions_stay_in_the_signed_history_though_their_index_is_damaged() {
    let lab = versions(&["a"], 3);
    let index = lab.files("a").into_iter().find(|f| f.starts_with("index/os/1-") && f.ends_with(".idx")).unwrap();
    let good = fs::read(lab.path("a").join(&index)).unwrap();
    fs::write(lab.path("a").join(&index), &good[..good.len() - 1]).unwrap();
    let numbers = |lab: &Lab| head(lab, "a").versions.iter().map(|row| row.version.number()).collect::<Vec<_>>();
    lab.run(&["sync", "--to", "mirrors.toml"]);
    assert_eq!(numbers(&lab), [3, 2, 1], "after sync");
    gc(&lab, &["--keep", "5"]);
    assert_eq!(numbers(&lab), [3, 2, 1], "after gc");
    publish(&lab, 4);
    assert_eq!(numbers(&lab), [4, 3, 2, 1], "after publish");
    fs::write(lab.path("a").join(&index), good).unwrap();
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [4, 3, 2, 1]);
}

#[test]
fn a_clock_that_was_ahead_once_does_not_keep_heads_fresh_for_years() {
    let lab = versions(&["a"], 2);
    let now = head(&lab, "a").created;
    let ahead = Timestamp::from_unix(now.unix() + 20 * 365 * 86_400);
    let mut wrong = head(&lab, "a");
    wrong.created = ahead;
    wrong.expires = Some(ahead.plus_days(7));
    put_head(&lab, "a", wrong);
    fs::write(lab.path("os.img"), image(3)).unwrap();
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--expires", "7"]);
    assert!(stderr(&output).contains("is the clock right?"), "{}", stderr(&output));
    let new = head(&lab, "a");
    assert!(new.created > ahead, "heads never go back");
    assert!(new.expires.unwrap() <= now.plus_days(8), "{:?}", new.expires);
    // A clock that is behind does not shorten the grace period either.
    gc(&lab, &["--keep", "1"]);
    let path = lab.files("a").into_iter().find(|f| f.starts_with("retired/")).unwrap();
    let (file, path): (_, RepoPath) = (fs::read(lab.path("a").join(&path)).unwrap(), path.parse().unwrap());
    let record = Retirement::read(&file, &path, &lab.trust("os")).unwrap();
    assert!(record.marked >= head(&lab, "a").created, "{} {}", record.marked, head(&lab, "a").created);
}

#[test]
fn a_clock_that_is_behind_does_not_shorten_the_grace_period() {
    let lab = versions(&["a"], 2);
    let mut repository = repository(&lab);
    repository.host = Arc::new(OtherClock { ahead_seconds: -3 * 365 * 86_400 });
    let report = keep_one(&repository).unwrap();
    assert_eq!(report.marked[0].retired, [1]);
    let before = contents(&lab, "a");
    let (code, said) = gc(&lab, &["--keep", "1"]);
    assert!(code == 0 && said.contains("os 1 is retired and goes after"), "{said}");
    assert_eq!(contents(&lab, "a"), before);
}

#[test]
fn a_list_of_images_is_a_set_however_it_is_written() {
    for text in ["zz\nos\n", "os\nzz", "os\nos\nzz\n"] {
        let lab = versions(&["a"], 1);
        fs::copy(lab.path("a/os.head"), lab.path("a/zz.head")).unwrap();
        fs::write(lab.path("a/images"), text).unwrap();
        lab.write("new.img", Random(9).bytes(100_000));
        lab.publish(&["new.img"]);
        assert_eq!(fs::read_to_string(lab.path("a/images")).unwrap(), "new\nos\nzz\n", "{text:?}");
    }
}

#[test]
fn no_more_names_are_read_than_a_repository_may_have_and_none_is_shown_that_does_not_verify() {
    let lab = versions(&["a", "b"], 1);
    fs::write(lab.path("b/images"), (0..4000).map(|i| format!("n{i}\n")).chain(["os\n".into()]).collect::<String>())
        .unwrap();
    let started = std::time::Instant::now();
    publish(&lab, 2);
    println!("4,000 names without heads: {:.1?}", started.elapsed());
    for mirror in ["a", "b"] {
        let page = fs::read_to_string(lab.path(mirror).join("index.html")).unwrap();
        assert!(!page.contains("n3999"), "names of one mirror are not shown on all");
    }
    fs::write(lab.path("b/images"), (0..300_000).map(|i| format!("n{i}\n")).collect::<String>()).unwrap();
    fs::write(lab.path("os.img"), image(3)).unwrap();
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--split", "fixed:65536"]);
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [3, 2, 1]);
}

/// The head is signed and names the index. A publisher with the key can sign that index again.
#[test]
fn a_signature_that_is_none_is_not_given_to_new_mirrors() {
    for left in [None, Some("anything\n")] {
        let lab = versions(&["a"], 2);
        let signature =
            lab.files("a").into_iter().find(|f| f.starts_with("index/os/1-") && f.ends_with(".minisig")).unwrap();
        match left {
            Some(text) => fs::write(lab.path("a").join(&signature), text).unwrap(),
            None => fs::remove_file(lab.path("a").join(&signature)).unwrap(),
        }
        let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
        lab.write("mirrors.toml", toml + "[[mirror]]\nname = \"c\"\nwrite = \"./c\"\n");
        let key = lab.path("home/.config/hfl/keys/os.key");
        fs::rename(&key, lab.path("os.key")).unwrap();
        let (status, said) = all_said(&lab, &["sync", "--to", "mirrors.toml"]);
        assert!(status == 6 && said.contains("no mirror has a good signature of index/os/1-"), "{said}");
        assert!(!lab.path("c").join(&signature).exists() && !lab.path("c/os.head").exists());
        fs::rename(lab.path("os.key"), &key).unwrap();
        lab.ok(&["sync", "--to", "mirrors.toml"]);
        assert_eq!(check_mirror(&lab.path("c"), "os", &lab.trust("os")), [2, 1]);
    }
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// One damaged block on its only holder, while the publisher has the image.
#[test]
fn a_damaged_block_is_made_again_from_the_image() {
    let lab = versions(&["b"], 1);
    let block = lab.files("b").into_iter().find(|f| f.starts_with("blocks/")).unwrap();
    flip(&lab.path("b").join(&block));
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("[[mirror]]\nname = \"a\"\nwrite = \"./a\"\n{toml}"));
    lab.publish(&["os.img", "--split", "fixed:65536"]);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [1], "the new mirror is not kept out by it");
    assert_eq!(lab.run(&["verify", "--to", "mirrors.toml", "--deep", "--repair"]).status.code(), Some(0));
    // Damaged on all mirrors: only the image has the block.
    for mirror in ["a", "b"] {
        flip(&lab.path(mirror).join(&block));
    }
    assert_eq!(lab.run(&["verify", "--to", "mirrors.toml", "--deep", "--repair"]).status.code(), Some(3));
    let repaired = lab.run(&["verify", "--to", "mirrors.toml", "--deep", "--repair", "--seed", "os.img"]);
    assert_eq!(code(&repaired), 0, "{}", stderr(&repaired));
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [1]);
    }
}

#[test]
fn a_truncated_block_is_not_taken_for_a_good_one_because_it_is_listed() {
    let lab = versions(&["a"], 1);
    let block = lab.files("a").into_iter().find(|f| f.starts_with("blocks/")).unwrap();
    let good = fs::read(lab.path("a").join(&block)).unwrap();
    fs::write(lab.path("a").join(&block), &good[..good.len() / 2]).unwrap();
    let report = lab.publish(&["os.img", "--split", "fixed:65536", "--check", "list"]);
    assert_eq!(report["mirrors"][0]["repaired"], 1, "{report}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [1]);
}

/// Only one mirror has the head of the newest version, and the index of that version is gone. The others continue
/// without that mirror.
#[test]
fn a_newest_version_without_its_index_can_be_left_behind() {
    let lab = versions(&["a", "b"], 1);
    publish_to(&lab, "b", 2);
    let index = lab.files("b").into_iter().find(|f| f.starts_with("index/os/2-") && f.ends_with(".idx")).unwrap();
    fs::remove_file(lab.path("b").join(index)).unwrap();
    lab.write("os.img", image(3));
    let (status, said) = all_said(&lab, &["publish", "os.img", "--to", "mirrors.toml", "--split", "fixed:65536"]);
    assert!(status == 6 && said.contains("no mirror has a good index of os version 2"), "{said}");
    assert_eq!(head(&lab, "a").newest().version.number(), 1);
    publish_to(&lab, "a", 4);
    lab.ok(&["sync", "--to", "mirrors.toml"]);
    for mirror in ["a", "b"] {
        assert_eq!(check_mirror(&lab.path(mirror), "os", &lab.trust("os")), [4, 1]);
    }
}

/// The size of the block is right, so a listing does not reveal the damage.
#[test]
fn a_damaged_block_is_made_again_though_a_listing_has_it() {
    let lab = versions(&["a"], 1);
    let block = lab.files("a").into_iter().find(|f| f.starts_with("blocks/")).unwrap();
    flip(&lab.path("a").join(&block));
    let report = lab.publish(&["os.img", "--split", "fixed:65536", "--check", "list", "--force"]);
    assert_eq!(report["mirrors"][0]["repaired"], 1, "{report}");
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [2, 1]);
}

/// Old heads of ours on a hostile mirror change nothing on the other mirrors.
#[test]
fn an_old_head_shown_again_changes_nothing_elsewhere() {
    let lab = versions(&["a", "b"], 2);
    let old = contents(&lab, "b");
    publish(&lab, 3);
    gc(&lab, &["--keep", "1", "--grace-days", "0"]);
    let before: BTreeSet<String> = lab.files("a").into_iter().collect();
    for (path, bytes) in &old {
        lab.write(&format!("b/{path}"), bytes);
    }
    lab.run(&["sync", "--to", "mirrors.toml"]);
    lab.run(&["verify", "--to", "mirrors.toml", "--repair"]);
    gc(&lab, &["--keep", "1", "--grace-days", "0"]);
    assert_eq!(lab.files("a").into_iter().collect::<BTreeSet<_>>(), before);
    assert_eq!(check_mirror(&lab.path("a"), "os", &lab.trust("os")), [3]);
}
