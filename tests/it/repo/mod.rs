//! Reading: what every reader accepts and refuses.

mod proxy;
mod rollback;
mod rules;
