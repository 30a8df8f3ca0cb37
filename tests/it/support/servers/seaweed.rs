//! SeaweedFS: an S3 server that supports all conditional requests, with a publicly readable bucket.

use std::fs;
use std::process::Command;

use super::s3::{ACCESS_KEY, SECRET_KEY, Server};
use super::{Daemon, free_ports, local, program};

/// A SeaweedFS with a bucket. `None` if it is not installed.
pub fn start() -> Option<Server> {
    let program = program("weed")?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let base = directory.path();
    fs::create_dir(base.join("data")).expect("a directory");
    let identity = format!(
        r#"{{"identities":[{{"name":"admin","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    fs::write(base.join("s3.json"), identity).expect("a file");
    // Each service also uses the port 10,000 above its own.
    let port = free_ports(4);
    let mut command = Command::new(program);
    command.current_dir(base).arg("server").args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
    command.arg(format!("-dir={}", base.join("data").display()));
    command.arg(format!("-master.port={}", port + 1)).arg(format!("-volume.port={}", port + 2));
    command.arg(format!("-filer.port={}", port + 3)).args(["-master.volumeSizeLimitMB=64", "-volume.max=50"]);
    command.arg("-s3").arg(format!("-s3.port={port}")).args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.arg(format!("-s3.config={}", base.join("s3.json").display()));
    let daemon = Daemon::start(command, &base.join("log"), local(port));
    Some(Server::new(daemon, directory, port, true, None))
}
