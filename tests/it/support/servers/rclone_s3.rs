//! rclone's S3 server: starts quickly, and ignores conditional requests.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::authority::Authority;
use super::s3::{ACCESS_KEY, SECRET_KEY, Server};
use super::{Daemon, free_port, local, program};

/// An `rclone serve s3` with a bucket. `None` if rclone is not installed.
pub fn start() -> Option<Server> {
    serve(&program("rclone")?, tempfile::tempdir().expect("a temporary directory"), &[], None)
}

/// The same over TLS, with a certificate from a private authority. `None` if rclone or openssl is not
/// installed.
pub fn start_tls() -> Option<Server> {
    let rclone = program("rclone")?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Authority { ca_file, certificate, key } = Authority::new(directory.path())?;
    let tls = ["--cert".into(), certificate.into_os_string(), "--key".into(), key.into_os_string()];
    serve(&rclone, directory, &tls, Some(ca_file))
}

fn serve(rclone: &Path, directory: TempDir, more: &[OsString], ca_file: Option<PathBuf>) -> Option<Server> {
    let buckets = directory.path().join("buckets");
    fs::create_dir(&buckets).expect("a directory");
    let port = free_port();
    let mut command = Command::new(rclone);
    command.args(["serve", "s3"]).arg(&buckets).args(["--config", "/dev/null", "--addr"]).arg(local(port).to_string());
    command.arg("--auth-key").arg(format!("{ACCESS_KEY},{SECRET_KEY}")).args(more);
    let daemon = Daemon::start(command, &directory.path().join("log"), local(port));
    Some(Server::new(daemon, directory, port, false, ca_file))
}
