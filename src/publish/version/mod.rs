//! A new version: planning, release to the mirrors, and report.

pub mod catch_up;
pub mod plan;
pub mod release;
pub mod report;
pub mod session;
