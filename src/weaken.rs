//! What the simulation takes out of hfl to see whether it notices: with the feature `weaken`, which nothing that is shipped
//! has, one protection at a time can be switched off. Without it none can.

/// A protection that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weakness {
    /// Records of retired versions decide only where they are signed, and about nothing but what their version owned.
    Records = 1,
    /// Of several records of one version the one that was marked last counts.
    LatestRecord,
    /// Nothing is deleted, replaced or switched while it is not certain that the lock is held.
    Certainty,
    /// Version numbers come from all that was ever seen, and no image is begun anew.
    Numbers,
    /// Versions stay in the signed history though their index cannot be read.
    History,
    /// Blocks that a mirror has not right are made again from the image.
    Remake,
    /// What arrived is looked at before it gets its name.
    Arrivals,
}

#[cfg(feature = "weaken")]
static SWITCHED_OFF: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether this protection is switched off.
#[cfg(feature = "weaken")]
pub fn is(weakness: Weakness) -> bool {
    SWITCHED_OFF.load(std::sync::atomic::Ordering::Relaxed) == weakness as u8
}

/// Whether this protection is switched off: it is not.
#[cfg(not(feature = "weaken"))]
pub const fn is(_: Weakness) -> bool {
    false
}

/// Switches one protection off, or all of them on again.
#[cfg(feature = "weaken")]
pub fn switch_off(weakness: Option<Weakness>) {
    SWITCHED_OFF.store(weakness.map_or(0, |weakness| weakness as u8), std::sync::atomic::Ordering::Relaxed);
}
