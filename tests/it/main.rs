//! Integration tests: the real programs on real images, then the library against plain models.
//!
//! A test whose name begins with `timed_` measures time. Its short form tolerates other load on the
//! machine; in the long form (`tests/all.sh --full`) it runs alone.

mod boot;
mod client;
mod format;
mod package;
mod pages;
mod proxy_itself;
mod publish;
mod repo;
mod split;
mod store;
mod support;
mod tidy;
