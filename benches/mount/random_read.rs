//! Counts random 4 KiB direct reads: `random_read FILE WINDOW_BYTES SECONDS THREADS` prints reads per
//! second.
//!
//! The reads stay in the first window of the file, aligned to its own size, that contains no 256 KiB of
//! zeros. The window is read once before the measurement, so that the server of the file has it in
//! memory.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const PIECE: usize = 256 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, window, seconds, threads] = &arguments[..] else {
        panic!("random_read FILE WINDOW_BYTES SECONDS THREADS")
    };
    let (window, seconds, threads): (u64, u64, u64) =
        (window.parse().unwrap(), seconds.parse().unwrap(), threads.parse().unwrap());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let start = full_window(&file, window);
    let duration = Duration::from_secs(seconds);
    let reads: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|t| (t, file.try_clone().unwrap())).collect();
        let readers =
            readers.into_iter().map(|(t, file)| scope.spawn(move || read(&file, start, window, duration, t + 1)));
        readers.collect::<Vec<_>>().into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    println!("{}", reads / seconds);
}

/// A buffer aligned to the page size, as direct I/O requires.
fn aligned(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    buffer.resize(bytes + PAGE, 0);
    let skip = buffer.as_ptr().align_offset(PAGE);
    &mut buffer[skip..skip + bytes]
}

fn full_window(file: &File, window: u64) -> u64 {
    let size = file.metadata().unwrap().len();
    let mut buffer = Vec::new();
    let buffer = aligned(&mut buffer, window as usize);
    for start in (0..size - window).step_by(window as usize) {
        file.read_exact_at(buffer, start).unwrap();
        if buffer.chunks(PIECE).all(|piece| piece.iter().any(|&b| b != 0)) {
            return start;
        }
    }
    panic!("no such window")
}

fn read(file: &File, start: u64, window: u64, duration: Duration, seed: u64) -> u64 {
    let mut buffer = Vec::new();
    let buffer = aligned(&mut buffer, PAGE);
    let (mut state, mut reads) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0);
    let begin = Instant::now();
    while begin.elapsed() < duration {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let page = state % (window / PAGE as u64);
        file.read_exact_at(buffer, start + page * PAGE as u64).unwrap();
        reads += 1;
    }
    reads
}
