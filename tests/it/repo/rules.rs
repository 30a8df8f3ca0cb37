//! All readers follow the same rules: no older version, no expired head at first sight, no key from a file that happens
//! to be there, and no bad mirror that stops the good ones.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use hfl::format::signing::SecretKey;

use crate::support::evil::Evil;
use crate::support::fixture::{Publish, image};
use crate::support::format_fixtures::golden_secret;
use crate::support::lab::{Lab, code, stderr};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, client, run};

/// A repository `a` with the image `test`, as one user of this machine reads it.
struct World {
    lab: Lab,
    key: SecretKey,
    public: String,
}

/// All commands that read images, as [`World::read`] names them.
const READERS: [&str; 7] = ["log", "restore", "diff", "boot try", "fetch", "nbd", "mount"];

impl World {
    fn new() -> Self {
        let lab = Lab::with_mirrors(&["a"]);
        let key = golden_secret();
        let public = key.public().to_string();
        Self { lab, key, public }
    }

    /// Publishes this version to the mirror in `base`.
    fn publish(&self, base: &str, version: u64, expires: Option<u64>) {
        let publish = Publish { key: Some(&self.key), version, expires, ..Publish::default() };
        publish.write(&self.lab.path(base), &image((2 << 20) + version as usize));
    }

    fn head(&self, base: &str) -> PathBuf {
        self.lab.path(base).join("test.head")
    }

    fn state(&self) -> PathBuf {
        self.lab.path("home/state/hfl/seen/test")
    }

    /// Reads the newest version in `a` with one of [`READERS`], without mounting or exporting anything in the end.
    fn read(&self, reader: &str, options: &[&str]) -> Output {
        let (source, home) = (self.lab.path("a/test"), self.lab.path("home"));
        let (source, key) = (source.to_str().unwrap(), self.public.as_str());
        let out = self.lab.path("out.img");
        let _ = fs::remove_file(&out);
        let hfl = |words: &[&str]| self.lab.run(&[words, &["--key", key], options].concat());
        let client = |words: &[&str]| run(&home, &[words, &["--key", key, "--no-cache"], options].concat());
        match reader {
            "log" => hfl(&["log", source]),
            "restore" => hfl(&["restore", source, out.to_str().unwrap()]),
            "diff" => hfl(&["diff", "test@1", "test@1", "--to", "mirrors.toml"]),
            "boot try" => hfl(&["boot", "try", "test", "--to", "mirrors.toml"]),
            "fetch" => run(&home, &[&["fetch", source, "--key", key][..], options].concat()),
            // Both end before they begin to serve: no file can be created in this directory.
            "nbd" => client(&["nbd", source, "--socket", "/proc/no-such-socket"]),
            "mount" => client(&["--foreground", "--record", "/proc/no-such-record", source, &self.point()]),
            other => panic!("no such reader: {other}"),
        }
    }

    fn point(&self) -> String {
        let point = self.lab.path("point");
        fs::create_dir_all(&point).unwrap();
        point.to_str().unwrap().to_owned()
    }

    /// Checks that the reader opens the image. It may fail afterwards, as described above. Returns its messages.
    fn opens(&self, reader: &str, options: &[&str]) -> String {
        let output = self.read(reader, options);
        let said = stderr(&output);
        let later = ["without a kernel", "no-such-socket", "no-such-record"];
        let opened = output.status.success() || (code(&output) == 1 && later.iter().any(|words| said.contains(words)));
        assert!(opened, "{reader}: {said}");
        said
    }

    fn refuses(&self, reader: &str, options: &[&str]) -> String {
        let output = self.read(reader, options);
        assert_eq!(code(&output), 3, "{reader}: {}", stderr(&output));
        stderr(&output)
    }
}

#[test]
fn no_reader_goes_back_behind_what_any_of_them_has_seen() {
    for first in READERS {
        let world = World::new();
        world.publish("a", 1, None);
        let old = fs::read(world.head("a")).unwrap();
        world.publish("a", 2, None);
        world.opens(first, &[]);
        fs::write(world.head("a"), &old).unwrap();
        let others = if first == "log" { &READERS[..] } else { &["log"] };
        for reader in others {
            let said = world.refuses(reader, &[]);
            assert!(said.contains("rollback") && said.contains("version 2 was seen before"), "{reader}: {said}");
            let advice = said.contains("--allow-rollback") && said.contains(world.state().to_str().unwrap());
            assert!(advice, "{reader}: {said}");
        }
    }
}

#[test]
fn an_old_version_is_read_of_a_head_that_is_not_old() {
    let world = World::new();
    world.publish("a", 1, None);
    let old = fs::read(world.head("a")).unwrap();
    world.publish("a", 2, None);
    world.opens("log", &[]);
    world.opens("restore", &["--version", "1"]);
    fs::write(world.head("a"), old).unwrap();
    world.refuses("restore", &["--version", "1"]);
}

