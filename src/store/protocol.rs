//! What a driver says of itself: the protocols that it speaks, the keys of mirrors.toml that it knows, and how it opens a place.

use std::pin::Pin;
use std::sync::Arc;

use super::Store;
use super::key::Key;
use super::place::Place;
use crate::error::Error;

/// A driver, as [`super::protocols`] lists it.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// What a URL of such a place begins with, before `://`.
    pub schemes: &'static [&'static str],
    /// The keys of a `[[mirror]]` table that only some protocols have a use for.
    pub keys: &'static [Key],
    /// Opens a place. It is not reached yet; what is wrong with how it is described is an error.
    pub open: for<'a> fn(&'a Place<'a>) -> Opening<'a>,
}

/// A store that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, Error>> + Send + 'a>>;
