//! Configuration of this driver in mirrors.toml.

use std::sync::Arc;

use super::{S3, S3Config, S3Keys};
use crate::error::Error;
use crate::store::Store;
use crate::store::key::{CA_FILE, Key, KeyKind};
use crate::store::place::Place;
use crate::store::protocol::Protocol;

const ENDPOINT: Key = Key::text("endpoint");
const REGION: Key = Key::text("region");
const PATH_STYLE: Key = Key { name: "path-style", kind: KeyKind::Flag };
const STORAGE_CLASS: Key = Key::text("storage-class");
const CACHE_CONTROL: Key = Key::text("cache-control");
const HEAD_CACHE_CONTROL: Key = Key::text("head-cache-control");
const ACCESS_KEY_ENV: Key = Key::variable("access-key-env");
const SECRET_KEY_ENV: Key = Key::variable("secret-key-env");
const SESSION_TOKEN_ENV: Key = Key::variable("session-token-env");

/// The driver's URL schemes and keys in mirrors.toml.
pub const PROTOCOL: Protocol = Protocol {
    schemes: &["s3"],
    keys: &[
        ENDPOINT,
        REGION,
        PATH_STYLE,
        STORAGE_CLASS,
        CACHE_CONTROL,
        HEAD_CACHE_CONTROL,
        ACCESS_KEY_ENV,
        SECRET_KEY_ENV,
        SESSION_TOKEN_ENV,
        CA_FILE,
    ],
    open: |place| Box::pin(open(place)),
};

async fn open(place: &Place<'_>) -> Result<Arc<dyn Store>, Error> {
    let credentials = match (place.variable(ACCESS_KEY_ENV)?, place.variable(SECRET_KEY_ENV)?) {
        (Some(access_key), Some(secret_key)) => {
            let access_key = access_key.reveal().to_owned();
            Some(S3Keys { access_key, secret_key, session_token: place.variable(SESSION_TOKEN_ENV)? })
        }
        (None, None) => None,
        _ => return Err(place.usage("access-key-env and secret-key-env go together")),
    };
    let endpoint = place.text(ENDPOINT);
    let config = S3Config {
        bucket: place.remote.host.clone(),
        prefix: place.remote.path.clone(),
        path_style: place.flag(PATH_STYLE).unwrap_or(endpoint.is_some()),
        endpoint,
        region: place.text(REGION),
        storage_class: place.text(STORAGE_CLASS),
        cache_control: place.text(CACHE_CONTROL),
        head_cache_control: place.text(HEAD_CACHE_CONTROL),
        credentials,
        ca_file: place.file(CA_FILE),
    };
    Ok(Arc::new(S3::open(config).await.map_err(|e| place.usage(e))?))
}