#[test]
fn a_person_who_knows_better_allows_a_rollback_once() {
    let world = World::new();
    world.publish("a", 1, None);
    let old = fs::read(world.head("a")).unwrap();
    world.publish("a", 2, None);
    for reader in ["log", "fetch"] {
        let new = fs::read(world.head("a")).unwrap();
        world.opens(reader, &[]);
        fs::write(world.head("a"), &old).unwrap();
        world.refuses(reader, &[]);
        let said = world.opens(reader, &["--allow-rollback"]);
        assert!(said.contains("warning") && said.contains("rollback"), "{said}");
        assert!(!world.opens(reader, &[]).contains("rollback"), "what was allowed is remembered");
        fs::write(world.head("a"), new).unwrap();
    }
    world.opens("log", &[]);
    fs::write(world.head("a"), &old).unwrap();
    fs::remove_file(world.state()).unwrap();
    world.opens("log", &[]);
}

#[test]
fn an_expired_head_is_refused_at_first_and_a_warning_later() {
    for reader in READERS {
        let world = World::new();
        world.publish("a", 1, Some(1_700_000_000));
        let expired = fs::read(world.head("a")).unwrap();
        let said = world.refuses(reader, &[]);
        assert!(said.contains("expired") && said.contains("never used here before"), "{reader}: {said}");
        fs::remove_file(world.head("a")).unwrap();
        world.publish("a", 1, None);
        assert!(!world.opens(reader, &[]).contains("expired"));
        fs::write(world.head("a"), expired).unwrap();
        let said = world.opens(reader, &[]);
        assert!(said.contains("warning") && said.contains("expired"), "{reader}: {said}");
    }
}

#[test]
fn a_damaged_memory_is_no_reason_to_go_on_without_one() {
    let world = World::new();
    world.publish("a", 1, None);
    world.opens("log", &[]);
    for damaged in ["", "HFL-SEEN 1\nnewest x\n"] {
        fs::write(world.state(), damaged).unwrap();
        for reader in ["log", "restore", "fetch"] {
            let output = world.read(reader, &[]);
            let said = stderr(&output);
            assert!(code(&output) == 1 && said.contains(world.state().to_str().unwrap()), "{reader}: {said}");
            assert_eq!(fs::read_to_string(world.state()).unwrap(), damaged);
        }
    }
}

#[test]
fn who_has_no_place_for_a_memory_is_told() {
    let world = World::new();
    world.publish("a", 1, None);
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.lab.path(""), everybody).unwrap();
    let source = world.lab.path("a/test").display().to_string();
    let key = ["--key", &world.public];
    for (mut command, words) in [
        (world.lab.command(&[]), &["log", "--json", &source][..]),
        (client(&world.lab.path("home")), &["fetch", "--json", &source]),
    ] {
        command.args(words).args(key).env_remove("HOME").env_remove("XDG_STATE_HOME");
        if rustix::process::geteuid().is_root() {
            // Root has a system-wide state directory.
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        let said = stderr(&command.output().unwrap());
        assert!(said.matches("not remembered").count() == 1 && said.contains("XDG_STATE_HOME"), "{words:?}: {said}");
    }
    assert!(!world.opens("log", &[]).contains("not remembered"));
}

#[test]
fn an_unsigned_image_in_a_directory_is_the_same_for_all_readers() {
    let world = World::new();
    let publish = |version| Publish { version, ..Publish::default() }.write(&world.lab.path("a"), &image(2 << 20));
    publish(1);
    let old = fs::read(world.head("a")).unwrap();
    publish(2);
    let new = fs::read(world.head("a")).unwrap();
    let whole = world.lab.path("a/test").display().to_string();
    let fetch = || run(&world.lab.path("home"), &["fetch", "--unsigned", &whole]);
    let log = |source: &str| world.lab.run(&["log", "--unsigned", source]);
    let upside = format!("../{}/a/test", world.lab.path("").file_name().unwrap().display());
    for (number, relative) in ["a/test", "./a/test", &upside].into_iter().enumerate() {
        let _ = fs::remove_file(world.state());
        fs::write(world.head("a"), &new).unwrap();
        let seen = if number % 2 == 0 { log(relative) } else { fetch() };
        assert!(seen.status.success(), "{}", stderr(&seen));
        fs::write(world.head("a"), &old).unwrap();
        let refused = if number % 2 == 0 { fetch() } else { log(relative) };
        assert!(code(&refused) == 3 && stderr(&refused).contains("rollback"), "{relative}: {}", stderr(&refused));
    }
}

