//! The image as an NBD export: how QEMU's programs see it, and how the server handles misbehaving
//! clients.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hfl::format::index::{ExtentSource, Index};
use hfl::format::profile::Profile;
use tempfile::TempDir;

use crate::support::fixture::{Publish, Random, image};
use crate::support::lab::{skipped, stderr};
use crate::support::mounting::{WebServer, run};
use crate::support::nbd::{Exported, Plain, Speech};
use crate::support::proxy::Proxy;

const IMAGE_BYTES: usize = (20 << 20) + 1234;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const EPERM: u32 = 1;

/// A repository with one image in `home/a`, the image, and its index.
fn repository() -> (TempDir, Vec<u8>, Index) {
    let home = tempfile::tempdir().unwrap();
    let bytes = image(IMAGE_BYTES);
    let index = Publish::default().write(&home.path().join("a"), &bytes);
    (home, bytes, index)
}

fn exported(home: &Path, arguments: &[&str]) -> Exported {
    Exported::new(home, arguments, &format!("{}/test", home.join("a").display()))
}

/// Runs a program. `None`, with a skip message, if it is not installed.
fn program(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(e) => {
            skipped(&format!("{name}: {e}"));
            None
        }
    }
}

/// Runs a program, which must succeed, and returns its output.
fn ok(name: &str, arguments: &[&str]) -> Option<String> {
    let output = program(name, arguments)?;
    assert!(output.status.success(), "{name} {arguments:?}: {}", stderr(&output));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The holes of the image, in order: start and bytes.
fn holes(index: &Index) -> Vec<(u64, u64)> {
    let (mut at, mut holes) = (0, Vec::new());
    for extent in index.extents() {
        if extent.from == ExtentSource::Hole {
            holes.push((at, extent.bytes));
        }
        at += extent.bytes;
    }
    holes
}

#[test]
fn qemu_reads_the_image_and_sees_its_holes() {
    let (home, bytes, index) = repository();
    let raw = home.path().join("raw");
    fs::write(&raw, &bytes).unwrap();
    let (raw, copy) = (raw.to_str().unwrap(), home.path().join("copy"));
    let exported = exported(home.path(), &[]);
    let uri = exported.uri();
    let Some(said) = ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", raw, uri]) else { return };
    assert!(said.contains("identical"), "{said}");
    let map = ok("qemu-img", &["map", "-f", "raw", "--output=json", uri]).unwrap();
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let seen = map.as_array().unwrap().iter().filter(|run| run["zero"] == true && run["data"] == false);
    // QEMU counts in sectors and reports the rest of the last one as a hole.
    let whole = |run: &serde_json::Value| (run["start"].as_u64().unwrap(), run["length"].as_u64().unwrap());
    let seen: Vec<(u64, u64)> = seen.map(whole).filter(|&(start, _)| start < IMAGE_BYTES as u64 - 512).collect();
    println!("{} holes", seen.len());
    assert_eq!(seen, holes(&index));
    ok("qemu-img", &["convert", "-f", "raw", "-O", "raw", uri, copy.to_str().unwrap()]).unwrap();
    let mut copied = fs::read(&copy).unwrap();
    assert!(copied.drain(IMAGE_BYTES..).all(|byte| byte == 0) && copied == bytes);
    ok("qemu-io", &["-r", "-f", "raw", "-c", "read 4097 1300000", uri]);
    if let Some(said) = ok("nbdinfo", &[uri]) {
        for words in ["newstyle-fixed", "export-size: 20972754", "is_read_only: true", "can_multi_conn: true"] {
            assert!(said.contains(words), "`{words}` in {said}");
        }
        let list = ok("nbdinfo", &["--list", uri]).unwrap();
        assert!(list.contains("export=\"test\""), "{list}");
    }
    exported.end();
}

#[test]
fn every_way_of_speaking_reads_the_same_and_two_clients_at_once() {
    let (home, bytes, _) = repository();
    let exported = exported(home.path(), &["--memory", "2M"]);
    let clients = [Speech::Old, Speech::Simple, Speech::Structured, Speech::Structured];
    std::thread::scope(|scope| {
        for (number, speech) in clients.into_iter().enumerate() {
            let (bytes, socket) = (&bytes, exported.socket());
            scope.spawn(move || {
                let (mut plain, size) = Plain::open(socket, speech);
                assert_eq!(size, bytes.len() as u64);
                let mut random = Random(number as u64);
                for _ in 0..150 {
                    let offset = random.below(size);
                    let most = if random.below(10) == 0 { size } else { 70_000 };
                    let wanted = (random.below(most) + 1).min(size - offset) as u32;
                    let flags = if speech == Speech::Structured && random.below(4) == 0 { 4 } else { 0 };
                    let reply = plain.call(flags, 0, offset, wanted);
                    assert!(reply.error == 0 && (flags == 0 || reply.holes == 0));
                    assert!(reply.data == bytes[offset as usize..][..wanted as usize], "{speech:?} at {offset}");
                }
            });
        }
    });
    // More small requests in flight than the server accepts at once; replies come in any order.
    let (mut plain, size) = Plain::open(exported.socket(), Speech::Structured);
    let mut asked = std::collections::HashMap::new();
    for number in 0..100 {
        let offset = number * (size - 512) / 100;
        asked.insert(plain.ask(0, 0, offset, 512), offset as usize);
    }
    for _ in 0..100 {
        let (cookie, reply) = plain.reply();
        let offset = asked.remove(&cookie).unwrap();
        assert!(reply.data == bytes[offset..][..512]);
    }
    exported.end();
}

#[test]
fn what_is_read_over_it_can_be_recorded() {
    let (home, _, index) = repository();
    let record = home.path().join("boot.profile");
    let exported = exported(home.path(), &["--record", record.to_str().unwrap()]);
    let (mut plain, _) = Plain::open(exported.socket(), Speech::Simple);
    assert_eq!(plain.call(0, 0, 0, IMAGE_BYTES as u32).error, 0);
    exported.end();
    let profile = Profile::parse(&fs::read(&record).unwrap()).unwrap();
    println!("{} of {} blocks recorded", profile.reads().len(), index.blocks().len());
    assert_eq!(profile.reads().len(), index.blocks().len());
}

#[test]
fn holes_are_left_out_and_told() {
    let (home, bytes, index) = repository();
    let exported = exported(home.path(), &[]);
    let (mut plain, size) = Plain::open(exported.socket(), Speech::Structured);
    let whole = plain.read(0, size as u32);
    assert!(whole.data == bytes && whole.holes == holes(&index).len(), "{} holes", whole.holes);
    let status = plain.call(0, 7, 0, size as u32);
    let (mut at, mut told) = (0, Vec::new());
    for &(bytes, state) in &status.runs {
        told.extend((state == 3).then_some((at, u64::from(bytes))));
        at += u64::from(bytes);
    }
    assert!(at == size && told == holes(&index));
    let one = plain.call(8, 7, 4096, 1 << 20);
    assert_eq!(one.runs.len(), 1, "one was asked for");
    // NBD_CMD_CACHE (prefetch), and NBD_CMD_FLUSH, which has nothing to do on a read-only export.
    assert_eq!(plain.call(0, 5, 0, size as u32).error, 0);
    assert_eq!(plain.call(0, 3, 0, 0).error, 0);
    let (mut plain, _) = Plain::open(exported.socket(), Speech::Simple);
    assert_eq!(plain.call(0, 7, 0, 4096).error, EINVAL, "nobody asked for it in the handshake");
    exported.end();
}

#[test]
fn bad_options_are_answered_or_end_the_connection_and_the_server_goes_on() {
    let (home, bytes, _) = repository();
    let exported = exported(home.path(), &[]);
    let socket = exported.socket();
    let mut random = Random(4);
    for flags in [4, u32::MAX] {
        assert!(Plain::greeted(socket, flags).is_closed(), "flags that nobody knows");
    }
    for _ in 0..50 {
        let mut plain = Plain::greeted(socket, 3);
        plain.send(&random.bytes(64));
        assert!(plain.is_closed(), "garbage");
    }
    let mut plain = Plain::greeted(socket, 1);
    plain.send(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff");
    assert_eq!(plain.answers(7), [(0x8000_0009, Vec::new())]);
    assert!(plain.is_closed(), "an option of 4 GiB");
    let mut plain = Plain::greeted(socket, 3);
    plain.send_option(1, b"other");
    assert!(plain.is_closed(), "the wrong name, where no other answer is possible");

    let mut plain = Plain::greeted(socket, 3);
    let mut refused = |option, data: &[u8], error: u32| {
        assert_eq!(plain.option(option, data), [(0x8000_0000 + error, Vec::new())], "option {option}");
    };
    for option in [0, 4, 5, 11, 99, u32::MAX] {
        refused(option, b"", 1);
    }
    refused(99, &[7; 65536], 1);
    refused(3, b"x", 3);
    refused(8, b"x", 3);
    refused(7, b"", 3);
    refused(6, b"\xff\xff\xff\xffx", 3);
    refused(7, b"\0\0\0\x05other\0\0", 6);
    refused(10, b"\0\0\0\0\0\0\0\0", 3);
    assert_eq!(plain.option(8, b""), [(1, Vec::new())]);
    assert_eq!(plain.option(10, b"\0\0\0\x01x\0\0\0\0"), [(0x8000_0006, Vec::new())]);
    assert_eq!(plain.option(10, b"\0\0\0\0\xff\xff\xff\xff"), [(0x8000_0003, Vec::new())]);
    assert_eq!(plain.option(10, b"\0\0\0\0\0\0\0\x01\0\0\0\x04qemu"), [(1, Vec::new())]);
    assert_eq!(plain.option(9, b"\0\0\0\0\0\0\0\0").len(), 2);
    assert_eq!(plain.option(3, b""), [(2, b"\0\0\0\x04test".to_vec()), (1, Vec::new())]);
    assert_eq!(plain.option(2, b""), [(1, Vec::new())]);
    assert!(plain.is_closed(), "that was NBD_OPT_ABORT");

    let (mut plain, _) = Plain::open(socket, Speech::Simple);
    assert!(plain.read(0, 4096).data == bytes[..4096], "the server goes on");
    exported.end();
}

#[test]
fn bad_requests_are_answered_and_the_connection_goes_on() {
    let (home, bytes, _) = repository();
    let exported = exported(home.path(), &[]);
    let before = exported.rss();
    for speech in [Speech::Old, Speech::Structured] {
        let (mut plain, size) = Plain::open(exported.socket(), speech);
        let wrong =
            [(0, size, 1), (0, size - 1, 2), (0, 0, 0), (0, u64::MAX, 1), (0, 0, u32::MAX), (0, 0, (32 << 20) + 1)];
        for (flags, offset, wanted) in wrong {
            assert_eq!(plain.call(flags, 0, offset, wanted).error, EINVAL, "{offset} {wanted}");
            assert_eq!(plain.call(flags, 7, offset, wanted).error, EINVAL, "{offset} {wanted}");
        }
        let cookie = plain.ask(0, 1, 0, 100_000);
        plain.send(&[7; 100_000]);
        assert_eq!((cookie, EPERM), (cookie, plain.reply().1.error), "a write");
        for command in [4, 6] {
            assert_eq!(plain.call(0, command, 0, 4096).error, EPERM);
        }
        assert_eq!(plain.call(0, 99, 0, 4096).error, EINVAL);
        assert!(plain.read(1, 3).data == bytes[1..4], "odd places are as good as any");
        plain.ask(0, 1, 0, u32::MAX);
        assert!(plain.is_closed(), "a write of 4 GiB");
        let (mut plain, _) = Plain::open(exported.socket(), speech);
        plain.send(&[7; 28]);
        assert!(plain.is_closed(), "no request");
        let (mut plain, _) = Plain::open(exported.socket(), speech);
        plain.ask(0, 2, 0, 0);
        assert!(plain.is_closed(), "NBD_CMD_DISC");
    }
    // Clients that request a lot and read no replies.
    let idle: Vec<Plain> = (0..4)
        .map(|_| {
            let (mut plain, size) = Plain::open(exported.socket(), Speech::Structured);
            for _ in 0..200 {
                plain.ask(0, 0, 0, size as u32);
            }
            plain
        })
        .collect();
    let (mut plain, _) = Plain::open(exported.socket(), Speech::Structured);
    assert!(plain.read(0, 4096).data == bytes[..4096]);
    std::thread::sleep(Duration::from_millis(500));
    let grown = exported.rss().saturating_sub(before) >> 20;
    println!("{grown} MiB more for 800 reads of the whole image that nobody takes");
    assert!(grown < 128);
    drop(idle);
    exported.end();
}

#[test]
fn without_a_network_soft_fails_hard_waits_and_both_recover() {
    let (home, bytes, _) = repository();
    let server = WebServer::new(&home.path().join("a"));
    let proxy = Proxy::start(server.address());
    let source = format!("http://{}/test", proxy.address());
    let cold = |exported: &Exported| Plain::open(exported.socket(), Speech::Structured).0;
    let at = 12 << 20;
    let exported = Exported::new(home.path(), &["--timeout", "2", "--memory", "1M"], &source);
    proxy.faults().refuse(true);
    let start = Instant::now();
    assert_eq!(cold(&exported).read(at, 4 << 20).error, EIO);
    println!("EIO after {:?}", start.elapsed());
    proxy.faults().refuse(false);
    std::thread::sleep(Duration::from_secs(1));
    assert!(cold(&exported).read(at, 4 << 20).data == bytes[at as usize..][..4 << 20]);
    exported.end();

    let exported = Exported::new(home.path(), &["--mode", "hard", "--memory", "1M"], &source);
    proxy.faults().refuse(true);
    let (waited, data) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let start = Instant::now();
            let reply = cold(&exported).read(at, 4 << 20);
            (start.elapsed(), reply)
        });
        std::thread::sleep(Duration::from_secs(4));
        proxy.faults().refuse(false);
        reader.join().unwrap()
    });
    println!("hard waited {waited:?}");
    assert!(waited > Duration::from_secs(3) && data.error == 0 && data.data == bytes[at as usize..][..4 << 20]);
    exported.end();
}

