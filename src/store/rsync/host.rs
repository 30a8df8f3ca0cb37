//! The host in arguments for rsync and ssh: safe against misinterpretation by them or a shell, or refused.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::RsyncConfig;
use super::private::Private;
use crate::store::{StoreError, StoreErrorKind};

/// Number of rsync processes that run at once, over one connection.
pub(super) const TURNS: usize = 2;

/// The remote host and its shared state.
#[derive(Debug)]
pub(super) struct Host {
    /// URL for messages.
    pub(super) location: String,
    /// The base as an rsync argument: `host:path/`.
    pub(super) base: String,
    /// The remote shell command, for `RSYNC_RSH`.
    pub(super) shell: String,
    /// Directory of object bodies and the control socket.
    pub(super) private: Private,
    /// Set once the host has refused a second concurrent rsync.
    pub(super) one_by_one: AtomicBool,
    /// Lock held by the only rsync in that case.
    pub(super) only: tokio::sync::Mutex<()>,
    turns: Semaphore,
}

impl Host {
    pub(super) fn new(config: &RsyncConfig) -> Result<Self, StoreError> {
        let location = location(config);
        let fail = |why: String| StoreError::whole(&location, StoreErrorKind::Other, why);
        for program in ["rsync", "ssh"] {
            if !installed(program) {
                return Err(fail(format!("the program {program} is not installed on this machine")));
            }
        }
        let base = base(config).map_err(fail)?;
        let private = Private::new(config.host.clone()).map_err(|e| fail(format!("no private directory: {e}")))?;
        let shell = shell(config, &private).map_err(fail)?;
        let (one_by_one, only, turns) = (AtomicBool::new(false), tokio::sync::Mutex::default(), Semaphore::new(TURNS));
        Ok(Self { location, base, shell, private, one_by_one, only, turns })
    }

    /// Waits for a slot to run an rsync.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }
}

fn location(config: &RsyncConfig) -> String {
    let user = config.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
    let port = config.port.map(|port| format!(":{port}")).unwrap_or_default();
    let slash = if config.path.is_empty() || config.path.starts_with('/') { "" } else { "/" };
    format!("rsync://{user}{host}{port}{slash}{}", config.path.trim_end_matches('/'))
}

/// True if a directory of `PATH` has a file of this name.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The base as an rsync argument. The part after the colon is parsed by a shell on the host.
fn base(config: &RsyncConfig) -> Result<String, String> {
    let (host, path) = (&config.host, &config.path);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err("the host is neither a name nor an address".into());
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let plain = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "/._-+@,=:%".contains(c);
    let below_home = path.strip_prefix("~/").or((path.is_empty() || path == "~").then_some(""));
    let rest = below_home.unwrap_or(path).trim_matches('/');
    if !rest.chars().all(|c| plain(c) && !c.is_control()) || rest.split('/').any(|c| c == "..") {
        return Err("the path has spaces, `..`, or characters that a shell on the host would read".into());
    }
    match below_home {
        Some(_) if rest.is_empty() => Ok(format!("{host}:./")),
        Some(_) => Ok(format!("{host}:./{rest}/")),
        None if path.starts_with('/') && rest.is_empty() => Ok(format!("{host}:/")),
        None if path.starts_with('/') => Ok(format!("{host}:/{rest}/")),
        None => Err("the path neither begins with `/` nor with `~/`".into()),
    }
}

/// The ssh command, in the quoting that rsync removes.
fn shell(config: &RsyncConfig, private: &Private) -> Result<String, String> {
    let mut words: Vec<String> = vec!["ssh".into(), "-T".into(), "-x".into()];
    if let Some(port) = config.port {
        words.extend(["-p".into(), port.to_string()]);
    }
    if let Some(user) = &config.user {
        if user.is_empty() || user.starts_with('-') || !user.chars().all(literal) || user.contains(' ') {
            return Err("the user's name has characters that ssh would read".into());
        }
        words.extend(["-l".into(), user.clone()]);
    }
    let fixed = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "Compression=no",
        "LogLevel=ERROR",
        "ControlMaster=auto",
        "ControlPersist=30",
    ];
    words.extend(fixed.iter().flat_map(|option| ["-o".into(), (*option).to_owned()]));
    let mut file = |option: &str, path: &Path| -> Result<(), String> {
        words.extend(["-o".into(), format!("{option}=\"{}\"", quotable(path)?)]);
        Ok(())
    };
    file("ControlPath", &private.socket())?;
    if let Some(known_hosts) = &config.known_hosts {
        file("UserKnownHostsFile", known_hosts)?;
    }
    if let Some(identity) = &config.identity {
        std::fs::File::open(identity)
            .map_err(|e| format!("the identity {} cannot be read: {e}", identity.display()))?;
        file("IdentityFile", identity)?;
        words.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
    }
    Ok(words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "))
}

/// True unless it is a control character, a quote or a character that ssh expands.
fn literal(c: char) -> bool {
    !c.is_control() && !matches!(c, '\'' | '"' | '\\' | '%' | '$')
}

/// The absolute form of a path, if ssh takes every character literally.
fn quotable(path: &Path) -> Result<String, String> {
    let wrong = || format!("the path {} has quotes, or characters that ssh would read", path.display());
    let whole = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let text = OsStr::to_str(whole.as_os_str()).ok_or_else(wrong)?;
    if text.chars().all(literal) { Ok(text.to_owned()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str, path: &str) -> RsyncConfig {
        RsyncConfig { host: host.into(), path: path.into(), ..RsyncConfig::default() }
    }

    #[test]
    fn a_base_is_one_word_for_every_shell() {
        let good = [("h", "/a/b", "h:/a/b/"), ("h", "~/a/", "h:./a/"), ("h", "", "h:./"), ("::1", "/", "[::1]:/")];
        for (host, path, expected) in good {
            assert_eq!(base(&config(host, path)).as_deref(), Ok(expected));
        }
        for (host, path) in [("-h", "/a"), ("h h", "/a"), ("", "/a"), ("h", "a"), ("h", "/a b"), ("h", "/$x")] {
            assert!(base(&config(host, path)).is_err(), "{host}:{path}");
        }
        for path in ["/a/../b", "/a;b", "/a'b", "/a\nb", "/*", "~x/a"] {
            assert!(base(&config("h", path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_location_names_the_place() {
        let all = RsyncConfig { user: Some("u".into()), port: Some(2222), ..config("::1", "/srv/hfl/") };
        assert_eq!(location(&all), "rsync://u@[::1]:2222/srv/hfl");
        assert_eq!(location(&config("h", "~/x")), "rsync://h/~/x");
        assert_eq!(location(&config("h", "")), "rsync://h");
    }
}
