//! A new version, in stages that are types: a [`Session`](session::Session) knows what the version builds on, a
//! [`Planned`](planned::Planned) what it will be; a [`Delivered`](crate::publish::pipeline::deliver::Delivered) is on the
//! mirrors and may be switched to. Each stage consumes the one before, so no head is switched to what was not delivered.

pub mod carry_out;
pub mod catch_up;
pub mod deltas;
mod lost;
pub mod plan;
pub mod planned;
pub mod release;
pub mod report;
pub mod session;
pub mod switch;
