//! `rclone serve webdav`: a third implementation of the protocol.

use std::fs;
use std::process::Command;

use super::webdav::{PASSWORD, USER, WebDavServer};
use super::{Daemon, free_port, local, program};

pub fn start() -> Option<WebDavServer> {
    let rclone = program("rclone")?;
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("root");
    fs::create_dir(&root).expect("a root");
    let port = free_port();
    let mut command = Command::new(rclone);
    command.args(["serve", "webdav"]).arg(&root).args(["--addr", &format!("127.0.0.1:{port}")]);
    command.args(["--config", "/dev/null"]).env("RCLONE_USER", USER).env("RCLONE_PASS", PASSWORD);
    let daemon = Daemon::start(command, &directory.path().join("log"), local(port));
    let (url, public_url) = (format!("http://127.0.0.1:{port}/"), String::new());
    Some(WebDavServer { daemon, url, public_url, root, user: USER, password: PASSWORD, ca_file: None, directory })
}
