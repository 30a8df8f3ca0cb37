//! Boot profiles: what is recorded, what is prefetched, and that demand reads have priority.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hfl::client::extent_map::ExtentMap;
use hfl::client::image::Image;
use hfl::client::mirrors::Mirrors;
use hfl::client::notice::{Observer, Silent};
use hfl::client::prefetch::Prefetch;
use hfl::client::prefetch::profile::{ProfilePrefetch, Room};
use hfl::client::prefetch::record::{FirstReads, Recording};
use hfl::client::prefetch::scheduler::Scheduler;
use hfl::client::source::mirrors::{Mode, Pace};
use hfl::client::source::{ReadOptions, ReadStack};
use hfl::format::head::Trust;
use hfl::format::index::Index;
use hfl::format::profile::{FirstRead, Profile};
use hfl::store::Fetch as _;
use hfl::store::http::{Http, HttpClient, HttpOptions};

use crate::support::fixture::{Publish, Random, image, newest};
use crate::support::lab::full;
use crate::support::mounting::{Mounted, WebServer, cannot_mount};
use crate::support::proxy::Proxy;
use hfl::repo::source::Source;

/// The image `test` at a base URL, and its first reads.
struct Client {
    image: Arc<Image>,
    scheduler: Arc<Scheduler>,
    reads: Arc<FirstReads>,
    index: Arc<Index>,
}

impl Client {
    async fn open(base: &str, memory_bytes: usize, parallel: bool) -> Self {
        let options = HttpOptions { silence_max: Duration::from_secs(5), ..HttpOptions::default() };
        let source: Source = format!("{base}/test").parse().unwrap();
        let sources = Mirrors::new(HttpClient::with(&options).unwrap(), [source.base]);
        let opened = hfl::repo::open(sources.stores(), &newest(Trust::Anyone)).await.unwrap();
        let mode = Mode::Soft(Duration::from_secs(60));
        let reading =
            ReadOptions { memory_bytes, disk: None, base_blocks: Vec::new(), parallel, mode, pace: Pace::default() };
        let ReadStack { image, scheduler, .. } =
            ReadStack::build(&sources, &opened, reading, &(Arc::new(Silent) as Arc<dyn Observer>));
        let reads = FirstReads::new(opened.index.blocks().len());
        let image = Arc::new(image.noting(Arc::clone(&reads)));
        Self { image, scheduler, reads, index: opened.index }
    }

    fn ahead(&self, room: u64) -> ProfilePrefetch {
        ProfilePrefetch::new(
            Arc::clone(&self.image),
            Arc::clone(&self.scheduler),
            Arc::clone(&self.reads),
            Room::Ram(room),
        )
    }

    /// Reads a few bytes as the kernel would. Returns the time taken.
    async fn read(&self, offset: u64, bytes: usize) -> Duration {
        let start = Instant::now();
        let range = self.image.range(offset, bytes);
        if self.image.cached(range.clone()).is_none() {
            self.image.read(range).await.unwrap();
        }
        start.elapsed()
    }
}

/// The offset of the first use of each block.
fn starts(index: &Index) -> Vec<u64> {
    let (mut at, mut starts) = (0, Vec::new());
    for extent in index.extents() {
        if matches!(extent.from, hfl::format::index::ExtentSource::Block { block, .. } if block as usize == starts.len())
        {
            starts.push(at);
        }
        at += extent.bytes;
    }
    starts
}

/// The numbers below `count` in random order.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let (mut numbers, mut random) = ((0..count).collect::<Vec<_>>(), Random(seed));
    (1..count).rev().for_each(|i| numbers.swap(i, random.below(i as u64 + 1) as usize));
    numbers
}

