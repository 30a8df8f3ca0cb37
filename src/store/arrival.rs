//! What arrived is looked at before it gets its name, on every protocol: servers say that they have stored what they have not.

use crate::weaken::{self, Weakness};

/// Whether all of an object that was `sent` is there, in bytes.
///
/// # Errors
/// The sentence that says what is missing.
pub fn all_arrived(there: u64, sent: u64) -> Result<(), String> {
    if there == sent || weaken::is(Weakness::Arrivals) {
        return Ok(());
    }
    Err(format!("{there} of {sent} bytes arrived, though the server said that all did"))
}
