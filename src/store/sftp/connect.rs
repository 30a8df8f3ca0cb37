//! Establishes an SFTP session: TCP, host key check, login, channel.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{Config, Handle, Handler, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use super::known_hosts::{HostKeys, Verdict, refusal};
use super::login::login;
use super::session::Session;
use super::{Place, SftpConfig};
use crate::store::{StoreError, StoreErrorKind};

const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// For everything between the TCP connection and the first request: the user may have to confirm the use of a key.
const GREETING_WAIT: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(15);
const PORT: u16 = 22;
/// Receive window of one channel, in bytes.
const WINDOW_BYTES: u32 = 8 << 20;
/// Fastest first; all of them are secure.
const CIPHERS: [cipher::Name; 4] =
    [cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];

/// Opens a session on a new connection.
pub async fn connect(config: &SftpConfig, place: &Place) -> Result<Session, StoreError> {
    let whole = |kind: StoreErrorKind, why: String| StoreError::whole(&place.location, kind, why);
    let unreachable = |why: String| whole(StoreErrorKind::Unreachable, why);
    let (host, port) = (config.host.as_str(), config.port.unwrap_or(PORT));
    let stream = match timeout(CONNECT_WAIT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(unreachable(format!("no connection: {}", plain(&e)))),
        Err(_) => return Err(unreachable(format!("no connection within {} s", CONNECT_WAIT.as_secs()))),
    };
    let _ = stream.set_nodelay(true);
    let greeting = async {
        let mut ssh = greet(config, port, stream).await.map_err(|(kind, why)| whole(kind, why))?;
        login(&mut ssh, &place.user, config).await.map_err(|(kind, why)| whole(kind, why))?;
        let channel = subsystem(&ssh).await.map_err(|failure| failure.whole(&place.location))?;
        let session = Session::begin(channel.into_stream(), Box::new(ssh)).await;
        session.map_err(|failure| failure.whole(&place.location))
    };
    match timeout(GREETING_WAIT, greeting).await {
        Ok(session) => session,
        Err(_) => Err(unreachable(format!("no session within {} s", GREETING_WAIT.as_secs()))),
    }
}

/// Opens the ssh connection to a host whose key is known.
async fn greet(
    config: &SftpConfig,
    port: u16,
    stream: TcpStream,
) -> Result<Handle<HostCheck>, (StoreErrorKind, String)> {
    let home_file = || std::env::home_dir().map(|home| home.join(".ssh/known_hosts"));
    let none = || (StoreErrorKind::Denied, "no home directory to find known_hosts in".to_owned());
    let file = config.known_hosts.clone().or_else(home_file).ok_or_else(none)?;
    let text = match tokio::fs::read(&file).await {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err((StoreErrorKind::Denied, format!("{}: {}", file.display(), plain(&e)))),
    };
    let keys = HostKeys::find(&String::from_utf8_lossy(&text), &config.host, port);
    let ssh = Arc::new(ssh_config(&keys));
    let check = HostCheck { keys, file, host: config.host.clone(), port };
    russh::client::connect_stream(ssh, stream, check).await.map_err(|ended| match ended {
        Ended::Host(why) => (StoreErrorKind::Denied, why),
        Ended::Ssh(e) => (StoreErrorKind::Unreachable, format!("no ssh connection: {}", sentence(&e))),
    })
}

fn ssh_config(keys: &HostKeys) -> Config {
    let preferred = Preferred {
        key: keys.prefer(&Preferred::DEFAULT.key).into(),
        cipher: CIPHERS.to_vec().into(),
        ..Preferred::DEFAULT
    };
    Config {
        preferred,
        window_size: WINDOW_BYTES,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    }
}

async fn subsystem(ssh: &Handle<HostCheck>) -> Result<Channel<Msg>, Failure> {
    let lost = |e: russh::Error| Failure::Lost(format!("no SFTP session: {}", sentence(&e)));
    let mut channel = ssh.channel_open_session().await.map_err(lost)?;
    channel.request_subsystem(true, "sftp").await.map_err(lost)?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(channel),
            Some(ChannelMsg::Failure) => return Err(Failure::Nonsense("the server offers no SFTP".into())),
            Some(_) => {}
            None => return Err(Failure::Lost("the server ended the connection".into())),
        }
    }
}

/// Checks the server's host key.
struct HostCheck {
    keys: HostKeys,
    file: PathBuf,
    host: String,
    port: u16,
}

/// Why the ssh connection was not established.
#[derive(Debug)]
enum Ended {
    Host(String),
    Ssh(russh::Error),
}

impl From<russh::Error> for Ended {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl Handler for HostCheck {
    type Error = Ended;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Ended> {
        let key = shown.public_key();
        match self.keys.verdict(&key) {
            Verdict::Known => Ok(true),
            verdict => Err(Ended::Host(refusal(verdict, &key, &self.file, &self.host, self.port))),
        }
    }
}

fn sentence(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(e) => plain(e),
        russh::Error::Disconnect | russh::Error::HUP => "the server ended the connection".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// The system's error message without its number.
fn plain(error: &std::io::Error) -> String {
    StoreError::io("", error).why().to_owned()
}
