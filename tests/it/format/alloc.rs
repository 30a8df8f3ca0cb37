//! Counts the memory allocated by a thread, to prove that limits are checked before memory is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let now = NOW.get() + bytes;
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
}

// SAFETY: every call goes to the system allocator unchanged. Counting touches two cells that need no
// allocation, no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller upholds the contract of GlobalAlloc, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller upholds the contract of GlobalAlloc, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller upholds the contract of GlobalAlloc, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `step`. Returns its result and the peak bytes allocated on this thread, beyond those allocated
/// before.
pub fn peak_bytes<T>(step: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let value = step();
    (value, (PEAK.get() - before).max(0) as usize)
}

#[test]
fn counts_what_is_held_at_once() {
    let one_after_the_other = || {
        drop(std::hint::black_box(vec![0u8; 1000]));
        drop(std::hint::black_box(vec![1u8; 3000]));
    };
    let (_, bytes) = peak_bytes(one_after_the_other);
    assert_eq!(bytes, 3000);
}
