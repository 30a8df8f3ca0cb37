//! `hfl boot try`: versions that boot and versions that do not, the recorded profile, and the time a
//! boot takes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::format::head::Trust;
use hfl::format::layout::RepoPath;
use hfl::format::profile::Profile;
use hfl::qemu::{Relay, Wire};
use hfl::repo::source::Source;
use hfl::store::Fetch;
use serde_json::Value;

use crate::support::boot_fixture::{make_image, make_programs, make_system};
use crate::support::boot_local;
use crate::support::boot_published::{BOOT_WAIT, KERNEL_WORDS, needed};
use crate::support::evil::{Evil, FAULTS};
use crate::support::fixture::{Publish, image, newest};
use crate::support::lab::{Lab, code, full, or_skip, real_image};

/// A repository with one mirror and a real image. `None` if the image is missing.
fn published(options: &[&str]) -> Option<Lab> {
    let (image, client) = or_skip(needed("small"))?;
    let lab = Lab::new();
    let mirror = "[[mirror]]\nname = \"a\"\nwrite = \"./a\"\n";
    lab.write("mirrors.toml", format!("[publish]\nclient = [{:?}]\n{mirror}", client.display().to_string()));
    let words = ["publish", image.to_str().unwrap(), "--name", "small", "--to", "mirrors.toml", "--boot"];
    let words = [&words[..], &["--boot-append", KERNEL_WORDS], options].concat();
    lab.ok(&words);
    Some(lab)
}

/// Path of the image that [`published`] uses.
fn old_image() -> String {
    real_image("small", "old.img").unwrap().display().to_string()
}

/// Test-boots the newest version and returns the report.
fn attempt(lab: &Lab, options: &[&str]) -> Value {
    let words = ["boot", "try", "small", "--to", "mirrors.toml", "--json"];
    let report = serde_json::from_str(&lab.ok(&[&words[..], options].concat())).unwrap();
    crate::support::schema::assert_is("boot-try", &report);
    report
}

fn seconds(report: &Value) -> f64 {
    report["seconds"].as_f64().unwrap()
}

fn bytes(report: &Value) -> u64 {
    report["fetched"]["block_bytes"].as_u64().unwrap()
}

#[test]
fn a_published_version_comes_up_and_its_boot_is_recorded() {
    let Some(lab) = published(&[]) else { return };
    let report = attempt(&lab, &["--record", "boot.profile"]);
    println!("{report}");
    let profile = Profile::parse(&fs::read(lab.path("boot.profile")).unwrap()).unwrap();
    assert!(report["reached"] == true && report["why"].is_null() && report["version"] == 1);
    assert!(report["root_seconds"].as_f64().unwrap() < seconds(&report));
    assert_eq!(report["profile_blocks"], profile.reads().len());
    assert!(profile.reads().len() > 100 && profile.reads().windows(2).all(|pair| pair[0].ms <= pair[1].ms));
    assert_eq!(report["fetched"]["missing"], 0);
    // The profile contains every block fetched before the marker, and no block was requested twice.
    let blocks = report["fetched"]["blocks"].as_u64().unwrap();
    assert!(blocks <= profile.reads().len() as u64, "{blocks} of {}", profile.reads().len());

    let image = old_image();
    let shipped = ["publish", &image, "--name", "small", "--to", "mirrors.toml", "--profile", "boot.profile"];
    lab.ok(&shipped);
    let again = attempt(&lab, &["--latency", "20ms"]);
    println!("with its profile and 20 ms: {again}");
    // Prefetch fetches only what is read.
    assert!(bytes(&again) * 10 <= bytes(&report) * 11, "{} instead of {}", bytes(&again), bytes(&report));
}

#[test]
fn publish_records_a_boot_by_itself() {
    let Some(lab) = published(&["--profile", "auto", "--json"]) else { return };
    let log: Value = serde_json::from_str(&lab.ok(&["log", "a/small", "--json"])).unwrap();
    let path = log["versions"][0]["profile"].as_str().expect("a profile");
    let profile = Profile::parse(&fs::read(lab.path("a").join(path)).unwrap()).unwrap();
    println!("{} blocks", profile.reads().len());
    assert!(profile.reads().len() > 100 && log["versions"].as_array().unwrap().len() == 1);
    // An unchanged image is not booted.
    let image = old_image();
    let again = ["publish", &image, "--name", "small", "--to", "mirrors.toml", "--boot", "--profile", "auto", "--json"];
    let words = [&again[..], &["--boot-append", KERNEL_WORDS]].concat();
    let report: Value = serde_json::from_str(&lab.ok(&words)).unwrap();
    assert!(report["outcome"] == "no-change" && report["trial"].is_null(), "{report}");
}

