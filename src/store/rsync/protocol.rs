//! Configuration of this driver in mirrors.toml.

use std::sync::Arc;

use super::{Rsync, RsyncConfig};
use crate::error::Error;
use crate::store::Store;
use crate::store::key::{IDENTITY, KNOWN_HOSTS};
use crate::store::place::Place;
use crate::store::protocol::Protocol;

/// The driver's URL schemes and keys in mirrors.toml.
pub const PROTOCOL: Protocol = Protocol {
    schemes: &["rsync", "rsync+ssh"],
    keys: &[IDENTITY, KNOWN_HOSTS],
    open: |place| Box::pin(async move { open(place) }),
};

fn open(place: &Place<'_>) -> Result<Arc<dyn Store>, Error> {
    let config = RsyncConfig {
        host: place.remote.host.clone(),
        port: place.remote.port,
        user: place.remote.user.clone(),
        path: place.absolute_path(),
        identity: place.file(IDENTITY),
        known_hosts: place.file(KNOWN_HOSTS),
    };
    Ok(Arc::new(Rsync::open(config).map_err(|e| place.usage(e))?))
}
