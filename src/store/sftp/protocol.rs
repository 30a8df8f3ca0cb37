//! Configuration of this driver in mirrors.toml.

use std::sync::Arc;

use super::{Sftp, SftpConfig};
use crate::error::Error;
use crate::store::Store;
use crate::store::key::{IDENTITY, KNOWN_HOSTS, PASSWORD_ENV, PASSWORD_FILE};
use crate::store::place::Place;
use crate::store::protocol::Protocol;

/// The driver's URL schemes and keys in mirrors.toml.
pub const PROTOCOL: Protocol = Protocol {
    schemes: &["sftp"],
    keys: &[IDENTITY, KNOWN_HOSTS, PASSWORD_ENV, PASSWORD_FILE],
    open: |place| Box::pin(async move { open(place) }),
};

fn open(place: &Place<'_>) -> Result<Arc<dyn Store>, Error> {
    let config = SftpConfig {
        host: place.remote.host.clone(),
        port: place.remote.port,
        user: place.remote.user.clone(),
        path: place.absolute_path(),
        identity: place.file(IDENTITY),
        password: place.password()?,
        known_hosts: place.file(KNOWN_HOSTS),
    };
    Ok(Arc::new(Sftp::open(config).map_err(|e| place.usage(e))?))
}