#[test]
fn one_that_does_not_come_up_says_why() {
    let Some(lab) = published(&[]) else { return };
    let said = |options: &[&str]| {
        let output = lab.run(&[&["boot", "try", "small@1", "--to", "mirrors.toml"], options].concat());
        assert_eq!(code(&output), 1, "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = said(&["--append", "hfl.mode=none"]);
    assert!(text.contains("did not come up: hfl.mode=none") && text.contains("what to do:"), "{text}");
    let text = said(&["--until", "no such text", "--timeout", "12s"]);
    assert!(text.contains("it did not show `no such text` in 12s"), "{text}");
    let text = said(&["--append", "init=/sbin/poweroff"]);
    assert!(text.contains("did not come up"), "{text}");
    lab.fails(1, &["boot", "try", "small", "--to", "mirrors.toml", "--", "-no-such-option"]);
    let errors = lab.fails(1, &["boot", "try", "small@7", "--to", "mirrors.toml"]);
    assert!(errors.contains('7'), "{errors}");
}

#[test]
fn a_version_without_a_kernel_is_refused() {
    let lab = Lab::with_mirrors(&["a"]);
    make_system(&lab);
    make_programs(&lab);
    make_image(&lab, "ext4", "os.img", "8M");
    lab.publish(&["os.img"]);
    let errors = lab.fails(1, &["boot", "try", "os", "--to", "mirrors.toml"]);
    assert!(errors.contains("version 1 of os was published without a kernel") && errors.contains("--boot"), "{errors}");
    let errors = lab.fails(2, &["boot", "try", "os"]);
    assert!(errors.contains("--to mirrors.toml"), "{errors}");
    let errors = lab.fails(2, &["publish", "os.img", "--to", "mirrors.toml", "--profile", "auto"]);
    assert!(errors.contains("--boot"), "{errors}");
}

/// What the mirror of a trial returns for this path.
async fn asked(relay: &Relay, path: &RepoPath) -> Option<Vec<u8>> {
    let mirror: Source = format!("http://127.0.0.1:{}/test", relay.port()).parse().unwrap();
    Some(mirror.base.fetch().unwrap().get(path, 1 << 20).await.ok()?.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirror_of_a_trial_gives_nothing_that_one_mirror_does_wrong() {
    let home = tempfile::tempdir().unwrap();
    let image = image(1 << 20);
    let index = Publish { version: 1, block_bytes: 256 << 10, ..Publish::default() }.write(home.path(), &image);
    let read = |path: &RepoPath| fs::read(home.path().join(path.as_str())).ok();
    let (blocks, head) =
        (index.blocks().iter().map(|row| RepoPath::block(&row.id)), RepoPath::head(&index.header().image));
    let (blocks, old) = (blocks.collect::<Vec<_>>(), read(&head));
    let evil = Evil::start(home.path());
    let base = |behaviour: &str| -> Arc<dyn Fetch> {
        format!("{}/test", evil.url(behaviour)).parse::<Source>().unwrap().base.fetch().unwrap()
    };
    let opened = hfl::repo::open(&[base("good")], &newest(Trust::Anyone)).await.unwrap();
    let index = opened.row.index_path(&opened.head.image);
    // The relay keeps serving the opened version, not a newer one published meanwhile.
    Publish { version: 2, block_bytes: 256 << 10, ..Publish::default() }.write(home.path(), &image[..512 << 10]);
    for behaviour in FAULTS {
        let start = Instant::now();
        let stores = [base(&format!("all-{behaviour}")), base("good")];
        let relay = Relay::start(&stores, &opened, Wire::default()).await.unwrap();
        assert_eq!(asked(&relay, &head).await, old, "{behaviour}");
        for path in blocks.iter().chain([&index]) {
            assert_eq!(asked(&relay, path).await, read(path), "{behaviour}: {path}");
        }
        println!("{behaviour}: {:.1?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(4), "{behaviour}: {:?}", start.elapsed());
    }
    let relay = Relay::start(&[base("wrong")], &opened, Wire::default()).await.unwrap();
    assert_eq!(asked(&relay, &blocks[0]).await, None, "nobody has it right");
    assert_eq!(asked(&relay, &RepoPath::images()).await, None, "nothing vouches for it");
}

/// Seconds to the login of the same image on a local disk, with the same kernel and modules.
fn local_boot(lab: &Lab, image: &Path) -> f64 {
    boot_local::machine(lab, image).wait_for("login:", BOOT_WAIT).as_secs_f64()
}

/// Compares with the same image on a local disk, in the same run: over HTTP, with a profile, and with a
/// profile over a link of low bandwidth and high latency.
///
/// The overhead of the client is computation, which two emulated processors do at a thirtieth of their
/// usual speed: mostly SHA-256 and decompression of what is read.
#[test]
fn timed_a_boot_over_http_is_about_as_fast_as_one_from_a_disk() {
    let Some(lab) = published(&[]) else { return };
    let image = old_image();
    let tcg = ["--accel", "tcg"];
    let record = attempt(&lab, &[&tcg[..], &["--record", "boot.profile"]].concat());
    lab.ok(&["publish", &image, "--name", "small", "--to", "mirrors.toml", "--profile", "boot.profile"]);
    let without = [&tcg[..], &["--append", "hfl.profile=off"]].concat();
    let wire = [&tcg[..], &["--latency", "100ms", "--rate", "6250000"]].concat();
    // Ratios within one round, because the machine's speed changes from minute to minute.
    let mut ratios: [Vec<f64>; 3] = Default::default();
    let mut fetched = 0;
    for _ in 0..if full() { 5 } else { 1 } {
        let local = local_boot(&lab, Path::new(&image));
        let reports = [&without[..], &tcg, &wire].map(|options| attempt(&lab, options));
        fetched = bytes(&reports[0]);
        let [http, near, far] = reports.each_ref().map(seconds);
        println!(
            "local disk {local:.1} s, over HTTP {http:.1} s, with a profile {near:.1} s, and 100 ms, 50 Mbit/s {far:.1} s"
        );
        ratios.iter_mut().zip([http, near, far]).for_each(|(all, took)| all.push(took / local));
    }
    let [http, near, far] = ratios.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "to the login, times that of a local disk: {http:.2} over HTTP, {near:.2} with a profile, {far:.2} with 100 ms and \
         50 Mbit/s; {fetched} bytes fetched, {} really read",
        bytes(&record)
    );
    assert!(fetched as f64 <= 1.1 * bytes(&record) as f64, "{fetched} of {}", bytes(&record));
    // The machine may be loaded.
    let slack = if full() { 1.0 } else { 1.5 };
    assert!(http <= 1.15 * slack && near <= 1.15 * slack && far <= 1.5 * slack);
}
