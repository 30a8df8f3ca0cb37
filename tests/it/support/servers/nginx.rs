//! nginx with its two WebDAV modules (nginx-light, libnginx-mod-http-dav-ext): writable with a password
//! on one port, publicly readable on another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::authority::Authority;
use super::webdav::{PASSWORD, USER, WebDavServer};
use super::{Daemon, free_port, local, password_file, program};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";

/// Differences from the default server.
pub struct Options {
    /// Root of the tree, if it is not below the server's own directory.
    pub root: Option<PathBuf>,
    /// `client_max_body_size`.
    pub body_max: &'static str,
    /// TLS, with a certificate from a private authority.
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { root: None, body_max: "64m", tls: false }
    }
}

pub fn start() -> Option<WebDavServer> {
    start_with(Options::default())
}

/// `None` if nginx or a module is missing.
pub fn start_with(options: Options) -> Option<WebDavServer> {
    let nginx = program("nginx").filter(|_| Path::new(MODULE).is_file())?;
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let root = options.root.unwrap_or_else(|| at.join("root"));
    fs::create_dir_all(&root).expect("a root");
    fs::create_dir(at.join("t")).expect("a directory");
    password_file(&at.join("passwords"), USER, PASSWORD)?;
    let ca_file = if options.tls { Some(Authority::new(at)?.ca_file) } else { None };
    let (port, public) = (free_port(), free_port());
    let tls = match options.tls {
        true => format!(" ssl; ssl_certificate {0}/certificate.pem; ssl_certificate_key {0}/key.pem", at.display()),
        false => String::new(),
    };
    let listen = format!("127.0.0.1:{port}{tls}");
    let text = configuration(at, &root, options.body_max, &listen, public);
    let file = at.join("nginx.conf");
    fs::write(&file, text).expect("a configuration");
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-e").arg(at.join("error.log"));
    let daemon = Daemon::start(command, &at.join("log"), local(port));
    let scheme = if options.tls { "https" } else { "http" };
    let (url, public_url) = (format!("{scheme}://127.0.0.1:{port}/"), format!("http://127.0.0.1:{public}/"));
    Some(WebDavServer { daemon, url, public_url, root, user: USER, password: PASSWORD, ca_file, directory })
}

/// Two workers, so that requests run concurrently.
fn configuration(at: &Path, root: &Path, body_max: &str, listen: &str, public: u16) -> String {
    let (at, root) = (at.display(), root.display());
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "load_module {MODULE};
daemon off; {user} worker_processes 2; pid {at}/pid; error_log {at}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size {body_max}; client_body_temp_path {at}/t/b; proxy_temp_path {at}/t/p;
  fastcgi_temp_path {at}/t/f; uwsgi_temp_path {at}/t/u; scgi_temp_path {at}/t/s; dav_ext_lock_zone zone=hfl:1m;
  server {{ listen {listen}; root {root};
    location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
      dav_ext_lock zone=hfl; create_full_put_path on; dav_access user:rw group:r all:r;
      auth_basic x; auth_basic_user_file {at}/passwords; }} }}
  server {{ listen 127.0.0.1:{public}; root {root}; }}
}}
"
    )
}
