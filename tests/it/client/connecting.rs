//! Servers that close each connection, and names with an address that does not answer.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::support::fixture::Publish;
use crate::support::lab::{Random, skipped};
use crate::support::mounting::{Mounted, cannot_mount};
use crate::support::servers::{Daemon, free_port, program};

/// The longest time that a mount may take, as a multiple of curl's. Without optimization, the libraries for HTTP need more
/// time than the server; connections that wait for a packet to be repeated take twenty times as long.
const RATIO_MAX: f64 = if cfg!(debug_assertions) { 3.0 } else { 1.5 };
/// Measurements, at most: other work on the machine disturbs some.
const ROUNDS: usize = 6;

/// A static server that closes each connection; `None` if its program is missing.
fn closing(kind: &str, root: &Path, address: SocketAddr) -> Option<Daemon> {
    let Some(found) = program(kind) else {
        skipped(&format!("no {kind}"));
        return None;
    };
    let (ip, port, root) = (address.ip().to_string(), address.port().to_string(), root.to_str().unwrap());
    let mut command = Command::new(found);
    match kind {
        "python3" => command.args(["-m", "http.server", &port, "--bind", &ip, "--directory", root]),
        _ => command.args(["httpd", "-f", "-p", &address.to_string(), "-h", root]),
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    Some(Daemon::start(command, log.path(), address))
}

/// How long `curl` takes for these files, one after the other.
fn curl(curl: &Path, home: &Path, urls: &[String]) -> Duration {
    let list = home.join("urls");
    let mut file = fs::File::create(&list).unwrap();
    urls.iter().for_each(|url| writeln!(file, "url = \"{url}\"\noutput = /dev/null").unwrap());
    let start = Instant::now();
    assert!(Command::new(curl).arg("-sfK").arg(&list).status().unwrap().success());
    start.elapsed()
}

#[test]
fn timed_a_server_that_closes_each_connection_is_read_about_as_fast_as_by_curl() {
    if cannot_mount() {
        return;
    }
    let Some(program) = program("curl") else { return skipped("no curl") };
    let home = tempfile::tempdir().unwrap();
    // Little to decode, which curl does not do; about the size of the blocks of a published file system.
    let (base, bytes) = (home.path().join("a"), Random(5).bytes(24 << 20));
    let index = Publish { block_bytes: 64 << 10, ..Publish::default() }.write(&base, &bytes);
    for kind in ["python3", "busybox"] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let Some(_server) = closing(kind, &base, address) else { continue };
        let url = |id: &str| format!("http://{address}/blocks/{}/{id}", &id[..2]);
        let urls: Vec<String> = index.blocks().iter().map(|row| url(&row.id.to_string())).collect();
        let (mut one_by_one, mut mount) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            one_by_one = one_by_one.min(curl(&program, home.path(), &urls));
            let arguments = ["--unsigned", "--no-cache"];
            let mounted = Mounted::new(home.path(), &arguments, &[&format!("http://{address}")], "test");
            let start = Instant::now();
            assert!(fs::read(mounted.file()).unwrap() == bytes);
            mount = mount.min(start.elapsed());
            mounted.end();
            if mount.as_secs_f64() <= RATIO_MAX * one_by_one.as_secs_f64() {
                break;
            }
        }
        println!("{kind}: {} blocks by curl {one_by_one:.2?}, through a mount {mount:.2?}", urls.len());
        assert!(mount.as_secs_f64() <= RATIO_MAX * one_by_one.as_secs_f64(), "{kind}: {mount:?}, {one_by_one:?}");
    }
}

/// An address at which connections are neither accepted nor refused: its queue is full.
struct Dead {
    _listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl Dead {
    fn at(runtime: &Runtime, address: SocketAddr) -> Self {
        let _inside = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(0).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queued.push(stream);
            assert!(queued.len() < 50, "the queue does not fill");
        }
        Self { _listener: listener, _queued: queued }
    }
}

/// `hfl-mount` with its own /etc/hosts; `None` if that is not possible here.
fn with_hosts(home: &Path, hosts: &str) -> Option<Command> {
    let file = home.join("hosts");
    fs::write(&file, hosts).unwrap();
    let wrapped = || {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(&file);
        command
    };
    let listed = wrapped().args(["getent", "ahosts", "mirror.test"]).output();
    let count = |out: &[u8]| String::from_utf8_lossy(out).lines().filter(|line| line.contains("STREAM")).count();
    if !listed.is_ok_and(|out| count(&out.stdout) == 2) {
        skipped("no name with two addresses can be set up");
        return None;
    }
    Some(wrapped())
}

#[test]
fn an_address_that_does_not_answer_costs_the_first_connection_a_moment_and_the_others_nothing() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), Random(7).bytes(8 << 20));
    let block = 256 << 10;
    Publish { block_bytes: block, ..Publish::default() }.write(&base, &bytes);
    let runtime = Runtime::new().unwrap();
    let [one, other] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)].map(IpAddr::V4);
    // The resolver may prefer either.
    for (alive, dead) in [(one, other), (other, one)] {
        let port = free_port();
        let Some(_server) = closing("python3", &base, (alive, port).into()) else { return };
        let _dead = Dead::at(&runtime, (dead, port).into());
        let hosts = format!("{dead} mirror.test\n{alive} mirror.test\n");
        let Some(wrapped) = with_hosts(home.path(), &hosts) else { return };
        let arguments = ["--unsigned", "--no-cache", "--one-at-a-time"];
        let source = format!("http://mirror.test:{port}/test");
        let start = Instant::now();
        let mounted = Mounted::wrapped(wrapped, home.path(), &arguments, &[source], "test");
        let opened = start.elapsed();
        let file = fs::File::open(inside(&mounted)).unwrap();
        let mut times: Vec<Duration> = (0..bytes.len()).step_by(block).map(|at| read(&file, at, &bytes)).collect();
        let (first, rest) = times.split_first_mut().unwrap();
        rest.sort_unstable();
        let (median, longest) = (rest[rest.len() / 2], rest[rest.len() - 1]);
        println!(
            "{dead} is dead: opened in {opened:.2?}; blocks: first {first:.2?}, median {median:.2?}, at most {longest:.2?}"
        );
        assert!(opened < Duration::from_secs(2), "one moment for the head, the index and all others: {opened:?}");
        assert!(median < Duration::from_millis(100) && longest < Duration::from_secs(1), "{median:?}, {longest:?}");
    }
}

/// The image as the process of the mount sees it.
fn inside(mounted: &Mounted) -> PathBuf {
    Path::new("/proc").join(mounted.pid().to_string()).join("root").join(mounted.file().strip_prefix("/").unwrap())
}

/// How long a read takes; it must be right.
fn read(file: &fs::File, at: usize, bytes: &[u8]) -> Duration {
    let (mut piece, start) = ([0; 4096], Instant::now());
    file.read_exact_at(&mut piece, at as u64).unwrap();
    assert!(piece[..] == bytes[at..at + 4096]);
    start.elapsed()
}
