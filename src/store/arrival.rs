//! Verifies every upload before the object gets its final name, on every protocol: servers report success for data they
//! have not stored.

use crate::weaken::{self, Weakness};

/// Checks that the stored size `there` equals the number of bytes `sent`.
///
/// # Errors
/// A message that states how much arrived.
pub fn all_arrived(there: u64, sent: u64) -> Result<(), String> {
    if there == sent || weaken::is(Weakness::Arrivals) {
        return Ok(());
    }
    Err(format!("{there} of {sent} bytes arrived, though the server said that all did"))
}