fn profile_of(index: &Index, blocks: &[usize]) -> Profile {
    let starts = starts(index);
    let reads = blocks.iter().zip(0..).map(|(&block, ms)| FirstRead {
        id: index.blocks()[block].id,
        ms,
        offset: starts[block],
    });
    Profile::new(index.header().image.clone(), index.header().version, reads.collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_has_the_blocks_in_the_order_of_their_first_reads() {
    let home = tempfile::tempdir().unwrap();
    let original = image(8 << 20);
    let index = Arc::new(Publish::default().write(home.path(), &original));
    let client = Client::open(home.path().to_str().unwrap(), 1 << 20, true).await;
    let path = home.path().join("deep/record.profile");
    let recording = Recording::start(Arc::clone(&client.reads), Arc::clone(&index), &path).unwrap();
    assert_eq!(Profile::parse(&fs::read(&path).unwrap()).unwrap().reads().len(), 0, "written at once");
    // The path of the directory may be gone when the profile is written, because a root file system is
    // mounted over it.
    fs::rename(home.path().join("deep"), home.path().join("moved")).unwrap();
    let path = home.path().join("moved/record.profile");

    // A simple model: the blocks of each read, by offset, at their first use.
    let (map, mut random, mut expected) = (ExtentMap::new(Arc::clone(&index)), Random(8), Vec::<(u32, u64)>::new());
    client.image.prefetch(3).await;
    for _ in 0..200 {
        let (offset, bytes) = (random.below(8 << 20), 1 + random.below(300_000) as usize);
        client.read(offset, bytes).await;
        for at in offset..client.image.range(offset, bytes).end {
            if at != offset && at % (256 << 10) != 0 {
                continue;
            }
            let block = map.blocks(at..at + 1, 1).first().copied();
            if let Some(block) = block.filter(|block| expected.iter().all(|(known, _)| known != block)) {
                expected.push((block, at));
            }
        }
    }
    recording.write().unwrap();
    let profile = Profile::parse(&fs::read(&path).unwrap()).unwrap();
    let found: Vec<_> = profile.reads().iter().map(|read| (read.id, read.offset)).collect();
    let expected: Vec<_> = expected.iter().map(|&(block, at)| (index.blocks()[block as usize].id, at)).collect();
    println!("{} of {} blocks were read", found.len(), index.blocks().len());
    assert_eq!(found, expected);
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_fetched_in_order_and_not_beyond_the_memory() {
    let home = tempfile::tempdir().unwrap();
    let blocks: Vec<Vec<u8>> = (0..100).map(|seed| Random(seed).bytes(64 << 10)).collect();
    let index = Publish::default().write_cut(home.path(), &blocks);
    let server = WebServer::new(home.path());
    let client = Client::open(&server.url(), 4 << 20, true).await;
    let (order, starts) = (shuffled(100, 3), starts(&index));
    let profile = profile_of(&index, &order);
    let ahead = client.ahead(2 << 20);
    let counts = ahead.counts();
    let wanted = profile.blocks_of(&client.index);
    let running = tokio::spawn(async move { ahead.run(&wanted).await });
    let holds = |place: usize| client.image.holds(order[place] as u32);
    let settled = async || {
        let mut before = u64::MAX;
        while before != counts.blocks.load(Relaxed) {
            before = counts.blocks.load(Relaxed);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        before
    };
    assert_eq!(settled().await, 32, "2 MiB ahead of a reader that has not begun");
    assert!((0..32).all(holds) && !(32..100).any(holds));
    for &block in &order[..16] {
        client.read(starts[block], 4096).await;
    }
    assert_eq!(settled().await, 48);
    assert!((0..48).all(holds));
    for &block in &order[16..] {
        client.read(starts[block], 4096).await;
    }
    running.await.unwrap();
    println!("{} blocks were fetched ahead", counts.blocks.load(Relaxed));
}

/// A booting machine reads earlier blocks again; prefetched blocks must stay cached meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_ahead_is_there_until_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    let blocks: Vec<Vec<u8>> = (0..100).map(|seed| Random(seed).bytes(64 << 10)).collect();
    let index = Publish::default().write_cut(home.path(), &blocks);
    let (server, asked) = WebServer::noting(home.path(), Duration::ZERO);
    // Room for 80 blocks, 40 of them prefetched.
    let client = Client::open(&server.url(), 5 << 20, true).await;
    let (order, starts) = (shuffled(100, 3), starts(&index));
    let wanted = profile_of(&index, &order).blocks_of(&client.index);
    let ahead = client.ahead(5 << 19);
    let running = tokio::spawn(async move { ahead.run(&wanted).await });
    for (place, &block) in order.iter().enumerate() {
        client.read(starts[block], 4096).await;
        for &earlier in &order[..place] {
            client.image.cached(client.image.range(starts[earlier], 4096));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.await.unwrap();
    assert_eq!(asked.take().len(), 100, "of 100 blocks, none was fetched twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_bandwidth_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let blocks: Vec<Vec<u8>> = (0..40).map(|seed| Random(seed).bytes(64 << 10)).collect();
    let index = Publish::default().write_cut(home.path(), &blocks);
    let client = Client::open(home.path().to_str().unwrap(), 16 << 20, true).await;
    client.scheduler.limit(16, Some(1_000_000));
    let start = Instant::now();
    client.ahead(8 << 20).run(&(0..40).collect::<Vec<u32>>()).await;
    let (took, least) = (start.elapsed(), Duration::from_secs_f64(index.zlib_bytes() as f64 * 39.0 / 40.0 / 1e6));
    println!("{} bytes at 1000000 a second: {took:.2?}", index.zlib_bytes());
    assert!(took > least.mul_f64(0.95) && took < least.mul_f64(1.5), "{least:?}");
}

/// The 99th percentile and the median.
fn p99(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[(times.len() * 99).div_ceil(100) - 1], times[times.len() / 2])
}

/// Reads blocks in random order over a link of 20 Mbit/s, with or without a prefetch of everything.
async fn times_over_a_narrow_link(url: &str, index: &Index, reads: usize, with: bool) -> (Vec<Duration>, u64) {
    let client = Client::open(url, 64 << 20, true).await;
    let starts = starts(index);
    let ahead = client.ahead(64 << 20);
    let counts = ahead.counts();
    let everything: Vec<u32> = (0..index.blocks().len() as u32).collect();
    let running = tokio::spawn(async move {
        if with {
            ahead.run(&everything).await
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut times, mut random) = (Vec::new(), Random(11));
    // Blocks at the end of the prefetch order, so that prefetch does not reach them first.
    for block in shuffled(index.blocks().len() / 2, 7).into_iter().take(reads) {
        let block = index.blocks().len() - 1 - block;
        if !client.image.holds(block as u32) {
            times.push(client.read(starts[block], 4096).await);
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
    }
    running.abort();
    (times, counts.blocks.load(Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_whoever_waits_for_a_block_goes_first() {
    let home = tempfile::tempdir().unwrap();
    let mut random = Random(2);
    let reads = if full() { 300 } else { 100 };
    let block = |seed| {
        let length = (64 << 10) + random.below(192 << 10) as usize;
        Random(seed).bytes(length)
    };
    let blocks: Vec<Vec<u8>> = (0..8 * reads).map(block).collect();
    let index = Publish::default().write_cut(home.path(), &blocks);
    let server = WebServer::new(home.path());
    let proxy = Proxy::start(server.address());
    proxy.faults().rate(None, Some(20_000_000 / 8));
    let url = format!("http://{}", proxy.address());
    let (without, _) = times_over_a_narrow_link(&url, &index, reads as usize, false).await;
    let (with, fetched) = times_over_a_narrow_link(&url, &index, reads as usize, true).await;
    let (counts, [without, with]) = ([without.len(), with.len()], [without, with].map(p99));
    println!(
        "20 Mbit/s, {counts:?} reads: p99 {:?} and median {:?} alone; {:?} and {:?} while {fetched} blocks were fetched ahead",
        without.0, without.1, with.0, with.1
    );
    // The target is the p99 on an otherwise idle machine. The short form compares the median.
    let [alone, beside] = if full() { [without.0, with.0] } else { [without.1, with.1] };
    assert!(beside <= alone * 2);
    assert!(fetched > 30, "and something is fetched ahead all the same");
}

/// The real throughput of the link: the same files, 16 requests at a time, without the client.
async fn bulk(url: &str, index: &Index, order: &[usize]) -> Duration {
    let options = HttpOptions { silence_max: Duration::from_secs(5), ..HttpOptions::default() };
    let server = Http::new(HttpClient::with(&options).unwrap(), format!("{url}/").parse().unwrap());
    let start = Instant::now();
    let get = |&block: &usize| {
        let (server, row) = (&server, &index.blocks()[block]);
        let path = hfl::format::layout::RepoPath::block(&row.id);
        async move { server.get(&path, row.zlib_bytes.into()).await.unwrap() }
    };
    let gets: Vec<_> = order.iter().map(get).collect();
    futures_util::stream::iter(gets).buffer_unordered(16).collect::<Vec<_>>().await;
    start.elapsed()
}

/// Simulates a boot by reading blocks one after the other. Returns the time taken.
async fn boot(client: &Client, order: &[usize], starts: &[u64], readahead: bool) -> Duration {
    let runtime = tokio::runtime::Handle::current();
    let prefetch = Prefetch::new(Arc::clone(&client.image), runtime, 16, Duration::from_secs(2), 10 << 20);
    let start = Instant::now();
    for &block in order {
        // Reads like the kernel: 128 KiB at a time, up to the end of the block.
        let bytes = u64::from(client.index.blocks()[block].bytes);
        for offset in (starts[block]..starts[block] + bytes).step_by(128 << 10) {
            let piece = (starts[block] + bytes - offset).min(128 << 10);
            if readahead {
                prefetch.read(&client.image.range(offset, piece as usize));
            }
            client.read(offset, piece as usize).await;
        }
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_a_boot_with_its_profile_takes_little_more_than_its_bytes() {
    let home = tempfile::tempdir().unwrap();
    let (mut random, rate) = (Random(4), 50_000_000 / 8);
    let boot_blocks = if full() { 250 } else { 100 };
    let block = |seed| {
        let length = (64 << 10) + random.below(192 << 10) as usize;
        Random(seed).bytes(length)
    };
    let blocks: Vec<Vec<u8>> = (0..4 * boot_blocks).map(block).collect();
    let index = Publish::default().write_cut(home.path(), &blocks);
    let server = WebServer::new(home.path());
    let proxy = Proxy::start(server.address());
    proxy.faults().rate(None, Some(rate));
    proxy.faults().delay(Duration::from_millis(50), Duration::from_millis(50));
    let url = format!("http://{}", proxy.address());
    let (order, starts) = (shuffled(blocks.len(), 9)[..boot_blocks as usize].to_vec(), starts(&index));
    let profile = profile_of(&index, &order);
    let bytes: u64 = order.iter().map(|&block| u64::from(index.blocks()[block].zlib_bytes)).sum();
    let ideal = Duration::from_secs_f64(bytes as f64 / rate as f64);

    let bulk = bulk(&url, &index, &order).await;
    let client = Client::open(&url, 20 << 20, true).await;
    let ahead = client.ahead(10 << 20);
    let wanted = profile.blocks_of(&client.index);
    let before = proxy.faults().bytes().1;
    let start = Instant::now();
    let running = tokio::spawn(async move { ahead.run(&wanted).await });
    boot(&client, &order, &starts, true).await;
    let with = start.elapsed();
    running.await.unwrap();
    let carried = proxy.faults().bytes().1 - before;
    let client = Client::open(&url, 20 << 20, false).await;
    let bare = boot(&client, &order, &starts, false).await;
    let client = Client::open(&url, 20 << 20, true).await;
    let readahead = boot(&client, &order, &starts, true).await;
    let times = |time: Duration| time.as_secs_f64() / ideal.as_secs_f64();
    println!(
        "{boot_blocks} blocks, {bytes} bytes at 50 Mbit/s and 100 ms: at best {ideal:.2?}, and {bulk:.2?} for a plain \
         download of them all at once; with its profile {with:.2?} ({:.2} times, {carried} bytes carried), with readahead alone {readahead:.2?} ({:.2} times), without both {bare:.2?} ({:.2} times)",
        times(with),
        times(readahead),
        times(bare)
    );
    // The target. The short form only checks that a profile helps.
    assert!(!full() || times(with) <= 1.3);
    assert!(with * 3 <= bare);
}

/// A repository whose newest version has this profile.
fn publish_with_profile(base: &Path, original: &[u8], blocks: impl Fn(&Index) -> Vec<usize>) -> (Index, Profile) {
    let index = Publish::default().write(base, original);
    let profile = profile_of(&index, &blocks(&index));
    let _ = fs::remove_file(base.join("test.head"));
    let index = Publish { files: vec![profile.to_file()], ..Publish::default() }.write(base, original);
    (index, profile)
}

#[test]
fn a_mount_records_what_is_read_and_the_next_one_is_ahead() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, record) = (home.path().join("a"), home.path().join("boot.profile"));
    let original = image(16 << 20);
    let index = Publish::default().write(&base, &original);
    let server = WebServer::new(&base);
    let arguments = ["--unsigned", "--no-cache", "--no-profile", "--record", record.to_str().unwrap()];
    let mounted = Mounted::new(home.path(), &arguments, &[&server.url()], "test");
    let (order, starts) = (shuffled(index.blocks().len(), 5), starts(&index));
    let file = fs::File::open(mounted.file()).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    for &block in &order[..10] {
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut [0; 100], starts[block]).unwrap();
    }
    drop(file);
    mounted.end();
    let profile = Profile::parse(&fs::read(&record).unwrap()).unwrap();
    let expected: Vec<_> = order[..10].iter().map(|&block| index.blocks()[block].id).collect();
    let found: Vec<_> = profile.reads().iter().map(|read| read.id).collect();
    assert_eq!(found, expected);
    assert!(profile.reads().iter().zip(&order).all(|(read, &block)| read.offset == starts[block]));

    let arguments = ["--unsigned", "--profile", record.to_str().unwrap()];
    let mounted = Mounted::new(home.path(), &arguments, &[&server.url()], "test");
    let cached = |block: usize| {
        let path = hfl::format::layout::RepoPath::block(&index.blocks()[block].id);
        home.path().join("cache/hfl").join(path.as_str()).exists()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !order[..10].iter().all(|&block| cached(block)) {
        assert!(Instant::now() < deadline, "the blocks of the profile are not fetched");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(order[10..].iter().filter(|&&block| cached(block)).count() < 5, "and no others");
    mounted.end();
    let wrong = home.path().join("wrong.profile");
    fs::write(&wrong, "HFL-PROFILE 1\n").unwrap();
    let point = home.path().join("point");
    fs::create_dir(&point).unwrap();
    let arguments = ["--unsigned", "--profile", wrong.to_str().unwrap(), &format!("{}/test", server.url())];
    let output = crate::support::mounting::run(home.path(), &[&arguments[..], &[point.to_str().unwrap()]].concat());
    let said = crate::support::lab::stderr(&output);
    assert!(output.status.code() == Some(2) && said.contains("line 2: the file ends here"), "{said}");
}

#[test]
fn the_profile_that_the_head_names_is_used_and_a_false_one_is_not() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    let original = image(16 << 20);
    let (index, profile) =
        publish_with_profile(&base, &original, |index| shuffled(index.blocks().len(), 6)[..8].to_vec());
    let server = WebServer::new(&base);
    let (row, file) = profile.to_file();
    let cache = home.path().join("cache/hfl");
    let cached = |id| cache.join(hfl::format::layout::RepoPath::block(id).as_str()).exists();
    let all = || profile.reads().iter().all(|read| cached(&read.id));
    let mounted = Mounted::new(home.path(), &["--unsigned"], &[&server.url()], "test");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !all() {
        assert!(Instant::now() < deadline, "the blocks of the profile are not fetched");
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = crate::support::mounting::run(home.path(), &["status", mounted.point().to_str().unwrap(), "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let of = |key: &str| status[key].as_u64().unwrap();
    let counts = (of("profile_blocks"), of("profile_left"), of("profile_fetched_blocks"));
    assert_eq!(counts, (8, 0, 8), "{status}");
    assert!(of("profile_fetched_bytes") > 0);
    let text = crate::support::mounting::run(home.path(), &["status", mounted.point().to_str().unwrap()]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("profile   8 blocks, 8 fetched ahead (") && text.contains("), 0 still to fetch"), "{text}");
    mounted.end();
    assert_eq!(fs::read(cache.join(row.path.as_str())).unwrap(), file, "it is kept for the next time");

    fs::remove_dir_all(&cache).unwrap();
    fs::write(base.join(row.path.as_str()), String::from_utf8(file).unwrap().replace("blocks 8", "blocks 7")).unwrap();
    let mounted = Mounted::new(home.path(), &["--unsigned"], &[&server.url()], "test");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!profile.reads().iter().any(|read| cached(&read.id)));
    assert!(fs::read(mounted.file()).unwrap() == original && index.size() == original.len() as u64);
    let said = mounted.end();
    assert!(said.contains("nothing is fetched ahead: ") && said.contains("its SHA-256 differs"), "{said}");
}