/// Peak memory of `exported` while `work` runs, in bytes.
fn peak_rss(exported: &Exported, work: impl FnOnce()) -> u64 {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                peak = peak.max(exported.rss());
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        work();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        watch.join().unwrap()
    })
}

#[test]
fn what_clients_have_cached_takes_no_more_memory_than_what_they_read() {
    const CONNECTIONS: usize = 8;
    const REQUESTS: u64 = 16;
    const CACHE: u16 = 5;
    let home = tempfile::tempdir().unwrap();
    let bytes = Random(7).bytes(96 << 20);
    Publish { block_bytes: 1 << 20, ..Publish::default() }.write(&home.path().join("a"), &bytes);
    let server = WebServer::new(&home.path().join("a"));
    let source = format!("{}/test", server.url());
    let piece = (bytes.len() as u64 / REQUESTS) as u32;
    let all = |command: u16| {
        let exported = Exported::new(home.path(), &["--memory", "20M"], &source);
        let peak = peak_rss(&exported, || {
            let mut clients: Vec<Plain> =
                (0..CONNECTIONS).map(|_| Plain::open(exported.socket(), Speech::Structured).0).collect();
            for client in &mut clients {
                for n in 0..REQUESTS {
                    client.ask(0, command, n * u64::from(piece), piece);
                }
            }
            for client in &mut clients {
                (0..REQUESTS).for_each(|_| assert_eq!(client.reply().1.error, 0));
            }
        });
        exported.end();
        peak >> 20
    };
    let cached = all(CACHE);
    println!("{cached} MiB of memory for {CONNECTIONS} clients with {REQUESTS} CACHE requests each");
    assert!(cached < 64, "{cached} MiB");
}

