//! SFTP host key verification and user authentication.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use hfl::store::Secret;
use hfl::store::sftp::{Sftp, SftpConfig};
use hfl::store::{Fetch as _, Store as _, StoreError, StoreErrorKind};

use super::{NO_SSHD, body, config, path};
use crate::support::lab::skipped;
use crate::support::servers::sshd::{Sshd, SystemUser, known_line, make_key};

const PASSWORD: &str = "an uncommon 7-word";

async fn refused(config: SftpConfig) -> StoreError {
    let store = Sftp::open(config).expect("a store");
    let error = store.put_new(&path("a"), body(1, 10)).await.expect_err("refused");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(store.location()), "{error}");
    println!("{error}");
    error
}

async fn let_in(config: SftpConfig) {
    let store = Sftp::open(config).expect("a store");
    assert_eq!(store.size(&path("nothing")).await.expect("let in"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_hosts_are_believed() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let other = server.path("other");
    make_key(&other, "ed25519", "");
    let with = |name: &str, text: &str| {
        fs::write(server.path(name), text).expect("a file");
        SftpConfig { known_hosts: Some(server.path(name)), ..config(&server, "x") }
    };
    let right = known_line(server.port, &server.path("host_ed25519"));
    let wrong = known_line(server.port, &other);
    let unknown = refused(with("none", "")).await.to_string();
    for word in ["not known", "SHA256:", "ssh-keyscan -p", "none"] {
        assert!(unknown.contains(word), "{word}: {unknown}");
    }
    assert_eq!(fs::read_to_string(server.path("none")).expect("a file"), "", "nothing is added by itself");
    let missing = SftpConfig { known_hosts: Some(server.path("no/such/file")), ..config(&server, "x") };
    assert!(refused(missing).await.to_string().contains("not known"));
    let changed = refused(with("wrong", &wrong)).await.to_string();
    assert!(changed.contains("is not the one in"), "{changed}");
    let revoked =
        refused(with("revoked", &format!("{right}@revoked * {}", &right[right.find("ssh-").unwrap()..]))).await;
    assert!(revoked.to_string().contains("revoked"), "{revoked}");
    let_in(with("both", &format!("# a comment\n\nnonsense\n{wrong}{right}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_several_keys_shows_the_known_one() {
    let subsystem = "Subsystem sftp internal-sftp\n";
    let Some(server) = Sshd::start_with(&["ed25519", "ecdsa", "rsa"], subsystem) else { return skipped(NO_SSHD) };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let known = server.path(&format!("known_{kind}"));
        fs::write(&known, known_line(server.port, &server.path(&format!("host_{kind}")))).expect("a file");
        let_in(SftpConfig { known_hosts: Some(known), ..config(&server, "x") }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_let_in() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let key = |name: &str| SftpConfig { identity: Some(server.path(name)), ..config(&server, "x") };
    make_key(&server.path("stranger"), "ed25519", "");
    let error = refused(key("stranger")).await.to_string();
    assert!(error.contains("stranger") && error.contains("does not let"), "{error}");
    assert!(refused(key("missing")).await.to_string().contains("missing: no such file"));
    for kind in ["rsa", "ecdsa"] {
        make_key(&server.path(kind), kind, "");
        server.authorize(&server.path(kind).with_extension("pub"));
        let_in(key(kind)).await;
    }
    make_key(&server.path("locked"), "ed25519", PASSWORD);
    server.authorize(&server.path("locked.pub"));
    assert!(refused(key("locked")).await.to_string().contains("encrypted"));
    let wrong = SftpConfig { password: Some(Secret::new("wrong")), ..key("locked") };
    assert!(refused(wrong).await.to_string().contains("does not open it"));
    let_in(SftpConfig { password: Some(Secret::new(PASSWORD)), ..key("locked") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_let_in() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let Some(user) = SystemUser::add(PASSWORD) else { return skipped("no user can be added (not root)") };
    let home = server.root.join("home");
    fs::create_dir(&home).expect("a directory");
    assert!(Command::new("chown").arg(&user.name).arg(&home).status().is_ok_and(|s| s.success()));
    make_key(&server.path("stranger"), "ed25519", "");
    let with = |password: &str| SftpConfig {
        user: Some(user.name.clone()),
        identity: Some(server.path("stranger")),
        password: Some(Secret::new(password)),
        ..config(&server, "home")
    };
    let store = Sftp::open(with(PASSWORD)).expect("a store");
    store.put_new(&path("a/b"), body(1, 100)).await.expect("let in");
    assert_eq!(fs::read(home.join("a/b")).expect("it is there"), body(1, 100));
    let denied = Sftp::open(SftpConfig { path: "/etc/hfl".into(), ..with(PASSWORD) }).expect("a store");
    let error = denied.put_new(&path("a"), body(1, 10)).await.expect_err("not allowed there");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    println!("{error}");
    let error = refused(with("wrong secret")).await.to_string();
    assert!(error.contains("the password") && !error.contains("wrong secret"), "{error}");
    assert!(!format!("{:?}", with(PASSWORD)).contains(PASSWORD));
}

/// The keys and known hosts of a home directory, and the ssh agent, in a child process with another home.
#[tokio::test(flavor = "multi_thread")]
async fn what_ssh_uses_is_used() {
    let Some(server) = Sshd::start() else { return skipped(NO_SSHD) };
    let ssh = server.path("home/.ssh");
    fs::create_dir_all(&ssh).expect("a directory");
    fs::copy(&server.known_hosts, ssh.join("known_hosts")).expect("a file");
    let child = |agent: &str| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "store::sftp::login::in_another_home", "--nocapture"]);
        command.env("HFL_TEST_PORT", server.port.to_string()).env("HOME", server.path("home"));
        command.env("USER", &server.user).env("SSH_AUTH_SOCK", agent);
        let output = command.output().expect("this program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let nothing = child("/nowhere");
    assert!(nothing.contains("nothing to log in with"), "{nothing}");
    let socket = server.path("agent").display().to_string();
    let mut agent =
        Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().expect("an agent");
    while !server.path("agent").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let empty = child(&socket);
    make_key(&server.path("rsa"), "rsa", "");
    server.authorize(&server.path("rsa.pub"));
    let add = |key| Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).output();
    assert!(add(server.path("rsa")).expect("ssh-add").status.success());
    let with_agent = child(&socket);
    agent.kill().expect("an agent");
    agent.wait().expect("an agent");
    assert!(empty.contains("nothing to log in with"), "{empty}");
    assert!(with_agent.contains("let in"), "{with_agent}");
    fs::copy(&server.identity, ssh.join("id_ed25519")).expect("a file");
    let with_file = child("/nowhere");
    assert!(with_file.contains("let in"), "{with_file}");
}

/// The child process of the test above. Does nothing when run on its own.
#[tokio::test(flavor = "multi_thread")]
async fn in_another_home() {
    let Some(port) = std::env::var("HFL_TEST_PORT").ok().and_then(|port| port.parse().ok()) else { return };
    let config = SftpConfig { host: "127.0.0.1".into(), port: Some(port), path: "~/x".into(), ..SftpConfig::default() };
    let store = Sftp::open(config).expect("a store");
    match store.size(&path("a")).await {
        Ok(_) => println!("let in"),
        Err(e) => println!("{e}"),
    }
}
