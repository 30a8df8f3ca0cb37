//! The purpose of readahead: a mirror with high latency.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::fixture::{Publish, image};
use crate::support::mounting::{Mounted, WebServer, cannot_mount};

const DELAY: Duration = Duration::from_millis(20);

#[test]
fn timed_readahead_hides_the_distance_of_a_mirror() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), image(48 << 20));
    let blocks = Publish::default().write(&base, &bytes).blocks().len();
    let server = WebServer::delaying(&base, DELAY);
    let took = |arguments: &[&str]| {
        let arguments = [&["--unsigned", "--no-cache"], arguments].concat();
        let mounted = Mounted::new(home.path(), &arguments, &[&server.url()], "test");
        let start = Instant::now();
        assert!(fs::read(mounted.file()).unwrap() == bytes);
        let took = start.elapsed();
        mounted.end();
        took
    };
    let (one, ahead) = (took(&["--one-at-a-time"]), took(&[]));
    println!("{blocks} blocks, {DELAY:?} each: one at a time {one:?}, with readahead {ahead:?}");
    assert!(one.as_secs_f64() > 2.5 * ahead.as_secs_f64());
}
