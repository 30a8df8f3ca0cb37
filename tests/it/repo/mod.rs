//! Reading: what all readers accept and refuse.

mod proxy;
mod rollback;
mod rules;
