//! nginx as a plain web server: a publicly readable directory, and an access log.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, free_port, local, program};

/// A mirror as its clients see it.
pub struct WebHost {
    daemon: Option<Daemon>,
    port: u16,
    directory: tempfile::TempDir,
}

impl WebHost {
    /// Starts a host for `root` on its own port. `None` if nginx is missing.
    pub fn start(root: &Path) -> Option<Self> {
        let mut host = Self { daemon: None, port: free_port(), directory: tempfile::tempdir().expect("a directory") };
        let at = host.directory.path().display();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "daemon off; {user} worker_processes 1; pid {at}/pid; error_log {at}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format read '$status $body_bytes_sent $request_uri';
  access_log {at}/access.log read; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
  fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
  server {{ listen 127.0.0.1:{}; root {}; }}
}}
",
            host.port,
            root.display()
        );
        fs::write(host.file("nginx.conf"), text).expect("a configuration");
        host.resume().then_some(host)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it again after a stop. False if nginx is missing.
    pub fn resume(&mut self) -> bool {
        let Some(nginx) = program("nginx") else { return false };
        let mut command = Command::new(nginx);
        command.arg("-c").arg(self.file("nginx.conf")).arg("-e").arg(self.file("error.log"));
        self.daemon = Some(Daemon::start(command, &self.file("log"), local(self.port)));
        true
    }

    /// Stops the server; connections are refused from now on.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The blocks requested so far.
    pub fn block_names(&self) -> BTreeSet<String> {
        let log = fs::read_to_string(self.file("access.log")).unwrap_or_default();
        let name = |line: &str| Some(line.split_once(" /blocks/")?.1.to_owned());
        log.lines().filter_map(name).collect()
    }

    /// The number of requests for blocks so far, and the bytes sent for them.
    pub fn blocks(&self) -> (u64, u64) {
        self.sent(" /blocks/")
    }

    /// The number of requests for deltas so far, and the bytes sent for them.
    pub fn deltas(&self) -> (u64, u64) {
        self.sent(" /deltas/")
    }

    fn sent(&self, below: &str) -> (u64, u64) {
        let log = fs::read_to_string(self.file("access.log")).unwrap_or_default();
        let objects = log.lines().filter(|line| line.contains(below));
        let bytes = |line: &str| line.split(' ').nth(1).and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or_default();
        objects.fold((0, 0), |(count, sum), line| (count + 1, sum + bytes(line)))
    }
}
