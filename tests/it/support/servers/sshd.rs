//! An OpenSSH server of one's own: SFTP inside, and a shell for rsync.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, free_port, local, program};

/// A running sshd that knows one user key and has one host key, or more.
pub struct Sshd {
    pub host: &'static str,
    pub port: u16,
    /// Who runs the tests.
    pub user: String,
    /// The file of a secret key that the server lets in.
    pub identity: PathBuf,
    /// A file that has the server's keys.
    pub known_hosts: PathBuf,
    /// A directory for mirrors.
    pub root: PathBuf,
    daemon: Daemon,
    directory: tempfile::TempDir,
}

impl Sshd {
    /// A server, or `None` where openssh-server is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&["ed25519"], "Subsystem sftp internal-sftp\n")
    }

    /// A server with host keys of these kinds and more lines in its configuration.
    pub fn start_with(host_keys: &[&str], lines: &str) -> Option<Self> {
        let sshd = program("sshd")?;
        program("ssh-keygen")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Other users log in too, and have to come through here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        let at = |name: &str| directory.path().join(name);
        let (port, identity, known_hosts, root) = (free_port(), at("user_key"), at("known_hosts"), at("root"));
        // What the user's shell does when it starts is not to be tested.
        let home = at("home");
        fs::create_dir(&home).expect("a directory");
        make_key(&identity, "ed25519", "");
        fs::copy(identity.with_extension("pub"), at("authorized_keys")).expect("a key");
        fs::create_dir(&root).expect("a directory");
        // Where sshd is started by root, it wants this directory for its helpers.
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

    /// A path beside the server's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets another key in.
    pub fn authorize(&self, public_key: &Path) {
        let keys = self.path("authorized_keys");
        let both = fs::read_to_string(&keys).expect("keys") + &fs::read_to_string(public_key).expect("a key");
        fs::write(keys, both).expect("a file");
    }

    /// The table of mirrors.toml for a mirror below `root`, written with `sftp` or `rsync`.
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

    /// What the server has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How many connections it serves at this moment.
    pub fn connections(&self) -> usize {
        let pid = self.daemon.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("Linux").split_whitespace().count()
    }
}

/// Makes a key pair, its secret half encrypted where there is a passphrase.
pub fn make_key(file: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-C", "test", "-N", passphrase, "-f"]).arg(file);
    assert!(command.status().expect("ssh-keygen").success(), "a key");
}

/// The line of known_hosts for a server on this machine.
pub fn known_line(port: u16, key: &Path) -> String {
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
    format!("[127.0.0.1]:{port} {public}")
}

/// A user of this machine with a password, removed with this; only root can have one made.
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
        // By force, as a session of the user may still be ending.
        let _ = program("userdel").map(|userdel| Command::new(userdel).args(["-f", &self.name]).output());
    }
}
