//! Documents: how hfl is built, how to work on it, and its formats.
//!
//! They are plain Markdown beside this file, for people who have no compiler at hand; brackets in them are no links.

#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("contributing.md")]
pub mod contributing {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = concat!("What the programs print with `--json`: a JSON Schema.\n\n```json\n", include_str!("json.schema.json"), "```\n")]
pub mod json {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("split.md")]
pub mod split {}
