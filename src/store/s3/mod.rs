//! A mirror in a bucket of Amazon S3 or of a compatible store.
//!
//! The store arbitrates between writers, by conditional writes. This driver retries nothing: that is up to a wrapper.

mod cap;
mod client;
mod deadline;
mod error;
mod headers;
mod list;
mod protocol;
mod read;
mod write;

pub use protocol::PROTOCOL;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;

use self::deadline::Traffic;
use self::error::Failure;
use self::headers::Headers;
use super::{Entry, Exclusive, Fetch, Freshness, Put, Store, StoreError, StoreErrorKind, Swap};
use crate::format::layout::RepoPath;
use crate::store::Secret;

/// Timeout for obtaining credentials.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Location of a bucket and how to access it.
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// Bucket name; the bucket must exist.
    pub bucket: String,
    /// Key prefix of all objects, without trailing slash; may be empty.
    pub prefix: String,
    /// The base URL of a store other than Amazon's.
    pub endpoint: Option<String>,
    /// The region; by default from the environment or the profile.
    pub region: Option<String>,
    /// Use URLs `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
    /// Storage class of blocks.
    pub storage_class: Option<String>,
    /// `Cache-Control` of immutable objects.
    pub cache_control: Option<String>,
    /// `Cache-Control` of mutable objects.
    pub head_cache_control: Option<String>,
    /// Access keys; by default from the standard AWS credential chain.
    pub credentials: Option<S3Keys>,
    /// Certificates (PEM) trusted in addition to the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// Access keys of an account.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// Access key ID.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: Secret,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
}

/// A bucket as a store.
#[derive(Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    client: Client,
    bucket: String,
    /// Prefix of all keys: empty, or with a trailing slash.
    base: String,
    location: String,
    headers: Headers,
    traffic: Traffic,
    /// Whether the store has reported that it does not implement conditional writes.
    unconditional: AtomicBool,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.0.location)
    }
}

impl S3 {
    /// Opens the bucket of `config`. Credentials are looked up at once; the bucket itself is not accessed yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Denied`] without credentials, and any error in the configuration.
    pub async fn open(config: S3Config) -> Result<Self, StoreError> {
        let prefix = config.prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let location = format!("s3://{}{slash}{prefix}", config.bucket);
        let base = format!("{prefix}{slash}");
        let late =
            |_| StoreError::whole(&location, StoreErrorKind::Unreachable, "no credentials could be found in time");
        let client = async {
            let client = client::client(&config, &location).await?;
            // Signing a request without sending it verifies that credentials and an endpoint exist.
            let minute = PresigningConfig::expires_in(Duration::from_secs(60));
            let minute = minute.map_err(|e| StoreError::whole(&location, StoreErrorKind::Other, e.to_string()))?;
            let signed = client.head_object().bucket(&config.bucket).key("images").presigned(minute).await;
            signed.map(|_| client).map_err(|e| Failure::from(e).whole(&location))
        };
        let client = tokio::time::timeout(OPEN_TIMEOUT, client).await.map_err(late)??;
        let headers = Headers {
            cache_control: config.cache_control,
            head_cache_control: config.head_cache_control,
            storage_class: config.storage_class,
        };
        let (bucket, traffic, unconditional) = (config.bucket, Traffic::default(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { client, bucket, base, location, headers, traffic, unconditional })))
    }
}

impl Inner {
    fn key(&self, path: &RepoPath) -> String {
        format!("{}{path}", self.base)
    }

    /// Waits for the response to a request that sends `bytes`.
    async fn answer<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure> {
        let under_way = self.traffic.begin(bytes);
        match tokio::time::timeout(under_way.deadline, request).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::new(StoreErrorKind::Unreachable, "timed out")),
        }
    }
}

#[async_trait]
impl Fetch for S3 {
    async fn get_with(&self, path: &RepoPath, max_bytes: u64, _: Freshness) -> Result<Bytes, StoreError> {
        self.0.get(path, max_bytes).await.map(|(bytes, _)| bytes)
    }

    fn location(&self) -> &str {
        &self.0.location
    }
}

#[async_trait]
impl Store for S3 {
    async fn put_new(&self, path: &RepoPath, bytes: Bytes) -> Result<Put, StoreError> {
        self.0.put_new(path, bytes).await
    }

    async fn put_replace(&self, path: &RepoPath, bytes: Bytes) -> Result<(), StoreError> {
        self.0.put_replace(path, bytes).await
    }

    async fn swap(&self, path: &RepoPath, old: Option<&[u8]>, new: Bytes) -> Result<Swap, StoreError> {
        self.0.swap(path, old, new).await
    }

    async fn size(&self, path: &RepoPath) -> Result<Option<u64>, StoreError> {
        self.0.size(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.0.list(prefix).await
    }

    async fn delete(&self, path: &RepoPath) -> Result<(), StoreError> {
        self.0.delete(path).await
    }

    /// A store that answers "not implemented" to conditional writes is only checked before each write.
    fn exclusive(&self) -> Exclusive {
        if self.0.unconditional.load(Ordering::Relaxed) { Exclusive::CheckThenWrite } else { Exclusive::Claimed }
    }

    fn jobs(&self) -> usize {
        64
    }
}
