//! Secrets of mirrors: where they come from, and that they are never printed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::lab::{Lab, Random, stderr};

fn lab(table: &str) -> Lab {
    let lab = Lab::new();
    lab.write("mirrors.toml", format!("[[mirror]]\nname = \"far\"\n{table}"));
    lab.write("os.img", Random(1).bytes(100_000));
    lab
}

fn publish(lab: &Lab, code: i32) -> String {
    lab.fails(code, &["publish", "os.img", "--to", "mirrors.toml"])
}

#[cfg(feature = "webdav")]
#[test]
fn a_variable_that_is_not_set() {
    let lab = lab("write = \"webdav+http://u@127.0.0.1:9/x/\"\npassword-env = \"HFL_TEST_UNSET\"\n");
    let said = publish(&lab, 2);
    assert!(said.contains("mirror far: password-env: the environment variable HFL_TEST_UNSET is not set"), "{said}");
    assert!(said.contains("hint: export HFL_TEST_UNSET=..."), "{said}");
}

#[cfg(feature = "ftp")]
#[test]
fn a_password_that_others_can_read() {
    let lab = lab("write = \"ftp://u@127.0.0.1:9/x\"\npassword-file = \"password\"\n");
    let file = lab.write("password", "open sesame\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = publish(&lab, 1);
    assert!(said.contains("others can read this password") && said.contains("hint: chmod 600"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let said = publish(&lab, 4);
    assert!(said.contains("mirror far: ftp://u@127.0.0.1:9/x"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

#[cfg(feature = "s3")]
#[test]
fn keys_come_in_pairs() {
    let lab = lab("write = \"s3://bucket/x\"\naccess-key-env = \"HOME\"\n");
    assert!(publish(&lab, 2).contains("access-key-env and secret-key-env go together"));
}

#[cfg(feature = "webdav")]
#[test]
fn headers_may_be_secret() {
    let lab = lab("write = \"webdav+http://127.0.0.1:9/x/\"\nheaders = { Authorization = \"Bearer sesame\" }\n");
    let output = lab.run(&["publish", "os.img", "--to", "mirrors.toml", "--json"]);
    let said = stderr(&output);
    assert!(said.contains("others can read its headers; chmod 600 mirrors.toml"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
    fs::set_permissions(lab.path("mirrors.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!publish(&lab, 4).contains("chmod"));
}
