//! A version in the making: planned, written to the mirrors, and told.

pub mod catch_up;
pub mod plan;
pub mod release;
pub mod report;
pub mod session;
