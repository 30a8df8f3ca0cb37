//! Configuration of this driver in mirrors.toml.

use std::sync::Arc;

use super::{Ftp, FtpConfig, Tls};
use crate::error::Error;
use crate::store::Store;
use crate::store::key::{CA_FILE, PASSWORD_ENV, PASSWORD_FILE};
use crate::store::place::Place;
use crate::store::protocol::Protocol;

/// The port for implicit TLS.
const IMPLICIT_TLS_PORT: u16 = 990;

/// The driver's URL schemes and keys in mirrors.toml.
pub const PROTOCOL: Protocol = Protocol {
    schemes: &["ftp", "ftps"],
    keys: &[PASSWORD_ENV, PASSWORD_FILE, CA_FILE],
    open: |place| Box::pin(async move { open(place) }),
};

fn open(place: &Place<'_>) -> Result<Arc<dyn Store>, Error> {
    let tls = match (place.remote.scheme, place.remote.port) {
        ("ftp", _) => Tls::None,
        (_, Some(IMPLICIT_TLS_PORT)) => Tls::Implicit,
        _ => Tls::Explicit,
    };
    let config = FtpConfig {
        host: place.remote.host.clone(),
        port: place.remote.port,
        user: place.remote.user.clone(),
        path: place.remote.path.clone(),
        password: place.password()?,
        tls,
        ca_file: place.file(CA_FILE),
    };
    Ok(Arc::new(Ftp::open(config).map_err(|e| place.usage(e))?))
}
