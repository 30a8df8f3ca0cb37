//! Tests from the outside: the real programs on real images, then the library against plain models.
//!
//! A test whose name begins with `timed_` compares with a clock. Its short form leaves room for what runs beside it; in the
//! long one (`tests/all.sh --full`) it runs alone.

mod boot;
mod client;
mod format;
mod proxy_itself;
mod publish;
mod repo;
mod split;
mod store;
mod support;
mod tidy;
