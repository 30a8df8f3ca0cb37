//! proftpd: an FTP server that requires the TLS session of the control connection to be reused, and
//! gives the reasons of its refusals.
//!
//! Debian: proftpd-core, and proftpd-mod-crypto for TLS. Started by root it serves as nobody, otherwise
//! as the user who runs the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::authority::Authority;
use super::{Daemon, free_port, local, program};

pub const USER: &str = "hfl";
pub const PASSWORD: &str = "secret-of-proftpd";
const MODULES: &str = "/usr/lib/proftpd";

/// A proftpd with one user.
pub struct ProFtpd {
    pub daemon: Daemon,
    pub port: u16,
    /// The served directory.
    pub root: PathBuf,
    /// The authority of its certificate, with TLS.
    pub ca_file: Option<PathBuf>,
    _directory: TempDir,
}

impl ProFtpd {
    /// Starts a server; `more` are additional configuration lines. `None` if it or its TLS module is
    /// missing.
    pub fn start(tls: bool, more: &str) -> Option<Self> {
        let (proftpd, openssl) = (program("proftpd")?, program("openssl")?);
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let has_tls = Path::new(MODULES).join("mod_tls.so").is_file();
        let authority = if tls { Some(Authority::new(directory.path()).filter(|_| has_tls)?) } else { None };
        let (own, port) = (directory.path(), free_port());
        fs::set_permissions(own, fs::Permissions::from_mode(0o755)).expect("permissions");
        let who = Who::find();
        chown(&root, Some(who.uid), Some(who.gid)).expect("an owner");
        let hash = Command::new(openssl).args(["passwd", "-6", PASSWORD]).output().expect("openssl runs").stdout;
        let hash = String::from_utf8_lossy(&hash).trim().to_owned();
        let passwd = own.join("passwd");
        fs::write(&passwd, format!("{USER}:{hash}:{}:{}::{}:/bin/false\n", who.uid, who.gid, root.display())).unwrap();
        fs::set_permissions(&passwd, fs::Permissions::from_mode(0o640)).expect("permissions");
        let configuration = own.join("proftpd.conf");
        fs::write(&configuration, text(own, port, &who, authority.as_ref(), more)).expect("a file");
        let mut command = Command::new(proftpd);
        command.args(["-n", "-c"]).arg(&configuration);
        let daemon = Daemon::start(command, &own.join("log"), local(port));
        let ca_file = authority.map(|authority| authority.ca_file);
        Some(Self { daemon, port, root, ca_file, _directory: directory })
    }

    /// URL for mirrors.toml of a directory on it.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.ca_file.is_some() { "ftps" } else { "ftp" };
        format!("{scheme}://{USER}@127.0.0.1:{}/{path}", self.port)
    }

    /// A table for mirrors.toml; needs [`ProFtpd::environment`].
    pub fn table(&self, name: &str) -> String {
        let url = self.url(name);
        let ca = self.ca_file.as_ref().map_or(String::new(), |file| format!("ca-file = \"{}\"\n", file.display()));
        format!("[[mirror]]\nname = \"{name}\"\nwrite = \"{url}\"\npassword-env = \"HFL_TEST_FTP_PASSWORD\"\n{ca}")
    }

    /// The variable that the table names, and its value.
    pub fn environment(&self) -> (&'static str, &'static str) {
        ("HFL_TEST_FTP_PASSWORD", PASSWORD)
    }

    /// Processes of its clients.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.daemon.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

/// The owner of the files that the server writes.
struct Who {
    uid: u32,
    gid: u32,
    user: String,
    group: String,
}

impl Who {
    fn find() -> Self {
        let id = |arguments: &[&str]| {
            let output = Command::new("id").args(arguments).output().expect("id runs").stdout;
            String::from_utf8_lossy(&output).trim().to_owned()
        };
        let nobody = if id(&["-u"]) == "0" { vec!["nobody"] } else { Vec::new() };
        let one = |option: &str| id(&[vec![option], nobody.clone()].concat());
        let number = |option: &str| one(option).parse().expect("a number");
        Self { uid: number("-u"), gid: number("-g"), user: one("-un"), group: one("-gn") }
    }
}

fn text(own: &Path, port: u16, who: &Who, authority: Option<&Authority>, more: &str) -> String {
    let (own, Who { user, group, .. }) = (own.display(), who);
    let tls = authority.map_or(String::new(), |authority| {
        format!(
            "LoadModule mod_tls.c\nTLSEngine on\nTLSRequired on\nTLSRSACertificateFile {}\nTLSRSACertificateKeyFile {}\n",
            authority.certificate.display(),
            authority.key.display()
        )
    });
    format!(
        "ServerName hfl\nServerType standalone\nDefaultAddress 127.0.0.1\nSocketBindTight on\nPort {port}\n\
         User {user}\nGroup {group}\nPidFile {own}/pid\nScoreboardFile {own}/score\nDelayEngine off\nWtmpLog off\n\
         TransferLog none\nSystemLog {own}/system.log\nAuthUserFile {own}/passwd\nAuthOrder mod_auth_file.c\n\
         RequireValidShell off\nUseReverseDNS off\nAllowOverwrite on\nModulePath {MODULES}\n{tls}{more}\n"
    )
}
