//! Login: with the available keys, then with the password.

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, load_secret_key};

use super::SftpConfig;
use crate::store::Secret;
use crate::store::{StoreError, StoreErrorKind};

/// Maximum number of agent keys tried: servers disconnect after a few.
const AGENT_KEYS_MAX: usize = 4;
/// Maximum number of rounds in keyboard-interactive authentication.
const QUESTIONS_MAX: usize = 8;

/// Why the login failed.
type Refusal = (StoreErrorKind, String);

struct Login<'a, H: Handler> {
    ssh: &'a mut Handle<H>,
    user: &'a str,
    /// Methods tried, for the error message.
    tried: Vec<String>,
}

/// Logs in as `user`.
pub async fn login<H: Handler>(ssh: &mut Handle<H>, user: &str, config: &SftpConfig) -> Result<(), Refusal> {
    let mut login = Login { ssh, user, tried: Vec::new() };
    match login.all(config).await {
        Ok(true) => Ok(()),
        Ok(false) if login.ssh.is_closed() && login.tried.len() < 3 => {
            Err((StoreErrorKind::Unreachable, "the server ended the connection while logging in".into()))
        }
        Ok(false) if login.tried.is_empty() => {
            Err((StoreErrorKind::Denied, "nothing to log in with: no key, no ssh agent and no password".into()))
        }
        Ok(false) => {
            let tried = login.tried.join(", ");
            Err((StoreErrorKind::Denied, format!("the server does not let {user} in (tried: {tried})")))
        }
        Err(Refused::Key(why)) => Err((StoreErrorKind::Denied, why)),
        Err(Refused::Ssh(e)) => Err((StoreErrorKind::Unreachable, format!("logging in: {e}"))),
    }
}

enum Refused {
    /// A configured key cannot be used.
    Key(String),
    Ssh(russh::Error),
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl<H: Handler> Login<'_, H> {
    async fn all(&mut self, config: &SftpConfig) -> Result<bool, Refused> {
        let mut password = config.password.as_ref();
        if let Some(file) = &config.identity {
            let (key, used) = key_file(file, password).map_err(Refused::Key)?;
            if self.key(file, key).await? {
                return Ok(true);
            }
            // Do not send the key's passphrase to the server.
            password = password.filter(|_| !used);
        } else if self.usual_keys().await? || self.agent().await? {
            return Ok(true);
        }
        match password {
            Some(password) => self.password(password).await,
            None => Ok(false),
        }
    }

    /// The keys that ssh tries by default, if present and not encrypted.
    async fn usual_keys(&mut self) -> Result<bool, Refused> {
        let Some(directory) = std::env::home_dir().map(|home| home.join(".ssh")) else { return Ok(false) };
        for name in ["id_ed25519", "id_ecdsa", "id_rsa"] {
            let file = directory.join(name);
            if let Ok((key, _)) = key_file(&file, None)
                && self.key(&file, key).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn key(&mut self, file: &Path, key: PrivateKey) -> Result<bool, Refused> {
        let hash = self.rsa_hash(key.algorithm().is_rsa()).await?;
        self.tried.push(format!("key {}", file.display()));
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        Ok(self.ssh.authenticate_publickey(self.user, key).await?.success())
    }

    /// RSA keys always sign with SHA-2, even if the server announces only SHA-1.
    async fn rsa_hash(&self, rsa: bool) -> Result<Option<HashAlg>, Refused> {
        if !rsa {
            return Ok(None);
        }
        let best = self.ssh.best_supported_rsa_hash().await?;
        Ok(Some(best.flatten().unwrap_or(HashAlg::Sha512)))
    }

    async fn agent(&mut self) -> Result<bool, Refused> {
        let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(false) };
        let Ok(identities) = agent.request_identities().await else { return Ok(false) };
        for identity in identities.into_iter().take(AGENT_KEYS_MAX) {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let hash = self.rsa_hash(key.algorithm().is_rsa()).await?;
            self.tried.push(format!("the agent's key {}", comment.escape_default()));
            let answer = self.ssh.authenticate_publickey_with(self.user, key, hash, &mut agent).await;
            if answer.is_ok_and(|answer| answer.success()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn password(&mut self, password: &Secret) -> Result<bool, Refused> {
        self.tried.push("the password".into());
        let answer = self.ssh.authenticate_password(self.user, password.reveal()).await?;
        let AuthResult::Failure { remaining_methods, .. } = answer else { return Ok(true) };
        if !remaining_methods.contains(&russh::MethodKind::KeyboardInteractive) {
            return Ok(false);
        }
        self.tried.push("the password as an answer".into());
        let mut answer = self.ssh.authenticate_keyboard_interactive_start(self.user, None).await?;
        for _ in 0..QUESTIONS_MAX {
            let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = answer else { break };
            // Send the password only to prompts that do not echo the answer.
            let answers = prompts.iter().map(|p| if p.echo { String::new() } else { password.reveal().to_owned() });
            answer = self.ssh.authenticate_keyboard_interactive_respond(answers.collect()).await?;
        }
        Ok(matches!(answer, KeyboardInteractiveAuthResponse::Success))
    }
}

/// The secret key in `file`, and whether the password was used to decrypt it.
fn key_file(file: &Path, password: Option<&Secret>) -> Result<(PrivateKey, bool), String> {
    let fail = |why: String| format!("the secret key {}: {why}", file.display());
    match (load_secret_key(file, None), password) {
        (Ok(key), _) => Ok((key, false)),
        (Err(russh::keys::Error::KeyIsEncrypted), Some(password)) => {
            let key = load_secret_key(file, Some(password.reveal()));
            key.map(|key| (key, true)).map_err(|_| fail("the password does not open it".into()))
        }
        (Err(russh::keys::Error::KeyIsEncrypted), None) => {
            Err(fail("is encrypted and no password is given to open it".into()))
        }
        (Err(russh::keys::Error::IO(e)), _) => Err(fail(StoreError::io("", &e).why().to_owned())),
        (Err(e), _) => Err(fail(e.to_string().to_lowercase())),
    }
}
