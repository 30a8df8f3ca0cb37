//! Configuration of this driver in mirrors.toml.

use std::sync::Arc;

use super::{WebDav, WebDavConfig};
use crate::error::Error;
use crate::store::Store;
use crate::store::key::{CA_FILE, Key, KeyKind, PASSWORD_ENV, PASSWORD_FILE};
use crate::store::place::Place;
use crate::store::protocol::Protocol;

/// Additional headers of every request.
const HEADERS: Key = Key { name: "headers", kind: KeyKind::Texts };

/// The driver's URL schemes and keys in mirrors.toml.
pub const PROTOCOL: Protocol = Protocol {
    schemes: &["webdav+http", "webdav+https"],
    keys: &[PASSWORD_ENV, PASSWORD_FILE, CA_FILE, HEADERS],
    open: |place| Box::pin(async move { open(place) }),
};

fn open(place: &Place<'_>) -> Result<Arc<dyn Store>, Error> {
    let config = WebDavConfig {
        url: place.url(place.remote.scheme.trim_start_matches("webdav+")),
        user: place.remote.user.clone(),
        password: place.password()?,
        ca_file: place.file(CA_FILE),
        headers: place.texts(HEADERS).into_iter().collect(),
    };
    Ok(Arc::new(WebDav::open(config).map_err(|e| place.usage(e))?))
}
