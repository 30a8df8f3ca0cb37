//! vsftpd: an FTP server without MLSD, and with the same message for all refusals.
//!
//! Debian's package conflicts with proftpd's, so the test script's own servers are searched first.
//! Anonymous users are served with the permissions of the user who runs the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::authority::Authority;
use super::{Daemon, free_port, local, program};

/// A vsftpd that lets anonymous users write.
pub struct VsFtpd {
    pub daemon: Daemon,
    pub port: u16,
    /// The served directory.
    pub root: PathBuf,
    /// The authority of its certificate, with TLS.
    pub ca_file: Option<PathBuf>,
    _directory: TempDir,
}

impl VsFtpd {
    /// Starts a server. `tls` is `Some(true)` for implicit TLS, `Some(false)` for explicit TLS. `None`
    /// if a program is missing.
    pub fn start(tls: Option<bool>, more: &str) -> Option<Self> {
        Self::start_by(&[], tls, more)
    }

    /// Starts a server that runs as nobody, so files can be unreadable for it. Requires root.
    pub fn start_as_nobody() -> Option<Self> {
        rustix::process::geteuid().is_root().then_some(())?;
        Self::start_by(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], None, "")
    }

    fn start_by(starter: &[&str], tls: Option<bool>, more: &str) -> Option<Self> {
        let vsftpd = program("vsftpd")?;
        let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let authority = match tls {
            Some(_) => Some(Authority::new(directory.path())?),
            None => None,
        };
        let secure = authority.as_ref().map_or(String::new(), |authority| {
            format!(
                "ssl_enable=YES\nrsa_cert_file={}\nrsa_private_key_file={}\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\n\
                 require_ssl_reuse=YES\nimplicit_ssl={}\n",
                authority.certificate.display(),
                authority.key.display(),
                if tls == Some(true) { "YES" } else { "NO" }
            )
        });
        let configuration = directory.path().join("vsftpd.conf");
        let text = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nrun_as_launching_user=YES\n\
             anonymous_enable=YES\nanon_root={}\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n\
             anon_other_write_enable=YES\nanon_world_readable_only=NO\nanon_umask=022\nwrite_enable=YES\n\
             local_enable=NO\nseccomp_sandbox=NO\nxferlog_enable=NO\n{secure}{more}\n",
            root.display()
        );
        fs::write(&configuration, text).expect("a file");
        let words = starter.iter().map(Into::into).chain([vsftpd, configuration]);
        let words: Vec<PathBuf> = words.collect();
        if !starter.is_empty() {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
            for own in [&root, &words[words.len() - 1]] {
                chown(own, Some(65534), Some(65534)).expect("an owner");
            }
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let daemon = Daemon::start(command, &directory.path().join("log"), local(port));
        let ca_file = authority.map(|authority| authority.ca_file);
        Some(Self { daemon, port, root, ca_file, _directory: directory })
    }
}
