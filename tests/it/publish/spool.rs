//! The spool for slow mirrors: a full or failing spool does not delay a publish for long.

use std::time::Instant;

use crate::support::lab::{Lab, Mounted, Random, check_mirror, code, stderr};

/// A mirror without a rate limit, and one limited to 2 MB/s.
const FAST_AND_SLOW: &str = "[[mirror]]\nname = \"fast\"\nwrite = \"./fast\"\n\
                             [[mirror]]\nname = \"slow\"\nwrite = \"./slow\"\nrate = 2000000\n";

/// 64 MiB of incompressible data: more than fits on the disk and in the memory for waiting blocks.
fn noise(lab: &Lab) {
    let mut random = Random(9);
    let bytes: Vec<u8> = (0..8 << 20).flat_map(|_| random.next().to_le_bytes()).collect();
    lab.write("noise.img", bytes);
}

#[test]
fn a_full_spool_leaves_the_slow_mirror_behind() {
    let lab = Lab::new();
    lab.write("mirrors.toml", FAST_AND_SLOW);
    noise(&lab);
    let cache = lab.path("home/.cache");
    let Some(_tmpfs) = Mounted::tmpfs(&cache, "8M") else { return };
    let start = Instant::now();
    let output = lab.run(&["publish", "noise.img", "--to", "mirrors.toml", "--patience", "2s"]);
    let seconds = start.elapsed().as_secs_f64();
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 6, "{said}");
    assert!(said.contains("it is too slow") && said.contains("MB wait for it"), "{said}");
    assert_eq!(check_mirror(&lab.path("fast"), "noise", &lab.trust("noise")), [1]);
    assert!(!lab.path("slow/noise.head").exists());
    println!("64 MiB, 32 MB of room: the slow mirror was left behind after {seconds:.1} s");
    assert!(seconds < 20.0, "{seconds} s; the slow mirror needs 32 s");
}

/// Two equally slow mirrors are both left behind: neither excuses the other.
#[test]
fn a_full_spool_leaves_two_slow_mirrors_behind() {
    let lab = Lab::new();
    let slower = "[[mirror]]\nname = \"slower\"\nwrite = \"./slower\"\nrate = 2000000\n";
    lab.write("mirrors.toml", FAST_AND_SLOW.to_owned() + slower);
    noise(&lab);
    let cache = lab.path("home/.cache");
    let Some(_tmpfs) = Mounted::tmpfs(&cache, "8M") else { return };
    let start = Instant::now();
    let output = lab.run(&["publish", "noise.img", "--to", "mirrors.toml", "--patience", "2s"]);
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 6, "{said}");
    assert_eq!(said.matches("it is too slow").count(), 2, "{said}");
    assert_eq!(check_mirror(&lab.path("fast"), "noise", &lab.trust("noise")), [1]);
    assert!(start.elapsed().as_secs_f64() < 20.0, "{:?}", start.elapsed());
}

/// A publish does not fail if the disk has no space at all: memory suffices, at the speed of the mirror.
#[test]
fn a_single_mirror_is_waited_for_even_without_a_disk() {
    let lab = Lab::with_mirrors(&["public"]);
    noise(&lab);
    let cache = lab.path("home/.cache");
    let Some(_tmpfs) = Mounted::tmpfs(&cache, "64k") else { return };
    lab.write("home/.cache/full", vec![1; 60 << 10]);
    lab.publish(&["noise.img", "--patience", "1s"]);
    assert_eq!(check_mirror(&lab.path("public"), "noise", &lab.trust("noise")), [1]);
}

/// Mirrors that `--min-mirrors` requires are not left behind, however slow they are.
#[test]
fn min_mirrors_are_waited_for() {
    let lab = Lab::new();
    lab.write("mirrors.toml", FAST_AND_SLOW.replace("2000000", "12000000"));
    noise(&lab);
    let cache = lab.path("home/.cache");
    let Some(_tmpfs) = Mounted::tmpfs(&cache, "1M") else { return };
    lab.publish(&["noise.img", "--patience", "1s", "--min-mirrors", "2"]);
    for mirror in ["fast", "slow"] {
        assert_eq!(check_mirror(&lab.path(mirror), "noise", &lab.trust("noise")), [1]);
    }
}
