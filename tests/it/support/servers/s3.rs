//! Shared by the S3 servers of the tests: the bucket, the keys, and tables for mirrors.toml.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use hfl::store::Secret;
use hfl::store::s3::{S3, S3Config, S3Keys};

use super::Daemon;

pub const BUCKET: &str = "hfl-images";
pub const ACCESS_KEY: &str = "hflkey";
pub const SECRET_KEY: &str = "hflsecret123";
/// Names of the environment variables in [`Server::table`].
const ACCESS_KEY_ENV: &str = "HFL_TEST_ACCESS_KEY";
const SECRET_KEY_ENV: &str = "HFL_TEST_SECRET_KEY";

/// A server with an empty bucket, stopped on drop.
pub struct Server {
    daemon: Daemon,
    _directory: tempfile::TempDir,
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    /// Whether the bucket is publicly readable.
    public: bool,
    /// The certificate of the authority that signed the server's certificate.
    ca_file: Option<PathBuf>,
}

impl Server {
    /// Waits for the started server and creates the bucket.
    pub(super) fn new(
        daemon: Daemon,
        directory: tempfile::TempDir,
        port: u16,
        public: bool,
        ca_file: Option<PathBuf>,
    ) -> Self {
        let scheme = if ca_file.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let server = Self { daemon, _directory: directory, endpoint, public, ca_file };
        let client = server.client();
        // On a thread of its own, so that tests with and without a runtime can call this.
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(make_bucket(&client, public));
        });
        made.join().expect("a bucket");
        server
    }

    /// A client of the AWS SDK, for operations that the driver lacks.
    pub fn client(&self) -> Client {
        client(&self.endpoint, self.ca_file.as_deref())
    }

    /// Configuration of a store in the bucket, below `prefix`.
    pub fn config(&self, prefix: &str) -> S3Config {
        S3Config { ca_file: self.ca_file.clone(), ..config(&self.endpoint, prefix) }
    }

    pub async fn open(&self, prefix: &str) -> S3 {
        S3::open(self.config(prefix)).await.expect("a store")
    }

    /// A table for mirrors.toml that writes below `name` in the bucket.
    pub fn table(&self, name: &str) -> String {
        let read = match self.public {
            true => format!("read = \"{}/{BUCKET}/{name}/\"\n", self.endpoint),
            false => "read-back = false\n".to_owned(),
        };
        let ca_file = self.ca_file.as_ref().map(|file| format!("ca-file = \"{}\"\n", file.display()));
        format!(
            "[[mirror]]\nname = \"{name}\"\nwrite = \"s3://{BUCKET}/{name}\"\n{read}endpoint = \"{}\"\nregion = \"us-east-1\"\n\
             access-key-env = \"{ACCESS_KEY_ENV}\"\nsecret-key-env = \"{SECRET_KEY_ENV}\"\n{}",
            self.endpoint,
            ca_file.unwrap_or_default()
        )
    }

    /// The environment variables that such a table needs.
    pub fn environment(&self) -> [(&'static str, &'static str); 2] {
        [(ACCESS_KEY_ENV, ACCESS_KEY), (SECRET_KEY_ENV, SECRET_KEY)]
    }

    /// Kills the server, as a power cut would.
    pub fn kill(self) {
        drop(self.daemon);
    }
}

/// Configuration of a store at any endpoint.
pub fn config(endpoint: &str, prefix: &str) -> S3Config {
    let keys = S3Keys { access_key: ACCESS_KEY.into(), secret_key: Secret::new(SECRET_KEY), session_token: None };
    S3Config {
        bucket: BUCKET.into(),
        prefix: prefix.into(),
        endpoint: Some(endpoint.into()),
        region: Some("us-east-1".into()),
        path_style: true,
        credentials: Some(keys),
        ..S3Config::default()
    }
}

fn client(endpoint: &str, ca_file: Option<&Path>) -> Client {
    let mut trusted = TrustStore::empty();
    if let Some(ca_file) = ca_file {
        trusted.add_pem_certificate(std::fs::read(ca_file).expect("a certificate"));
    }
    let trusted = TlsContext::builder().with_trust_store(trusted).build().expect("certificates");
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::rustls(CryptoMode::Ring));
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http.tls_context(trusted).build_https())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// Creates the bucket once the server is ready.
async fn make_bucket(client: &Client, public: bool) {
    let started = Instant::now();
    loop {
        match client.create_bucket().bucket(BUCKET).send().await {
            Ok(_) => break,
            Err(e) if started.elapsed() > Duration::from_secs(30) => panic!("{e:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    if public {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{BUCKET}/*"}}]}}"#
        );
        client.put_bucket_policy().bucket(BUCKET).policy(policy).send().await.expect("everybody may read");
    }
    // The first object may have to wait until the server has a volume.
    while let Err(e) = client.put_object().bucket(BUCKET).key("ready").send().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{e:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.delete_object().bucket(BUCKET).key("ready").send().await.expect("an empty bucket");
}
