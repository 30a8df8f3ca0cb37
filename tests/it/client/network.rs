//! The client over mirrors that serve wrong data, lag, stall and disappear: never a wrong byte, and
//! never an error that another mirror could have prevented.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfl::client::image::Image;
use hfl::client::mirrors::Mirrors;
use hfl::client::notice::{Observer, Silent};
use hfl::client::prefetch::Prefetch;
use hfl::client::source::disk_cache::DiskStore;
use hfl::client::source::mirrors::{Mode, Pace, State};
use hfl::client::source::{ReadOptions, ReadStack};
use hfl::format::head::Trust;
use hfl::format::signing::SecretKey;
use hfl::repo::source::Source;
use hfl::store::http::{HttpClient, HttpOptions};

use crate::support::evil::{Evil, FAULTS, ODDITIES};
use crate::support::fixture::{Publish, image, newest};
use crate::support::lab::{Random, full};
use crate::support::mounting::{WebServer, nobody};
use crate::support::proxy::Proxy;

const READ_BYTES: usize = 1 << 20;

/// Configuration of a test client.
struct Client {
    mode: Mode,
    pace: Pace,
    memory_bytes: usize,
    disk: Option<Arc<DiskStore>>,
}

impl Default for Client {
    fn default() -> Self {
        let soft = Mode::Soft(Duration::from_secs(60));
        Self { mode: soft, pace: Pace::default(), memory_bytes: 4 << 20, disk: None }
    }
}

impl Client {
    /// Opens the image `test` from these base URLs, given without a trailing slash.
    async fn open(self, bases: &[String]) -> ReadStack {
        let sources = sources(bases);
        let opened = hfl::repo::open(sources.stores(), &newest(Trust::Anyone)).await.unwrap();
        let Self { mode, pace, memory_bytes, disk } = self;
        let reading = ReadOptions { memory_bytes, disk, base_blocks: Vec::new(), parallel: true, mode, pace };
        ReadStack::build(&sources, &opened, reading, &(Arc::new(Silent) as Arc<dyn Observer>))
    }
}

/// Mirrors of the image `test` at these base URLs.
fn sources(bases: &[String]) -> Mirrors {
    let options = HttpOptions { silence_max: Duration::from_secs(5), ..HttpOptions::default() };
    let sources: Vec<Source> = bases.iter().map(|base| format!("{base}/test").parse().unwrap()).collect();
    Mirrors::new(HttpClient::with(&options).unwrap(), sources.into_iter().map(|source| source.base))
}

/// Reads a range and compares it.
async fn check(image: &Image, offset: u64, bytes: usize, original: &[u8]) -> Result<(), String> {
    let range = image.range(offset, bytes);
    let (start, end) = (range.start as usize, range.end as usize);
    let data = image.read(range).await.map_err(|e| e.to_string())?;
    data.with(|bytes| if *bytes == original[start..end] { Ok(()) } else { Err(format!("wrong bytes at {offset}")) })
}

