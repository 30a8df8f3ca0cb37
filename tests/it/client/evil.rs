//! The real client over malicious mirrors: what readers see, and how much memory it uses.

use std::fs;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::support::evil::{Evil, FAULTS, SOMETIMES};
use crate::support::fixture::{Publish, image};
use crate::support::lab::{Random, full};
use crate::support::mounting::{Mounted, cannot_mount};

/// A value of `/proc/PID/status`, in KiB.
fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Opens a file for direct I/O, which bypasses the page cache.
fn direct(path: &Path) -> fs::File {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

/// A buffer aligned for direct I/O.
#[repr(align(4096))]
struct Page([u8; 4096]);

#[test]
fn with_evil_mirrors_alone_reads_fail_in_time_and_nothing_grows() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    let bytes = image(64 << 20);
    Publish::default().write(&base, &bytes);
    let evil = Evil::start(&base);
    let arguments = ["--unsigned", "--no-cache", "--memory", "8M", "--timeout", "4"];
    let good = Mounted::new(home.path(), &arguments, &[&evil.url("good")], "test");
    assert!(fs::read(good.file()).unwrap() == bytes);
    let peak_good = status_kib(good.pid(), "VmHWM");
    good.end();

    let list = home.path().join("mirrors");
    let urls = FAULTS.map(|fault| format!("{}/\n", evil.url(fault)));
    fs::write(&list, format!("# every one of them is bad\n\n{}", urls.concat())).unwrap();
    let arguments = [&arguments[..], &["--mirrors", list.to_str().unwrap()]].concat();
    let mounted = Mounted::named(home.path(), &arguments, &["test".into()], "test");
    let mut errors = 0;
    for round in 0..if full() { 8 } else { 2 } {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let readers = (0..16u64).map(|reader| {
                let file = direct(&mounted.file());
                scope.spawn(move || {
                    let at = (reader * 16 + round) * (256 << 10);
                    (at, file.read_exact_at(&mut Page([0; 4096]).0, at))
                })
            });
            let readers: Vec<_> = readers.collect();
            for reader in readers {
                let (at, read) = reader.join().unwrap();
                let hole = bytes[at as usize..][..256 << 10].iter().all(|&b| b == 0);
                assert_eq!(
                    read.as_ref().err().and_then(std::io::Error::raw_os_error),
                    (!hole).then_some(5),
                    "{read:?}"
                );
                errors += usize::from(!hole);
            }
        });
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    }
    let peak_evil = status_kib(mounted.pid(), "VmHWM");
    println!(
        "{errors} reads from {} evil mirrors failed in time; peak {peak_evil} KiB, {peak_good} KiB in the good case",
        FAULTS.len()
    );
    mounted.end();
    assert!(peak_evil <= peak_good + (4 << 10));
}

#[test]
fn one_bad_answer_in_twenty_is_nothing_that_a_reader_sees() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("a");
    let bytes = Random(77).bytes(8 << 20);
    Publish { block_bytes: 16 << 10, ..Publish::default() }.write(&base, &bytes);
    let evils = [0; 3].map(|_| Evil::start(&base));
    let urls = evils.each_ref().map(|evil| evil.url(SOMETIMES));
    let urls = urls.each_ref().map(String::as_str);
    let arguments = ["--unsigned", "--no-cache", "--memory", "2M"];
    let mounted = Mounted::new(home.path(), &arguments, &urls, "test");
    let (reads, readers) = (if full() { 1_000_000 } else { 20_000u64 }, 24);
    let (done, wrong, errors) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut early = (0, 0);
    std::thread::scope(|scope| {
        for reader in 0..readers {
            let (file, mut random) = (direct(&mounted.file()), Random(reader));
            let (bytes, done, wrong, errors) = (&bytes, &done, &wrong, &errors);
            scope.spawn(move || {
                let mut page = Page([0; 4096]);
                while done.fetch_add(1, Relaxed) < reads {
                    let at = random.below(bytes.len() as u64 / 4096) * 4096;
                    match file.read_exact_at(&mut page.0, at) {
                        Ok(()) => wrong.fetch_add(u64::from(page.0[..] != bytes[at as usize..][..4096]), Relaxed),
                        Err(_) => errors.fetch_add(1, Relaxed),
                    };
                }
            });
        }
        while done.load(Relaxed) < reads / 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        early = (open_files(mounted.pid()), status_kib(mounted.pid(), "VmRSS"));
    });
    let late = (open_files(mounted.pid()), status_kib(mounted.pid(), "VmRSS"));
    let faults: u64 = evils.iter().map(Evil::faults).sum();
    let (wrong, errors) = (wrong.into_inner(), errors.into_inner());
    println!(
        "{reads} reads, {faults} bad answers: {wrong} wrong, {errors} failed; open files and KiB of memory at half time {early:?}, at the end {late:?}"
    );
    mounted.end();
    assert_eq!((wrong, errors), (0, 0));
    assert!(faults > reads / 200 && late.0 <= early.0.max(100) + 16 && late.1 <= early.1 + (4 << 10));
}