#[test]
fn a_directory_that_is_away_for_a_while_is_waited_for() {
    let (home, bytes, _) = repository();
    let (blocks, away) = (home.path().join("a/blocks"), home.path().join("away"));
    let exported = exported(home.path(), &["--memory", "1M"]);
    fs::rename(&blocks, &away).unwrap();
    let at = 12 << 20;
    let (waited, reply) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let start = Instant::now();
            (Plain::open(exported.socket(), Speech::Structured).0.read(at, 4 << 20), start.elapsed())
        });
        std::thread::sleep(Duration::from_secs(2));
        fs::rename(&away, &blocks).unwrap();
        let (reply, waited) = reader.join().unwrap();
        (waited, reply)
    });
    println!("waited {waited:?}");
    assert!(reply.error == 0 && reply.data == bytes[at as usize..][..4 << 20]);
    exported.end();
    // It does not wait forever.
    let exported = self::exported(home.path(), &["--memory", "1M", "--timeout", "1"]);
    fs::rename(&blocks, &away).unwrap();
    assert_eq!(Plain::open(exported.socket(), Speech::Structured).0.read(at, 4 << 20).error, EIO);
    exported.end();
}

#[test]
fn sockets_come_and_go() {
    let (home, _, _) = repository();
    let mut exported = exported(home.path(), &[]);
    let socket = exported.socket().to_owned();
    let source = format!("{}/test", home.path().join("a").display());
    let refused = |place: &[&str], code: i32, words: &str| {
        let output = run(home.path(), &[&["nbd", "--unsigned", "--no-cache", &source], place].concat());
        let said = stderr(&output);
        assert!(output.status.code() == Some(code) && said.contains(words), "{said}");
    };
    refused(&["--socket", socket.to_str().unwrap()], 1, "somebody listens there already");
    exported.kill();
    assert!(socket.exists());
    self::exported(home.path(), &[]).end();
    fs::write(&socket, "mine").unwrap();
    refused(&["--socket", socket.to_str().unwrap()], 1, "there is something there already");
    assert_eq!(fs::read(&socket).unwrap(), b"mine");
    refused(&["--socket", "/nowhere/at/all"], 1, "cannot listen at /nowhere/at/all");
    refused(&[], 2, "--socket");
    refused(&["--socket", "x", "--listen", "127.0.0.1:0"], 2, "cannot be used with");
    refused(&["--listen", "here"], 2, "--listen");
    let help = run(home.path(), &["nbd", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("qemu-system-x86_64 -drive") && help.contains("--listen <ADDRESS:PORT>"), "{help}");
}

/// Reads the second sector of its disk, sends it to the first serial port up to the first zero byte,
/// then makes QEMU exit.
const BOOT_SECTOR: &[u8] = &[
    0xfc, // cld
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, // xor ax, ax; mov ds, ax; mov es, ax
    0xb8, 0x01, 0x02, // mov ax, 0x0201: read one sector
    0xbb, 0x00, 0x7e, // mov bx, 0x7e00
    0xb9, 0x02, 0x00, // mov cx, 2: cylinder 0, sector 2
    0xb6, 0x00, // mov dh, 0
    0xcd, 0x13, // int 0x13
    0x72, 0x0e, // jc end
    0xbe, 0x00, 0x7e, // mov si, 0x7e00
    0xac, // next: lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x06, // jz end
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xeb, 0xf5, // jmp next
    0xb0, 0x10, // end: mov al, 0x10
    0xe6, 0xf4, // out 0xf4, al
    0xf4, 0xeb, 0xfd, // hlt, forever
];

#[test]
fn a_machine_boots_from_it() {
    let home = tempfile::tempdir().unwrap();
    let mut disk = vec![0; 4 << 20];
    disk[..BOOT_SECTOR.len()].copy_from_slice(BOOT_SECTOR);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let line = b"booted over HTTP and NBD\r\n";
    disk[512..512 + line.len()].copy_from_slice(line);
    Publish::default().write(&home.path().join("a"), &disk);
    let server = WebServer::new(&home.path().join("a"));
    let exported = Exported::new(home.path(), &[], &format!("{}/test", server.url()));
    let serial = home.path().join("serial");
    let drive = format!("file={},format=raw,if=virtio,readonly=on", exported.uri());
    let console = format!("file:{}", serial.display());
    let machine = ["-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot", "-boot", "c"];
    let arguments = [&machine[..], &["-drive", &drive, "-serial", &console]].concat();
    let arguments = [&arguments[..], &["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]].concat();
    let start = Instant::now();
    let limited = [&["60", "qemu-system-x86_64"][..], &arguments].concat();
    if program("qemu-system-x86_64", &["--version"]).is_none() {
        return;
    }
    let output = program("timeout", &limited).unwrap();
    let said = String::from_utf8_lossy(&fs::read(&serial).unwrap_or_default()).into_owned();
    println!("{:?} after {:?}: {said}", output.status.code(), start.elapsed());
    assert_eq!(output.status.code(), Some(33), "{}", stderr(&output));
    assert!(said.contains("booted over HTTP and NBD"), "{said}");
    exported.end();
}
