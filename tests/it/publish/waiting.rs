//! `--wait`: a publisher that waits for another one's lock.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::store::directory::Directory;
use hfl::store::{Lock, Store, lock};
use hfl::system::host::{Host, ThisHost};
use tokio::runtime::Runtime;

use crate::support::lab::{Lab, Random, code, stderr};

struct Held {
    runtime: Runtime,
    lock: Arc<dyn Lock>,
}

impl Held {
    /// Takes the lock of the mirror `m`, as another publisher does.
    fn take(lab: &Lab) -> Self {
        let (runtime, host): (_, Arc<dyn Host>) = (Runtime::new().unwrap(), Arc::new(ThisHost));
        let store: Arc<dyn Store> = Arc::new(Directory::new(lab.path("m")));
        let lock = runtime.block_on(lock::lock(&store, &host)).unwrap();
        Self { runtime, lock }
    }

    fn release(self) {
        self.runtime.block_on(self.lock.release(true));
    }
}

fn lab() -> Lab {
    let lab = Lab::with_mirrors(&["m"]);
    lab.write("os.img", Random(1).bytes(100_000));
    lab.publish(&["os.img"]);
    lab.write("os.img", Random(2).bytes(100_000));
    lab
}

/// Starts hfl, and returns it with its first line on standard error.
fn until_it_says(lab: &Lab, arguments: &[&str]) -> (Child, String) {
    let mut child = lab.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut said = String::new();
    while !said.contains("waiting up to") {
        said.clear();
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "it ends without a word");
    }
    (child, said)
}

#[test]
fn each_command_waits_until_the_other_publisher_is_done() {
    let lab = lab();
    let commands: [&[&str]; 5] =
        [&["publish", "os.img"], &["sync"], &["rollback", "os", "1"], &["gc"], &["verify", "--repair"]];
    for command in commands {
        let held = Held::take(&lab);
        let all = [command, &["--to", "mirrors.toml", "--wait", "60s"]].concat();
        let (mut child, said) = until_it_says(&lab, &all);
        assert!(said.contains(&format!("(process {}) is at work here", std::process::id())), "{said}");
        assert!(said.contains("waiting up to 1m"), "{said}");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(child.try_wait().unwrap().is_none(), "{command:?} waits");
        held.release();
        let started = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 0, "{command:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("waiting"), "it says so once");
        println!("{command:?}: done {:.1?} after the other", started.elapsed());
    }
    assert_eq!(lab.files("m").iter().filter(|file| file.ends_with(".idx")).count(), 3);
}

#[test]
fn waiting_ends_with_its_time_and_with_an_interrupt() {
    let lab = lab();
    let held = Held::take(&lab);
    let publish = ["publish", "os.img", "--to", "mirrors.toml", "-q"];
    let started = Instant::now();
    let said = lab.fails(5, &publish);
    let without = started.elapsed();
    assert!(said.contains("another publisher on") && !said.contains("waited"), "{said}");
    let started = Instant::now();
    let said = lab.fails(5, &[&publish[..], &["--wait", "6s"]].concat());
    assert!(said.contains("waited 6s for it"), "{said}");
    let took = started.elapsed();
    println!("without --wait {without:.1?}, with 6 s of it {took:.1?}");
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(6) + without * 3, "{took:.1?}");

    let (child, _) = until_it_says(&lab, &["publish", "os.img", "--to", "mirrors.toml", "--wait", "1h"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let started = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    assert!(started.elapsed() < Duration::from_secs(5), "after {:.1?}", started.elapsed());
    held.release();
    lab.ok(&publish);
}
