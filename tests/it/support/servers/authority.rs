//! A certificate authority for one test and one server certificate, made by the openssl program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program;

/// Files of a certificate authority that is not in any system's trust store.
pub struct Authority {
    /// The authority's certificate, for clients.
    pub ca_file: PathBuf,
    /// The certificate for localhost and 127.0.0.1 (RSA, not an authority itself).
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority in `directory`. `None` without openssl.
    pub fn new(directory: &Path) -> Option<Self> {
        let openssl = program("openssl")?;
        let file = |name: &str| directory.join(name);
        let run = |line: &str| {
            let mut command = Command::new(&openssl);
            let done = command.args(line.split(' ')).current_dir(directory).output().expect("openssl runs");
            assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
        };
        fs::write(file("leaf.ext"), "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hfl-test-authority -keyout ca.key -out ca.pem");
        run("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out leaf.csr");
        run(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out certificate.pem",
        );
        Some(Self { ca_file: file("ca.pem"), certificate: file("certificate.pem"), key: file("key.pem") })
    }
}
