//! Setup of the AWS library: built-in certificates, no retries, bounded waits.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_types::base64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{S3Config, S3Keys};
use crate::store::{StoreError, StoreErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than any store keeps an idle connection open.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Timeouts for the instance metadata service, which does not exist outside of cloud instances.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(1);
const INSTANCE_TIMEOUT_ALL: Duration = Duration::from_secs(3);
const INSTANCE_ATTEMPTS: u32 = 2;
/// The region if none is configured; a bucket elsewhere reports its own.
const DEFAULT_REGION: &str = "us-east-1";
/// The largest file of certificates, in bytes.
const CA_FILE_MAX_BYTES: u64 = 4 << 20;

/// A client for `config`, with a credentials provider, but not connected yet.
pub(super) async fn client(config: &S3Config, location: &str) -> Result<Client, StoreError> {
    if let Some(endpoint) = config.endpoint.as_deref() {
        check_endpoint(endpoint).map_err(|why| StoreError::whole(location, StoreErrorKind::Other, why))?;
    }
    let http = http_client(config.ca_file.as_deref())?;
    let providers = ProviderConfig::without_region().with_http_client(http.clone());
    let region = RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().configure(&providers).build())
        .or_else(Region::new(DEFAULT_REGION));
    let region = region.region().await;
    let credentials = match &config.credentials {
        Some(keys) => SharedCredentialsProvider::new(given(keys)),
        None => usual(providers, region.clone()).await,
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        // This driver's own deadlines consider how much data is in flight.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let settings = aws_sdk_s3::config::Builder::from(&loader.load().await).force_path_style(config.path_style);
    Ok(Client::from_conf(settings.build()))
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match rest {
        Some(rest) if rest.contains('@') => Err("the endpoint has no place for a user"),
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', ' ']) => Ok(()),
        _ => Err("the endpoint is not a URL (expected http://host or https://host)"),
    }
}

fn given(keys: &S3Keys) -> Credentials {
    let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
    Credentials::new(&keys.access_key, keys.secret_key.reveal(), token, None, "mirrors.toml")
}

/// The standard credential chain of AWS programs; the library refreshes expiring credentials in time.
async fn usual(providers: ProviderConfig, region: Option<Region>) -> SharedCredentialsProvider {
    let instance = imds::Client::builder()
        .configure(&providers)
        .connect_timeout(INSTANCE_TIMEOUT)
        .read_timeout(INSTANCE_TIMEOUT)
        .operation_timeout(INSTANCE_TIMEOUT_ALL)
        .max_attempts(INSTANCE_ATTEMPTS)
        .build();
    let chain = DefaultCredentialsChain::builder().configure(providers).region(region).imds_client(instance);
    SharedCredentialsProvider::new(chain.build().await)
}

/// An HTTP client that trusts Mozilla's certificates, built in, and those of `ca_file`.
fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient, StoreError> {
    let mut trusted = TrustStore::empty();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        trusted = trusted.with_pem_certificate(pem(root));
    }
    for root in ca_file.map(private_roots).transpose()?.unwrap_or_default() {
        trusted = trusted.with_pem_certificate(pem(&root));
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let context = context.map_err(|e| StoreError::whole("https", StoreErrorKind::Other, e.to_string()))?;
    let ring = Provider::rustls(CryptoMode::Ring);
    let builder = aws_smithy_http_client::Builder::new().tls_provider(ring).tls_context(context);
    Ok(builder.pool_idle_timeout(IDLE_MAX).build_https())
}

/// The certificates in a file, each validated here: the library would panic on an invalid one.
fn private_roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let place = file.display().to_string();
    let wrong = |why: String| StoreError::whole(&place, StoreErrorKind::Other, why);
    let bytes = fs::metadata(file).and_then(|meta| match meta.len() <= CA_FILE_MAX_BYTES {
        true => fs::read(file),
        false => Err(std::io::Error::other(format!("more than {CA_FILE_MAX_BYTES} bytes"))),
    });
    let bytes = bytes.map_err(|e| StoreError::io(&place, &e))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let roots = roots.map_err(|e| wrong(format!("not certificates in PEM: {e}")))?;
    if roots.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    let mut store = rustls::RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(roots)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64::encode(certificate))
}
