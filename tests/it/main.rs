//! The tests that look at hfl from the outside.

mod format_alloc;
mod format_bad_block;
mod format_bad_head;
mod format_bad_index;
mod format_bad_mirrors;
mod format_bad_signature;
mod format_bad_words;
mod format_delta;
mod format_document;
mod format_fixtures;
mod format_golden;
mod format_layout;
mod format_limits;
mod format_mutate;
mod format_roundtrip;
