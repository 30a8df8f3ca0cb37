//! HTTP connections to mirrors: HTTP/2 if offered, otherwise HTTP/1.1 with keep-alive; IPv6; and a
//! private certificate authority.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{skipped, stderr};
use crate::support::mounting::{Mounted, cannot_mount, run, status};
use crate::support::servers::authority::Authority;
use crate::support::servers::{Daemon, free_port, local, program};

/// nginx for one directory. It logs the protocol and connection of each request.
struct Nginx {
    _daemon: Daemon,
    directory: TempDir,
    address: SocketAddr,
    ca_file: Option<std::path::PathBuf>,
}

impl Nginx {
    /// Starts nginx at `address`, with TLS if `tls` is `ssl` or `ssl http2`. `None` if a program is
    /// missing.
    fn start(root: &Path, address: SocketAddr, tls: &str) -> Option<Self> {
        let Some(nginx) = program("nginx") else {
            skipped("no nginx");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let authority = if tls.is_empty() { None } else { Some(Authority::new(at)) };
        if authority.as_ref().is_some_and(Option::is_none) {
            skipped("no openssl");
            return None;
        }
        let authority = authority.flatten();
        let certificate = authority.as_ref().map_or(String::new(), |a| {
            format!("ssl_certificate {}; ssl_certificate_key {};", a.certificate.display(), a.key.display())
        });
        fs::create_dir(at.join("t")).unwrap();
        let (at_text, root) = (at.display(), root.display());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "daemon off; {user} worker_processes 1; pid {at_text}/pid; error_log {at_text}/error.log;
events {{ worker_connections 256; }}
http {{ log_format how '$connection $server_protocol $status $uri'; access_log {at_text}/how how;
  client_body_temp_path {at_text}/t/b; proxy_temp_path {at_text}/t/p; fastcgi_temp_path {at_text}/t/f;
  uwsgi_temp_path {at_text}/t/u; scgi_temp_path {at_text}/t/s;
  server {{ listen {address} {tls}; {certificate} root {root}; }} }}
"
        );
        let file = at.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(nginx);
        command.arg("-c").arg(&file).arg("-e").arg(at.join("error.log"));
        let daemon = Daemon::start(command, &at.join("log"), address);
        Some(Self { _daemon: daemon, directory, address, ca_file: authority.map(|a| a.ca_file) })
    }

    /// The protocols and number of connections of all successful responses, and the number of these
    /// responses.
    fn seen(&self) -> (HashSet<String>, usize, usize) {
        let log = fs::read_to_string(self.directory.path().join("how")).unwrap();
        let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
        let good = || lines.iter().filter(|words| words[2] == "200");
        let connections: HashSet<&str> = good().map(|words| words[0]).collect();
        (good().map(|words| words[1].to_owned()).collect(), connections.len(), good().count())
    }
}

fn repository() -> (TempDir, Vec<u8>, usize) {
    let home = tempfile::tempdir().unwrap();
    let bytes = image(32 << 20);
    let blocks = Publish::default().write(&home.path().join("a"), &bytes).blocks().len();
    (home, bytes, blocks)
}

#[test]
fn http_2_is_used_where_it_is_offered_and_a_private_authority_is_believed_if_told() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, blocks) = repository();
    for (tls, protocol) in [("ssl http2", "HTTP/2.0"), ("ssl", "HTTP/1.1")] {
        let Some(nginx) = Nginx::start(&home.path().join("a"), local(free_port()), tls) else { return };
        let ca_file = nginx.ca_file.clone().unwrap();
        let source = format!("https://{}/test", nginx.address);
        let arguments = ["--unsigned", "--no-cache", "--ca-file", ca_file.to_str().unwrap()];
        let mounted = Mounted::named(home.path(), &arguments, std::slice::from_ref(&source), "test");
        assert!(fs::read(mounted.file()).unwrap() == bytes);
        mounted.end();
        let (protocols, connections, answers) = nginx.seen();
        println!("{tls}: {answers} answers by {protocols:?} over {connections} connections");
        assert_eq!(protocols, HashSet::from([protocol.to_owned()]));
        assert!(answers >= blocks);
        assert!(connections <= if protocol == "HTTP/2.0" { 4 } else { 20 }, "connections are kept");
        let point = tempfile::tempdir().unwrap();
        let told = ["--unsigned", "--foreground", &source, point.path().to_str().unwrap()];
        let output = run(home.path(), &told);
        let said = stderr(&output);
        println!("without --ca-file: {said}");
        assert!(output.status.code() == Some(4) && said.contains("--ca-file"), "{said}");
    }
    let none = home.path().join("none.pem");
    let refused = |words: &str| {
        let arguments = ["--unsigned", "--ca-file", none.to_str().unwrap(), "https://127.0.0.1:1/test", "/"];
        let arguments = [&["fetch"], &arguments[..4]].concat();
        let output = run(home.path(), &arguments);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(words) && said.contains("none.pem"), "{said}");
    };
    refused("no such file");
    fs::write(&none, "nothing").unwrap();
    refused("no certificate");
}

#[test]
fn a_connection_that_ends_after_some_requests_is_no_failure() {
    if cannot_mount() {
        return;
    }
    let (home, bytes, blocks) = repository();
    let listen = "ssl http2; keepalive_requests 5";
    let Some(nginx) = Nginx::start(&home.path().join("a"), local(free_port()), listen) else { return };
    let ca_file = nginx.ca_file.clone().unwrap();
    let arguments = ["--unsigned", "--no-cache", "--verbose", "--ca-file", ca_file.to_str().unwrap()];
    let mounted = Mounted::named(home.path(), &arguments, &[format!("https://{}/test", nginx.address)], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    let status = status(home.path(), &mounted);
    let said = mounted.end();
    let (protocols, connections, answers) = nginx.seen();
    println!("{answers} answers by {protocols:?} over {connections} connections; {said}");
    assert_eq!(protocols, HashSet::from(["HTTP/2.0".to_owned()]));
    assert!(answers >= blocks && connections >= answers / 5, "connections end");
    assert_eq!(status["mirrors"][0]["failures"], 0, "{status}");
    assert!(!said.contains("failed"), "{said}");
}

#[test]
fn mirrors_are_reached_over_ipv6() {
    if cannot_mount() {
        return;
    }
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skipped("no IPv6 here");
    }
    let (home, bytes, blocks) = repository();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
    let Some(nginx) = Nginx::start(&home.path().join("a"), address, "") else { return };
    let mounted = Mounted::new(home.path(), &["--unsigned", "--no-cache"], &[&format!("http://{address}")], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();
    let (protocols, connections, answers) = nginx.seen();
    println!("{answers} answers by {protocols:?} over {connections} connections to {address}");
    assert!(answers >= blocks && connections <= 20 && protocols == HashSet::from(["HTTP/1.1".to_owned()]));
}
