//! The formats, specified.

// The chapters are plain Markdown for people who have no compiler at hand: brackets in them are no links.
#![allow(rustdoc::broken_intra_doc_links)]
#![doc = include_str!("format.md")]
#![doc = ""]
#![doc = include_str!("split.md")]
