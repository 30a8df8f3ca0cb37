//! A private OpenSSH server: SFTP, and a shell for rsync.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, free_port, local, program};

/// A running sshd that accepts one user key, and has one or more host keys.
pub struct Sshd {
    pub host: &'static str,
    pub port: u16,
    /// The user who runs the tests.
    pub user: String,
    /// File of a secret key that the server accepts.
    pub identity: PathBuf,
    /// A known_hosts file with the server's keys.
    pub known_hosts: PathBuf,
    /// A directory for mirrors.
    pub root: PathBuf,
    daemon: Daemon,
    directory: tempfile::TempDir,
}

impl Sshd {
    /// Starts a server. `None` if openssh-server is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&["ed25519"], "Subsystem sftp internal-sftp\n")
    }

    /// Starts a server with host keys of these kinds and additional configuration lines.
    pub fn start_with(host_keys: &[&str], lines: &str) -> Option<Self> {
        let sshd = program("sshd")?;
        program("ssh-keygen")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Other users log in too, and must be able to traverse this directory.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        let at = |name: &str| directory.path().join(name);
        let (port, identity, known_hosts, root) = (free_port(), at("user_key"), at("known_hosts"), at("root"));
        // An empty home directory, so that the user's shell startup files do not run.
        let home = at("home");
        fs::create_dir(&home).expect("a directory");
        make_key(&identity, "ed25519", "");
        fs::copy(identity.with_extension("pub"), at("authorized_keys")).expect("a key");
        fs::create_dir(&root).expect("a directory");
        // An sshd started by root requires this directory for privilege separation.
        let _ = fs::create_dir_all("/run/sshd");
        let mut config = format!(
            "ListenAddress 127.0.0.1:{port}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\nMaxSessions 100\nSetEnv HOME={}\n",
            at("authorized_keys").display(),
            home.display()
        );
        let mut known = String::new();
        for kind in host_keys {
            let key = at(&format!("host_{kind}"));
            make_key(&key, kind, "");
            config += &format!("HostKey {}\n", key.display());
            known += &known_line(port, &key);
        }
        fs::write(&known_hosts, known).expect("a file");
        fs::write(at("sshd_config"), config + lines).expect("a file");
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(at("sshd_config"));
        let daemon = Daemon::start(command, &at("log"), local(port));
        let user = String::from_utf8(Command::new("id").arg("-un").output().expect("id").stdout).expect("a name");
        let user = user.trim().to_owned();
        Some(Self { host: "127.0.0.1", port, user, identity, known_hosts, root, daemon, directory })
    }

    /// Path of a file next to the server's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Accepts another key.
    pub fn authorize(&self, public_key: &Path) {
        let keys = self.path("authorized_keys");
        let both = fs::read_to_string(&keys).expect("keys") + &fs::read_to_string(public_key).expect("a key");
        fs::write(keys, both).expect("a file");
    }

    /// A table for mirrors.toml with a mirror below `root`, written with `sftp` or `rsync`.
    pub fn table(&self, scheme: &str, name: &str) -> String {
        let (user, host, port, base) = (&self.user, self.host, self.port, self.root.join(name));
        format!(
            "[[mirror]]\nname = \"{name}\"\nwrite = \"{scheme}://{user}@{host}:{port}{}\"\nidentity = \"{}\"\n\
             known-hosts = \"{}\"\n",
            base.display(),
            self.identity.display(),
            self.known_hosts.display()
        )
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Number of current connections.
    pub fn connections(&self) -> usize {
        let pid = self.daemon.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("Linux").split_whitespace().count()
    }
}

/// Makes a key pair. The secret key is encrypted if there is a passphrase.
pub fn make_key(file: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-C", "test", "-N", passphrase, "-f"]).arg(file);
    assert!(command.status().expect("ssh-keygen").success(), "a key");
}

/// The known_hosts line for a server on this machine.
pub fn known_line(port: u16, key: &Path) -> String {
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
    format!("[127.0.0.1]:{port} {public}")
}

/// A user of this machine with a password, removed on drop. Requires root.
pub struct SystemUser {
    pub name: String,
}

impl SystemUser {
    pub fn add(password: &str) -> Option<Self> {
        let useradd = program("useradd")?;
        let hash = Command::new("openssl").args(["passwd", "-6", password]).output().ok()?;
        let name = format!("hfl{}", std::process::id());
        let mut command = Command::new(useradd);
        command.args(["-M", "-d", "/", "-s", "/bin/sh", "-p", String::from_utf8(hash.stdout).ok()?.trim(), &name]);
        let added = command.output().is_ok_and(|added| added.status.success());
        added.then_some(Self { name })
    }
}

impl Drop for SystemUser {
    fn drop(&mut self) {
        // Forced, because a session of the user may not have ended yet.
        let _ = program("userdel").map(|userdel| Command::new(userdel).args(["-f", &self.name]).output());
    }
}