/// Reads a whole image with several concurrent readers. Returns the first error.
async fn read_all(image: Arc<Image>, original: Arc<Vec<u8>>) -> Result<(), String> {
    let mut readers = tokio::task::JoinSet::new();
    for first in 0..4 {
        let (image, original) = (Arc::clone(&image), Arc::clone(&original));
        readers.spawn(async move {
            for offset in (first * READ_BYTES..original.len()).step_by(4 * READ_BYTES) {
                check(&image, offset as u64, READ_BYTES, &original).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap()?;
    }
    Ok(())
}

/// The 99th percentile.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

fn publish(base: &Path, bytes: usize, block_bytes: usize) -> Arc<Vec<u8>> {
    let original = image(bytes);
    Publish { block_bytes, ..Publish::default() }.write(base, &original);
    Arc::new(original)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_good_mirror_makes_up_for_any_evil_one() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 64 << 20, 256 << 10);
    let evil = Evil::start(home.path());
    let mut reads = tokio::task::JoinSet::new();
    for behaviour in FAULTS.into_iter().chain(ODDITIES).chain(["nobody"]) {
        let other = if behaviour == "nobody" { nobody() } else { evil.url(behaviour) };
        let bases = if ODDITIES.contains(&behaviour) { vec![other] } else { vec![other, evil.url("good")] };
        let original = Arc::clone(&original);
        reads.spawn(async move {
            let start = Instant::now();
            let readable = Client::default().open(&bases).await;
            let read = read_all(Arc::new(readable.image), original).await;
            let first = readable.network.ranking().health().swap_remove(0);
            let why = first.why.map(|why| why.rsplit(": ").next().unwrap_or_default().to_owned());
            println!(
                "{behaviour:>16}: {:6.2?}, {} failures: {}",
                start.elapsed(),
                first.failures,
                why.unwrap_or_default()
            );
            (behaviour, read)
        });
    }
    while let Some(read) = reads.join_next().await {
        let (behaviour, read) = read.unwrap();
        assert_eq!(read, Ok(()), "{behaviour}");
    }
    println!("{} bad answers", evil.faults());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_opens_as_long_as_one_mirror_is_good() {
    let home = tempfile::tempdir().unwrap();
    let (key, _) = SecretKey::generate().unwrap();
    Publish { key: Some(&key), ..Publish::default() }.write(home.path(), &image(8 << 20));
    let evil = Evil::start(home.path());
    let trust = Trust::Key(key.public().clone());
    let mut openings = tokio::task::JoinSet::new();
    for behaviour in FAULTS {
        let bases = [evil.url(&format!("all-{behaviour}")), evil.url("good")];
        let trust = trust.clone();
        openings.spawn(async move {
            let start = Instant::now();
            let opened = hfl::repo::open(sources(&bases).stores(), &newest(trust)).await;
            (behaviour, start.elapsed(), opened.map(|opened| opened.row.version.number()).map_err(|e| e.to_string()))
        });
    }
    let mut slowest = ("", Duration::ZERO);
    while let Some(opened) = openings.join_next().await {
        let (behaviour, took, version) = opened.unwrap();
        assert_eq!(version, Ok(1), "{behaviour}");
        slowest = if took > slowest.1 { (behaviour, took) } else { slowest };
    }
    println!("the slowest to open, beside one good mirror: {slowest:?}");
    assert!(slowest.1 < Duration::from_secs(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_have_names() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 2 << 20, 256 << 10);
    let server = WebServer::new(home.path());
    let port = server.address().port();
    let (local, nowhere) = (format!("http://localhost:{port}"), format!("http://nowhere.invalid:{port}"));
    let readable = Client::default().open(&[nowhere.clone(), local]).await;
    read_all(Arc::new(readable.image), original).await.unwrap();
    let error = hfl::repo::open(sources(&[nowhere]).stores(), &newest(Trust::Anyone)).await;
    let error = error.unwrap_err().to_string();
    println!("{error}");
    assert!(error.contains("cannot find the host nowhere.invalid") || error.contains("timed out"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_the_reader_hardly_notices_that_its_mirror_dies() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 32 << 20, 256 << 10);
    let server = WebServer::new(home.path());
    let proxies = [Proxy::start(server.address()), Proxy::start(server.address())];
    for proxy in &proxies {
        proxy.faults().rate(None, Some(2 << 20));
    }
    let bases: Vec<String> = proxies.iter().map(|p| format!("http://{}", p.address())).collect();
    let pace = Pace { quarantine: Duration::from_millis(100), ..Pace::default() };
    let readable = Client { pace, memory_bytes: 1, ..Client::default() }.open(&bases).await;
    let (image, mut random) = (Arc::new(readable.image), Random(5));
    let noise: Vec<u64> = noise_blocks(&image);
    let (points, mut times) = (if full() { 50 } else { 12 }, [Vec::new(), Vec::new()]);
    for point in 0..points {
        let offset = noise[random.below(noise.len() as u64) as usize];
        let (reader, original) = (Arc::clone(&image), Arc::clone(&original));
        let read = tokio::spawn(async move {
            let start = Instant::now();
            check(&reader, offset, 4096, &original).await.map(|()| start.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(random.below(110))).await;
        let in_use = readable.network.ranking().health().iter().position(|s| s.in_flight > 0).unwrap_or(0);
        let faults = proxies[in_use].faults();
        if point % 2 == 0 {
            faults.refuse(true)
        } else {
            faults.stall(true)
        }
        times[point % 2].push(read.await.unwrap().unwrap());
        faults.refuse(false);
        faults.stall(false);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let [loud, silent] = &mut times;
    println!("{points} deaths inside a block: reset, p99 {:?}; silent, p99 {:?}", p99(loud), p99(silent));
    assert!(p99(loud) < Duration::from_secs(1) && p99(silent) < Duration::from_secs(2));
}

/// Offsets of blocks that take a while to transfer.
fn noise_blocks(image: &Image) -> Vec<u64> {
    let map = image.map();
    let first_block = |at: u64| map.blocks(at..at + 1, 1).first().map(|&block| map.row(block).zlib_bytes);
    let starts = (0..map.size()).step_by(256 << 10);
    starts.filter(|&at| first_block(at).is_some_and(|bytes| bytes > 200_000)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_when_all_mirrors_are_gone_only_the_uncached_wait_and_not_longer_than_they_must() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(&home.path().join("a"), 32 << 20, 256 << 10);
    let server = WebServer::new(&home.path().join("a"));
    let proxies = [0; 3].map(|_| Proxy::start(server.address()));
    let bases: Vec<String> = proxies.iter().map(|p| format!("http://{}", p.address())).collect();
    let disk = DiskStore::open(&home.path().join("cache"), 1 << 30, Arc::new(Silent)).unwrap();
    let client = Client { mode: Mode::Hard, disk: Some(disk), memory_bytes: 2 << 20, ..Client::default() };
    let image = Arc::new(client.open(&bases).await.image);
    let noise = noise_blocks(&image);
    let (cached, uncached) = noise.split_at(noise.len() / 2);
    for &offset in cached {
        check(&image, offset, 4096, &original).await.unwrap();
    }
    for (proxy, silent) in proxies.iter().zip([true, false, true]) {
        if silent { proxy.faults().stall(true) } else { proxy.faults().refuse(true) }
    }
    let waiting = uncached.iter().map(|&offset| {
        let (image, original) = (Arc::clone(&image), Arc::clone(&original));
        tokio::spawn(async move { check(&image, offset, 4096, &original).await.map(|()| Instant::now()) })
    });
    let waiting: Vec<_> = waiting.collect();
    let gone = Duration::from_secs(if full() { 30 } else { 7 });
    let (start, mut times, mut random) = (Instant::now(), Vec::new(), Random(3));
    while start.elapsed() < gone {
        let (offset, read) = (cached[random.below(cached.len() as u64) as usize], Instant::now());
        check(&image, offset, 4096, &original).await.unwrap();
        times.push(read.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting.iter().all(|reader| !reader.is_finished()), "nothing is there to read from");
    let back = Instant::now();
    for proxy in &proxies {
        proxy.faults().stall(false);
        proxy.faults().refuse(false);
    }
    let mut last = Duration::ZERO;
    let readers = waiting.len();
    for reader in waiting {
        last = last.max(reader.await.unwrap().unwrap() - back);
    }
    let slowest = p99(&mut times);
    println!(
        "gone for {gone:?}: {} cached reads, p99 {slowest:?}; the last of {readers} waiting ones after {last:?}",
        times.len()
    );
    assert!(slowest < Duration::from_millis(50) && last < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readahead_does_not_choke_a_narrow_link() {
    let home = tempfile::tempdir().unwrap();
    let original = Arc::new(Random(4).bytes(5 << 20));
    Publish::default().write(home.path(), &original);
    let server = WebServer::new(home.path());
    let proxy = Proxy::start(server.address());
    let rate = 500_000;
    proxy.faults().rate(None, Some(rate));
    let client = Client::default().open(&[format!("http://{}", proxy.address())]).await;
    let image = Arc::new(client.image);
    let runtime = tokio::runtime::Handle::current();
    let ahead = Prefetch::new(Arc::clone(&image), runtime, 16, Duration::from_millis(500), 4 << 20);
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    for offset in (0..original.len()).step_by(128 << 10) {
        ahead.read(&image.range(offset as u64, 128 << 10));
        let read = Instant::now();
        check(&image, offset as u64, 128 << 10, &original).await.unwrap();
        longest = longest.max(read.elapsed());
    }
    let (took, (_, carried)) = (start.elapsed(), proxy.faults().bytes());
    let stored: u64 = image
        .map()
        .blocks(0..image.map().size(), usize::MAX)
        .iter()
        .map(|&b| u64::from(image.map().row(b).zlib_bytes))
        .sum();
    let best = Duration::from_secs_f64(stored as f64 / rate as f64);
    println!(
        "{stored} bytes at {rate} a second: {took:.2?}, at best {best:.2?}; {carried} bytes carried; the longest read {longest:.2?}"
    );
    assert!(took < best * 2 && carried < stored * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_is_not_dead_but_a_trickle_is() {
    let home = tempfile::tempdir().unwrap();
    let original = Arc::new(Random(4).bytes(256 << 10));
    Publish::default().write(home.path(), &original);
    let server = WebServer::new(home.path());
    let proxy = Proxy::start(server.address());
    // In the long form, the only block takes longer than the time allowed for a response, unless its
    // rate is considered.
    proxy.faults().rate(None, Some(if full() { 6_000 } else { 100_000 }));
    let readable = Client::default().open(&[format!("http://{}", proxy.address())]).await;
    let start = Instant::now();
    check(&readable.image, 0, 4096, &original).await.unwrap();
    let failures = readable.network.ranking().health()[0].failures;
    println!("a block over a very slow link: {:.2?}, {failures} failures", start.elapsed());
    assert_eq!(failures, 0);
    if full() {
        let evil = Evil::start(home.path());
        let readable = Client { mode: Mode::Soft(Duration::from_secs(24)), ..Client::default() };
        let readable = readable.open(&[evil.url("trickle")]).await;
        check(&readable.image, 0, 4096, &original).await.unwrap_err();
        let why = readable.network.ranking().health()[0].why.clone().unwrap_or_default();
        assert!(why.contains(" bytes in 2"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soft_mode_fails_in_time_and_recovers_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 4 << 20, 64 << 10);
    let evil = Evil::start(home.path());
    let proxy = Proxy::start(evil.url("").split('/').nth(2).unwrap().parse().unwrap());
    let base = format!("http://{}/good", proxy.address());
    let client = Client { mode: Mode::Soft(Duration::from_secs(2)), memory_bytes: 1, ..Client::default() };
    let image = client.open(&[base]).await.image;
    check(&image, 0, 4096, &original).await.unwrap();
    for set in
        [|p: &Proxy, on| p.faults().stall(on), |p: &Proxy, on| p.faults().unavailable(if on { Some(1) } else { None })]
    {
        set(&proxy, true);
        let start = Instant::now();
        let error = check(&image, 0, original.len(), &original).await.unwrap_err();
        let took = start.elapsed();
        println!("{took:?}: {error}");
        assert!(took >= Duration::from_millis(1900) && took < Duration::from_millis(2900));
        set(&proxy, false);
        let start = Instant::now();
        while check(&image, 0, original.len(), &original).await.is_err() {}
        println!("reads again after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fastest_mirror_is_used_and_used_again_when_it_returns() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 8 << 20, 16 << 10);
    let server = WebServer::new(home.path());
    let proxies = [120, 5, 240].map(|delay_ms| {
        let proxy = Proxy::start(server.address());
        proxy.faults().delay(Duration::from_millis(delay_ms), Duration::ZERO);
        proxy
    });
    let bases: Vec<String> = proxies.iter().map(|p| format!("http://{}", p.address())).collect();
    let short = Pace { probe_after: Duration::from_secs(1), quarantine: Duration::from_secs(1), ..Pace::default() };
    let (pace, limit) = if full() { (Pace::default(), 60) } else { (short, 15) };
    let readable = Client { pace, memory_bytes: 1, ..Client::default() }.open(&bases).await;
    let (image, ranking, mut random) = (readable.image, Arc::clone(readable.network.ranking()), Random(1));
    let mut leader = async || {
        let before: Vec<u64> = ranking.health().iter().map(|s| s.blocks).collect();
        for _ in 0..12 {
            check(&image, random.below(8 << 20), 1, &original).await.unwrap();
        }
        let gained = ranking.health().into_iter().zip(&before).map(|(s, before)| s.blocks - before);
        gained.enumerate().max_by_key(|&(_, blocks)| blocks).unwrap().0
    };
    for _ in 0..3 {
        leader().await;
    }
    assert_eq!(leader().await, 1, "the fastest, though it was named second");
    proxies[1].faults().refuse(true);
    leader().await;
    assert_eq!(leader().await, 0, "the second fastest while it is away");
    proxies[1].faults().refuse(false);
    let back = Instant::now();
    while leader().await != 1 {
        assert!(back.elapsed() < Duration::from_secs(limit), "{:?}", ranking.health());
    }
    println!("the fastest mirror leads again {:?} after its return", back.elapsed());
    proxies[2].faults().delay(Duration::ZERO, Duration::ZERO);
    proxies[1].faults().delay(Duration::from_millis(240), Duration::ZERO);
    let changed = Instant::now();
    while leader().await != 2 {
        assert!(changed.elapsed() < Duration::from_secs(limit), "{:?}", ranking.health());
    }
    println!("a mirror that has become the fastest leads {:?} later", changed.elapsed());
    assert!(ranking.health().iter().all(|s| s.state(Instant::now()) == State::Good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_that_trickle_hold_no_read_that_another_would_answer() {
    let home = tempfile::tempdir().unwrap();
    let original = Arc::new(Random(4).bytes(10 << 20));
    Publish { block_bytes: 256 << 10, ..Publish::default() }.write(home.path(), &original);
    let server = WebServer::new(home.path());
    let proxies = [0; 3].map(|_| Proxy::start(server.address()));
    let bases: Vec<String> = proxies.iter().map(|p| format!("http://{}", p.address())).collect();
    let readable = Client { memory_bytes: 64 << 20, ..Client::default() }.open(&bases).await;
    for bad in &proxies[..2] {
        // Just fast enough that a single response is not aborted.
        bad.faults().rate(None, Some(5_000));
    }
    let (image, start) = (Arc::new(readable.image), Instant::now());
    let readers = (0..original.len() as u64).step_by(256 << 10).map(|offset| {
        let (image, original) = (Arc::clone(&image), Arc::clone(&original));
        tokio::spawn(async move { check(&image, offset, 4096, &original).await })
    });
    let readers: Vec<_> = readers.collect();
    let (count, mut failed) = (readers.len(), Vec::new());
    for reader in readers {
        failed.extend(reader.await.unwrap().err());
    }
    println!("{count} reads at once, two of three mirrors trickle: {:.2?}", start.elapsed());
    assert!(failed.is_empty() && start.elapsed() < Duration::from_secs(8), "{:.2?}: {failed:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_failed_once_is_asked_again_while_another_one_trickles() {
    let home = tempfile::tempdir().unwrap();
    let original = publish(home.path(), 4 << 20, 256 << 10);
    let server = WebServer::new(home.path());
    let proxies = [0; 2].map(|_| Proxy::start(server.address()));
    let bases: Vec<String> = proxies.iter().map(|p| format!("http://{}", p.address())).collect();
    let readable = Client::default().open(&bases).await;
    proxies[0].faults().rate(None, Some(5_000));
    proxies[1].faults().refuse(true);
    let (image, start) = (Arc::new(readable.image), Instant::now());
    let offset = noise_blocks(&image)[0];
    let read = tokio::spawn(async move { check(&image, offset, 4096, &original).await });
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!read.is_finished(), "nobody could answer so far");
    proxies[1].faults().refuse(false);
    read.await.unwrap().unwrap();
    println!("one trickles, the other was away for 2.5 s: {:.2?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(8), "{:.2?}", start.elapsed());
}
