//! The formats, specified.
