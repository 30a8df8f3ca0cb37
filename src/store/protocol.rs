//! Description of a driver: its URL schemes, its keys in mirrors.toml, and its constructor.

use std::pin::Pin;
use std::sync::Arc;

use super::Store;
use super::key::Key;
use super::place::Place;
use crate::error::Error;

/// A driver, as [`super::protocols`] lists it.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Its URL schemes, without `://`.
    pub schemes: &'static [&'static str],
    /// Its protocol-specific keys of a `[[mirror]]` table.
    pub keys: &'static [Key],
    /// Opens a place without connecting yet; fails if the configuration is wrong.
    pub open: for<'a> fn(&'a Place<'a>) -> Opening<'a>,
}

/// A store that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, Error>> + Send + 'a>>;