/// Fetches from these bases. Returns the version, and the time it took.
fn fetched(world: &World, bases: &[String]) -> (u64, Duration) {
    let sources: Vec<String> = bases.iter().map(|base| format!("{base}/test")).collect();
    let words: Vec<&str> = sources.iter().map(String::as_str).collect();
    let start = Instant::now();
    let output =
        run(&world.lab.path("home"), &[&["fetch", "--json", "--only", "--key", &world.public], &words[..]].concat());
    assert!(output.status.success(), "{bases:?}: {}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (report["version"].as_u64().unwrap(), start.elapsed())
}

#[test]
fn mirrors_that_lag_do_not_hide_one_that_does_not() {
    let world = World::new();
    let behind = ["l1", "l2", "l3", "l4"];
    behind.iter().for_each(|base| world.publish(base, 1, None));
    world.publish("a", 1, None);
    world.publish("a", 2, None);
    let base = |name: &str| world.lab.path(name).display().to_string();
    assert_eq!(fetched(&world, &[base("a")]).0, 2);
    let mut bases: Vec<String> = behind.iter().map(|name| base(name)).collect();
    bases.push(base("a"));
    assert_eq!(fetched(&world, &bases).0, 2);
    bases.pop();
    let sources: Vec<String> = bases.iter().map(|base| format!("{base}/test")).collect();
    let words: Vec<&str> = sources.iter().map(String::as_str).collect();
    let output = run(&world.lab.path("home"), &[&["fetch", "--key", &world.public], &words[..]].concat());
    assert!(code(&output) == 3 && stderr(&output).contains("rollback"), "{}", stderr(&output));
}

#[test]
fn near_mirrors_that_lag_do_not_hide_a_far_one_from_who_has_no_memory() {
    let world = World::new();
    world.publish("behind", 1, None);
    world.publish("a", 1, None);
    world.publish("a", 2, None);
    let behind = [(); 3].map(|()| WebServer::new(&world.lab.path("behind")));
    let behind = behind.each_ref().map(WebServer::url);
    // Three mirrors with the same head end the wait early, two do not.
    for (near, delay_ms) in [(3, 100), (2, 1000)] {
        let far = WebServer::delaying(&world.lab.path("a"), Duration::from_millis(delay_ms));
        let _ = fs::remove_file(world.state());
        let (version, took) =
            fetched(&world, &[&behind[..near], &[world.lab.path("none").display().to_string(), far.url()]].concat());
        println!("{near} mirrors that lag and one {delay_ms} ms away: version {version} after {took:.1?}");
        assert_eq!(version, 2, "{near} mirrors that lag");
    }
    let evil = Evil::start(&world.lab.path("a"));
    let _ = fs::remove_file(world.state());
    let (version, took) = fetched(&world, &[&behind[..], &[evil.url("all-stall")]].concat());
    println!("three that agree and one that hangs: {took:.1?}");
    assert!(version == 1 && took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn a_head_that_has_not_expired_is_looked_for_behind_those_that_have() {
    let world = World::new();
    let old = ["l1", "l2", "l3"];
    old.iter().for_each(|base| world.publish(base, 1, Some(1_700_000_000)));
    world.publish("a", 1, None);
    let base = |name: &str| world.lab.path(name).display().to_string();
    let bases: Vec<String> = old.iter().chain(&["a"]).map(|name| base(name)).collect();
    assert_eq!(fetched(&world, &bases).0, 1);
}

#[test]
fn mirrors_that_hang_delay_nothing_while_others_answer() {
    let world = World::new();
    world.publish("behind", 1, None);
    world.publish("a", 1, None);
    world.publish("a", 2, None);
    // The same server twice would count as one mirror.
    let evil = [(); 2].map(|()| Evil::start(&world.lab.path("a")));
    let behind = [(); 2].map(|()| WebServer::new(&world.lab.path("behind")));
    let good = WebServer::new(&world.lab.path("a"));
    assert_eq!(fetched(&world, &[good.url()]).0, 2);
    for behaviour in ["stall", "stall-body", "trickle", "trickle-headers", "loop", "redirect", "endless-headers"] {
        let bad = evil.each_ref().map(|evil| evil.url(&format!("all-{behaviour}")));
        let (version, took) = fetched(&world, &[bad[0].clone(), good.url()]);
        assert!(version == 2 && took < Duration::from_secs(5), "{behaviour}: {took:?}");
        // The mirrors asked first hang or lag. The others are asked before the one that hangs has given up.
        let behind = behind.each_ref().map(WebServer::url);
        let (version, later) = fetched(&world, &[&bad[..], &behind, &[good.url()]].concat());
        println!("{behaviour}: {took:.1?} with a good one beside it, {later:.1?} with a good one as the fifth");
        assert!(version == 2 && later < Duration::from_secs(8), "{behaviour}: {later:?}");
    }
}

#[test]
fn an_index_that_does_not_come_is_asked_for_elsewhere() {
    let world = World::new();
    world.publish("a", 1, None);
    let evil = Evil::start(&world.lab.path("a"));
    let good = WebServer::delaying(&world.lab.path("a"), Duration::from_millis(300));
    for behaviour in ["index-stall", "index-trickle"] {
        // The good mirror delivers its head later, so the index is requested from the other one first.
        let (version, took) = fetched(&world, &[evil.url(behaviour), good.url()]);
        println!("{behaviour}: {took:.1?}");
        assert!(version == 1 && took < Duration::from_secs(9), "{behaviour}: {took:?}");
    }
}

#[test]
fn a_key_is_never_taken_for_a_file_of_its_name() {
    let world = World::new();
    let (other, _) = SecretKey::generate().unwrap();
    Publish { key: Some(&other), ..Publish::default() }.write(&world.lab.path("evil"), &image(1 << 20));
    if world.public.contains('/') {
        panic!("this key cannot be the name of a file");
    }
    world.lab.write(&world.public, other.public().to_string());
    let hfl = world.lab.run(&["log", "evil/test", "--key", &world.public]);
    assert_eq!(code(&hfl), 3, "{}", stderr(&hfl));
    let mut client = crate::support::mounting::client(&world.lab.path("home"));
    client.current_dir(world.lab.path("")).args(["fetch", "--key", &world.public, "evil/test"]);
    let fetched = client.output().unwrap();
    assert_eq!(code(&fetched), 3, "{}", stderr(&fetched));
    // A file is still used if the text is not a key. A text that is neither is reported as such.
    world.lab.write("pub", other.public().to_string());
    world.lab.ok(&["log", "evil/test", "--key", "pub"]);
    world.lab.write("no-key", "hello");
    assert!(world.lab.fails(2, &["log", "evil/test", "--key", "no-key"]).contains("no-key: not a minisign public key"));
    assert!(world.lab.fails(2, &["log", "evil/test", "--key", "RW"]).contains("no such file"));
}

const PORTAL: &str = "<!DOCTYPE html><html><body>Please log in to the network of this hotel</body></html>";

#[test]
fn an_answer_that_is_no_head_is_a_mirror_that_does_not_work() {
    if cannot_mount() {
        return;
    }
    let world = World::new();
    world.publish("a", 1, None);
    let (evil, good) = (Evil::start(&world.lab.path("a")), WebServer::new(&world.lab.path("a")));
    fetched(&world, &[good.url()]);
    let home = world.lab.path("home");
    for behaviour in ["html", "403", "404", "empty", "206"] {
        let source = [format!("{}/test", evil.url(&format!("all-{behaviour}")))];
        let words = ["--only", "--key", &world.public];
        let mounted = Mounted::named(&home, &words, &source, "test");
        assert_eq!(fs::read(mounted.file()).unwrap(), image((2 << 20) + 1));
        let said = mounted.end();
        assert!(said.contains("opened from the cache") && said.contains(&evil.url("")), "{behaviour}: {said}");
        let point = world.point();
        let output = run(&home, &["--only", "--no-cache", "--key", &world.public, &source[0], &point]);
        assert!([1, 3].contains(&code(&output)), "{behaviour} without a copy: {}", stderr(&output));
    }
    // A head signed with another key is not such a response.
    let (other, _) = SecretKey::generate().unwrap();
    Publish { key: Some(&other), ..Publish::default() }.write(&world.lab.path("evil"), &image(1 << 20));
    let source = world.lab.path("evil/test").display().to_string();
    let output = run(&home, &["--only", "--key", &world.public, &source, &world.point()]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn hard_mode_waits_for_a_network_that_answers_with_a_page_of_its_own() {
    if cannot_mount() {
        return;
    }
    let world = World::new();
    world.publish("a", 1, None);
    let server = WebServer::new(&world.lab.path("a"));
    let source = [format!("{}/test", server.url())];
    let (home, head) = (world.lab.path("home"), world.head("a"));
    let good = fs::read(&head).unwrap();
    fs::write(&head, PORTAL).unwrap();
    let start = Instant::now();
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            fs::write(&head, &good).unwrap();
        });
        let words = ["--mode", "hard", "--no-cache", "--key", &world.public];
        let mounted = Mounted::named(&home, &words, &source, "test");
        assert_eq!(fs::read(mounted.file()).unwrap(), image((2 << 20) + 1));
        mounted.end()
    });
    println!("mounted after {:.1?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(3) && said.contains("looks like HTML"), "{said}");
    assert!(said.contains("trying again"), "{said}");
}
