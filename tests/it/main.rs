//! All tests from the outside, in one program.

#[cfg(feature = "publish")]
mod split;
