//! TLS for FTP servers: version 1.2, with data connections that resume the session of their control connection.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use suppaftp::tokio::{AsyncRustlsStream, AsyncTlsConnector};
use suppaftp::{FtpError, FtpResult};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::store::{StoreError, StoreErrorKind};

/// Size of a control connection's session cache; all its data connections resume the same session.
const SESSIONS: usize = 4;

/// Trusted certificate authorities: Mozilla's, and optionally a private one.
#[derive(Debug, Clone)]
pub(super) struct Authorities(Arc<ClientConfig>);

impl Authorities {
    /// Mozilla's authorities, and those in `ca_file` (PEM).
    ///
    /// # Errors
    /// When the file cannot be read or has no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, StoreError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        if let Some(file) = ca_file {
            add(&mut roots, file)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // TLS 1.3 tickets are single-use, and a server usually issues two. proftpd requires every data connection to
        // resume its control connection's session, so it would refuse the third transfer.
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]);
        let config = config.map_err(|e| StoreError::whole("ftps", StoreErrorKind::Other, e.to_string()))?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }

    /// A connector for one control connection and its data connections. It has its own session cache: proftpd refuses a
    /// data connection that resumes the session of another control connection.
    pub fn connector(&self) -> Connector {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Connector(TlsConnector::from(Arc::new(config)))
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), StoreError> {
    let place = file.display().to_string();
    let pem = std::fs::read(file).map_err(|e| StoreError::io(&place, &e))?;
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let wrong = |why: String| StoreError::whole(&place, StoreErrorKind::Other, why);
        let certificate = certificate.map_err(|e| wrong(format!("not a certificate in PEM form: {e}")))?;
        roots.add(certificate).map_err(|e| wrong(format!("not a usable certificate: {e}")))?;
        added += 1;
    }
    match added {
        0 => Err(StoreError::whole(&place, StoreErrorKind::Other, "holds no certificate in PEM form")),
        _ => Ok(()),
    }
}

/// Sets up TLS on a control connection, then on each of its data connections.
pub(super) struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

#[async_trait]
impl AsyncTlsConnector for Connector {
    type Stream = AsyncRustlsStream;

    async fn connect(&self, domain: &str, stream: TcpStream) -> FtpResult<AsyncRustlsStream> {
        let name = ServerName::try_from(domain.to_owned()).map_err(|e| FtpError::SecureError(e.to_string()))?;
        match self.0.connect(name, stream).await {
            Ok(stream) => Ok(stream.into()),
            // TLS errors have the kind `InvalidData`; all others are errors of the connection.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(FtpError::SecureError(e.to_string())),
            Err(e) => Err(FtpError::ConnectionError(e)),
        }
    }
}
