//! The formats: what is read, what is refused, and that both stay the same.

mod alloc;
mod bad_block;
mod bad_head;
mod bad_index;
mod bad_mirrors;
mod bad_signature;
mod bad_words;
mod difference;
mod document;
mod golden;
mod layout;
mod limits;
mod mutate;
mod next_year;
mod profile;
mod roundtrip;
mod update;
