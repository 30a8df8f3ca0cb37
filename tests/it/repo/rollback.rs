//! What a client remembers between runs: it refuses older versions, and a second version with the same number.

use hfl::format::digest::Sha256;
use hfl::format::head::{Head, Trust, VersionRow};
use hfl::format::name::Version;
use hfl::format::signing::SecretKey;
use hfl::format::time::Timestamp;
use hfl::repo::rollback::{Refused, Verdict, VersionHistory};
use hfl::repo::{StateDirectory, StateError};

fn now() -> Timestamp {
    Timestamp::from_unix(2_000_000)
}

fn version(number: u32) -> Version {
    Version::new(number.into()).unwrap()
}

fn head(newest: u32, salt: &str, expires: Option<u64>) -> Head {
    let row = |number: u32| VersionRow {
        version: version(number),
        index_bytes: 1,
        index_sha256: Sha256::of(format!("{number} {salt}").as_bytes()),
        created: now(),
        size: 1,
        new_bytes: 0,
        label: None,
    };
    Head {
        image: "test".parse().unwrap(),
        created: now(),
        expires: expires.map(Timestamp::from_unix),
        mirrors: Vec::new(),
        files: Vec::new(),
        notes: Vec::new(),
        versions: (1..=newest).rev().map(row).collect(),
    }
}

fn places(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

fn seen(newest: u32, trust: &Trust, at: &[&str]) -> VersionHistory {
    let mut seen = VersionHistory::default();
    seen.remember(&head(newest, "", None), trust, &places(at));
    seen
}

#[test]
fn older_and_other_versions_are_refused_and_newer_ones_pass() {
    let seen = seen(5, &Trust::Anyone, &["a"]);
    let judge = |head: &Head, at: &str| seen.judge(head, &Trust::Anyone, &places(&[at]), now());
    let rollback = Refused::Rollback { offered: version(4), seen: version(5) };
    assert_eq!(judge(&head(4, "", None), "a"), Err(rollback));
    assert_eq!(judge(&head(5, "other", None), "a"), Err(Refused::Equivocation(version(5))));
    assert_eq!(judge(&head(6, "other", None), "a"), Err(Refused::Equivocation(version(5))));
    assert_eq!(judge(&head(5, "", None), "a"), Ok(Verdict::Good));
    assert_eq!(judge(&head(6, "", None), "a"), Ok(Verdict::Good));
    assert_eq!(judge(&head(1, "", None), "b"), Ok(Verdict::Good), "another place is another image");
}

#[test]
fn a_key_counts_wherever_the_image_comes_from() {
    let key = Trust::Key(SecretKey::generate().unwrap().0.public().clone());
    let other = Trust::Key(SecretKey::generate().unwrap().0.public().clone());
    let seen = seen(5, &key, &["a"]);
    assert!(seen.judge(&head(4, "", None), &key, &places(&["b"]), now()).is_err());
    assert_eq!(seen.judge(&head(4, "", None), &other, &places(&["b"]), now()), Ok(Verdict::Good));
}

#[test]
fn an_image_that_was_signed_is_not_accepted_unsigned() {
    let key = Trust::Key(SecretKey::generate().unwrap().0.public().clone());
    let seen = seen(5, &key, &["a", "b"]);
    let judge = |at: &[&str]| seen.judge(&head(9, "", None), &Trust::Anyone, &places(at), now());
    assert_eq!(judge(&["c", "b"]), Err(Refused::WasSigned));
    assert_eq!(judge(&["c"]), Ok(Verdict::Good));
}

#[test]
fn an_expired_head_is_refused_at_first_and_a_warning_later() {
    let expired = head(5, "", Some(1_000_000));
    let at = places(&["a"]);
    let refused = VersionHistory::default().judge(&expired, &Trust::Anyone, &at, now());
    assert_eq!(refused, Err(Refused::Expired(Timestamp::from_unix(1_000_000))));
    let verdict = seen(5, &Trust::Anyone, &["a"]).judge(&expired, &Trust::Anyone, &at, now());
    assert_eq!(verdict, Ok(Verdict::Expired(Timestamp::from_unix(1_000_000))));
}

#[test]
fn what_is_remembered_survives_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (state, image) = (StateDirectory::new(directory.path()), "test".parse().unwrap());
    assert_eq!(state.load(&image).unwrap(), VersionHistory::default());
    let key = Trust::Key(SecretKey::generate().unwrap().0.public().clone());
    let mut seen = seen(5, &key, &["https://a.example/hfl/", "/with a space/x"]);
    seen.remember(&head(3, "", None), &Trust::Anyone, &places(&["/with a space/y"]));
    let set = |history: &mut VersionHistory| {
        *history = seen.clone();
        Ok(())
    };
    state.update(&image, set).unwrap();
    assert_eq!(state.load(&image).unwrap(), seen);
}

#[test]
fn a_memory_that_is_damaged_is_an_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (state, image) = (StateDirectory::new(directory.path()), "test".parse().unwrap());
    std::fs::create_dir_all(directory.path().join("seen")).unwrap();
    for damaged in ["HFL-SEEN 1\nnewest what\n", "", "\0\0\0"] {
        std::fs::write(state.file(&image), damaged).unwrap();
        assert!(matches!(state.load(&image), Err(StateError::Unreadable { .. })));
        assert!(matches!(state.update(&image, |_| Ok(())), Err(StateError::Unreadable { .. })));
        assert_eq!(std::fs::read(state.file(&image)).unwrap(), damaged.as_bytes());
    }
}

/// Many readers remember places of their own at the same time. Without a lock around loading and storing, most of these
/// would be lost.
#[test]
fn readers_that_remember_at_the_same_time_lose_nothing() {
    const READERS: usize = 8;
    const EACH: usize = 10;
    let directory = tempfile::tempdir().unwrap();
    let (state, image) = (StateDirectory::new(directory.path()), "test".parse().unwrap());
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (state, image) = (&state, &image);
            scope.spawn(move || {
                for number in 0..EACH {
                    let place = places(&[&format!("/{reader}/{number}")]);
                    let remember = |history: &mut VersionHistory| {
                        history.remember(&head(5, "", None), &Trust::Anyone, &place);
                        Ok(())
                    };
                    state.update(image, remember).unwrap();
                }
            });
        }
    });
    let history = state.load(&image).unwrap();
    for reader in 0..READERS {
        for number in 0..EACH {
            let place = places(&[&format!("/{reader}/{number}")]);
            assert!(history.is_newest_seen(&head(5, "", None), &Trust::Anyone, &place), "{place:?} is forgotten");
        }
    }
}

#[test]
fn unsigned_heads_cannot_make_the_memory_grow_for_ever_and_keys_are_kept() {
    let key = Trust::Key(SecretKey::generate().unwrap().0.public().clone());
    let mut history = seen(5, &key, &["a"]);
    for round in 0..100 {
        let many: Vec<String> = (0..256).map(|n| format!("https://{round}-{n}.example/{}/", "x".repeat(100))).collect();
        history.remember(&head(9, "", None), &Trust::Anyone, &many);
    }
    println!("{} bytes", history.text().len());
    assert!(history.text().len() < 1 << 20 && VersionHistory::parse(&history.text()).as_ref() == Some(&history));
    assert!(history.judge(&head(4, "", None), &key, &places(&["b"]), now()).is_err());
}
