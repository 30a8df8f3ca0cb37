//! State that a client keeps from one run to the next.

pub mod local_mirror;
