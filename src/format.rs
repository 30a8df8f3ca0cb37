//! The formats, specified.
#![doc = include_str!("format/format.md")]
#![doc = include_str!("format/split.md")]
