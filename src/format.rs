//! The formats, specified.
#![doc = include_str!("format/format.md")]
