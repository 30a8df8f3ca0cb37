//! Protections that the simulation switches off to test whether it notices. With the feature `weaken`, which no shipped
//! build has, one protection at a time can be switched off; without it, none can.

/// A protection that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weakness {
    /// Records of retired versions count only if signed, and only for what their version owned.
    Records = 1,
    /// Of several records of one version, the one marked last counts.
    LatestRecord,
    /// Nothing is deleted, replaced or switched unless it is certain that the lock is held.
    Certainty,
    /// Version numbers derive from all that was ever seen, and no image is started anew.
    Numbers,
    /// Versions stay in the signed history even if their index cannot be read.
    History,
    /// Blocks that a mirror does not have intact are rebuilt from the image.
    Remake,
    /// Uploaded objects are checked before they get their final name.
    Arrivals,
}

#[cfg(feature = "weaken")]
static SWITCHED_OFF: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether this protection is switched off.
#[cfg(feature = "weaken")]
pub fn is(weakness: Weakness) -> bool {
    SWITCHED_OFF.load(std::sync::atomic::Ordering::Relaxed) == weakness as u8
}

/// Always false: no protection can be switched off.
#[cfg(not(feature = "weaken"))]
pub const fn is(_: Weakness) -> bool {
    false
}

/// Switches one protection off, or all of them on again.
#[cfg(feature = "weaken")]
pub fn switch_off(weakness: Option<Weakness>) {
    SWITCHED_OFF.store(weakness.map_or(0, |weakness| weakness as u8), std::sync::atomic::Ordering::Relaxed);
}
