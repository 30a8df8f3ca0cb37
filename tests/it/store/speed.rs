//! Many small objects to a store with a round trip of 50 ms: the speed-up from concurrent requests.
//!
//! One object at a time is measured on a few objects and extrapolated. The client, the server and the proxy share this
//! machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hfl::format::layout::RepoPath;
use hfl::store::s3::S3;
use hfl::store::sftp::Sftp;
use hfl::store::{Put, Store};

use crate::store::sftp::far_config;
use crate::support::lab::{Random, full, skipped};
use crate::support::proxy::Proxy;
use crate::support::servers::sshd::Sshd;
use crate::support::servers::{local, s3, seaweed};

/// In each direction.
const DELAY: Duration = Duration::from_millis(25);
const OBJECT_BYTES: usize = 2 << 10;
/// The required speed-up over one object at a time, in the full test. A short test ends before all connections are
/// warm.
const WANTED: f64 = 20.0;
const WANTED_SHORT: f64 = 8.0;

#[tokio::test(flavor = "multi_thread")]
async fn timed_small_objects_to_seaweedfs_are_sent_many_at_once() {
    let Some(server) = seaweed::start() else { return skipped("SeaweedFS (weed) is not installed") };
    let address = server.endpoint.strip_prefix("http://").and_then(|address| address.parse().ok());
    let proxy = Proxy::start(address.expect("an address"));
    proxy.faults().delay(DELAY, DELAY);
    let config = s3::config(&format!("http://{}", proxy.address()), "far");
    is_fast("SeaweedFS", Arc::new(S3::open(config).await.expect("a store")), &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timed_small_objects_to_openssh_are_sent_many_at_once() {
    let Some(server) = Sshd::start() else { return skipped("no sshd (openssh-server)") };
    let proxy = Proxy::start(local(server.port));
    proxy.faults().delay(DELAY, DELAY);
    let config = far_config(&server, "far", &proxy);
    is_fast("OpenSSH", Arc::new(Sftp::open(config).expect("a store")), &proxy).await;
}

async fn is_fast(name: &str, store: Arc<dyn Store>, proxy: &Proxy) {
    let (objects, alone, wanted) = if full() { (10_000, 200, WANTED) } else { (600, 20, WANTED_SHORT) };
    put(&store, "first", 1, 1).await;
    let one = put(&store, "alone", alone, 1).await;
    let all = put(&store, "blocks", objects, store.jobs()).await;
    let one_at_a_time = one * objects / alone;
    let times = one_at_a_time.as_secs_f64() / all.as_secs_f64();
    println!(
        "{objects} objects to {name}, 50 ms away: one at a time {one_at_a_time:.1?} (from {alone}: {:.1?} each), \
         {} at once {all:.1?} ({:.0} objects/s, {} connections): {times:.1} times as fast",
        one / alone,
        store.jobs(),
        f64::from(objects) / all.as_secs_f64(),
        proxy.faults().connections(),
    );
    let listed = store.list("blocks").await.expect("a listing");
    assert_eq!(listed.len(), objects as usize, "all of them are there");
    assert!(times >= wanted, "{times:.1} times as fast, wanted {wanted}");
}

/// Puts new objects below `directory`, `at_once` of them concurrently. Returns the total time.
async fn put(store: &Arc<dyn Store>, directory: &str, objects: u32, at_once: usize) -> Duration {
    let body = Bytes::from(Random(7).bytes(OBJECT_BYTES));
    let one = |number: u32| {
        let (store, body) = (Arc::clone(store), body.clone());
        let path: RepoPath = format!("{directory}/{:02x}/{number:08x}", number % 256).parse().expect("a path");
        tokio::spawn(async move { store.put_new(&path, body).await })
    };
    let started = Instant::now();
    let puts = stream::iter((0..objects).map(one)).buffer_unordered(at_once);
    puts.try_for_each(|put| async {
        assert_eq!(put.expect("one of many"), Put::Created);
        Ok(())
    })
    .await
    .expect("no task ends early");
    started.elapsed()
}
