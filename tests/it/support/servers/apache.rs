//! Apache with mod_dav (apache2-bin): writable with a password on one port, publicly readable on
//! another.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::webdav::{PASSWORD, USER, WebDavServer};
use super::{Daemon, free_port, local, password_file, program};

const MODULES: &str = "/usr/lib/apache2/modules";
const NEEDED: [&str; 8] =
    ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs"];

pub fn start() -> Option<WebDavServer> {
    start_at(None)
}

/// Starts Apache with its tree at `root`, by default below the server's own directory. `None` if Apache
/// or a module is missing.
pub fn start_at(root: Option<PathBuf>) -> Option<WebDavServer> {
    let module = |name: &str| format!("{MODULES}/mod_{name}.so");
    let apache = program("apache2").filter(|_| NEEDED.iter().all(|name| Path::new(&module(name)).is_file()))?;
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let root = root.unwrap_or_else(|| at.join("root"));
    for made in [&root, &at.join("lock")] {
        fs::create_dir_all(made).expect("a directory");
    }
    password_file(&at.join("passwords"), USER, PASSWORD)?;
    let (port, public) = (free_port(), free_port());
    let load: String = NEEDED.iter().map(|name| format!("LoadModule {name}_module {}\n", module(name))).collect();
    let file = at.join("httpd.conf");
    fs::write(&file, load + &configuration(at, &root, port, public)).expect("a configuration");
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("a directory that Apache's user may enter");
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").args(["-R", "www-data"]).arg(at).arg(&root).status();
        assert!(owned.expect("chown").success());
    }
    let mut command = Command::new(apache);
    command.arg("-f").arg(&file).arg("-DFOREGROUND");
    let daemon = Daemon::start(command, &at.join("log"), local(port));
    let (url, public_url) = (format!("http://127.0.0.1:{port}/"), format!("http://127.0.0.1:{public}/"));
    Some(WebDavServer { daemon, url, public_url, root, user: USER, password: PASSWORD, ca_file: None, directory })
}

fn configuration(at: &Path, root: &Path, port: u16, public: u16) -> String {
    let (at, root) = (at.display(), root.display());
    let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data" } else { "" };
    format!(
        "{user}
ServerRoot {at}
ServerName localhost
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{public}
PidFile {at}/pid
ErrorLog {at}/error.log
DavLockDB {at}/lock/db
DocumentRoot {root}
<VirtualHost 127.0.0.1:{port}>
  DocumentRoot {root}
  <Directory {root}>
    Dav On
    AuthType Basic
    AuthName x
    AuthUserFile {at}/passwords
    Require valid-user
  </Directory>
</VirtualHost>
<VirtualHost 127.0.0.1:{public}>
  DocumentRoot {root}
  <Directory {root}>
    Require all granted
  </Directory>
</VirtualHost>
"
    )
}
