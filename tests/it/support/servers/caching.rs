//! nginx as a caching proxy in front of a web server. It caches every answer for an hour; a request with
//! Cache-Control bypasses the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Daemon, free_port, local, program};

/// The proxy and the server behind it.
pub struct CachingProxy {
    _daemon: Daemon,
    port: u16,
    directory: tempfile::TempDir,
}

impl CachingProxy {
    /// Starts a proxy for the files in `root`. `None` if nginx is missing.
    pub fn start(root: &Path) -> Option<Self> {
        let nginx = program("nginx")?;
        let (directory, port, origin) = (tempfile::tempdir().expect("a directory"), free_port(), free_port());
        let at = directory.path().display();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "daemon off; {user} worker_processes 1; pid {at}/pid; error_log {at}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format asked '$upstream_cache_status $request_uri';
  access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
  fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
  proxy_cache_path {at}/cache levels=1 keys_zone=kept:1m;
  server {{ listen 127.0.0.1:{port}; access_log {at}/access.log asked;
    location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache kept; proxy_cache_valid 200 404 1h;
      proxy_cache_bypass $http_cache_control; }} }}
  server {{ listen 127.0.0.1:{origin}; root {}; }}
}}
",
            root.display()
        );
        fs::write(directory.path().join("nginx.conf"), text).expect("a configuration");
        let mut command = Command::new(nginx);
        command.arg("-c").arg(directory.path().join("nginx.conf")).arg("-e").arg(directory.path().join("error.log"));
        let daemon = Daemon::start(command, &directory.path().join("log"), local(port));
        Some(Self { _daemon: daemon, port, directory })
    }

    /// Its base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cache status of each answer for a path so far: `MISS`, `HIT` or `BYPASS`.
    pub fn answers(&self, path: &str) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        let of_path =
            log.lines().filter_map(|line| line.split_once(' ')).filter(|(_, asked)| *asked == format!("/{path}"));
        of_path.map(|(how, _)| how.to_owned()).collect()
    }
}
