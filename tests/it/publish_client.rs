//! The client that is shipped with the images.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Lab, Random, skipped, stderr};

/// A static hfl-mount, as tests/all.sh builds it.
fn static_client() -> Option<PathBuf> {
    let client = std::env::var_os("HFL_STATIC_CLIENT").map(PathBuf::from);
    if client.is_none() {
        skipped("HFL_STATIC_CLIENT names no static client (tests/all.sh builds one)");
    }
    client
}

/// A lab that has published `os` together with a client.
fn shipped() -> Option<Lab> {
    let client = static_client()?;
    let lab = Lab::with_mirrors(&["public"]);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    fs::copy(client, lab.path("the-client")).unwrap();
    lab.write("mirrors.toml", format!("[publish]\nclient = [\"the-client\"]\n{toml}"));
    lab.write("os.img", Random(1).bytes(100_000));
    lab.publish(&["os.img"]);
    Some(lab)
}

#[test]
fn the_static_client_is_small() {
    let Some(client) = static_client() else { return };
    let bytes = fs::metadata(&client).unwrap().len();
    println!("static hfl-mount: {bytes} bytes");
    assert!(bytes <= 9_000_000, "{bytes} bytes");
    let runs = Command::new(client).arg("-V").output().unwrap();
    assert!(runs.status.success());
}

#[test]
fn a_client_is_published_once_signed_and_can_be_fetched_and_checked() {
    let Some(lab) = shipped() else { return };
    let shipped: Vec<String> = lab.files("public").into_iter().filter(|f| f.starts_with("client/")).collect();
    let expected = format!("client/hfl-mount-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    assert_eq!(shipped, [expected.clone(), format!("{expected}.minisig")]);
    assert!(fs::read(lab.path("public").join(&expected)).unwrap() == fs::read(lab.path("the-client")).unwrap());
    let log = lab.ok(&["log", "public/os"]);
    assert!(log.contains("curl -fO") && log.contains("minisign -Vm"), "{log}");
    let again = lab.publish(&["os.img"]);
    assert_eq!(again["outcome"], "no-change");
    let mut minisign = Command::new("minisign");
    minisign.arg("-Vm").arg(lab.path("public").join(&expected)).arg("-p").arg(lab.path("home/.config/hfl/keys/os.pub"));
    match minisign.output() {
        Err(e) => skipped(&format!("minisign cannot be run: {e}")),
        Ok(output) => assert!(output.status.success(), "{}", stderr(&output)),
    }
}

/// Two images of one repository, each with a key of its own, and one client.
#[test]
fn the_signature_of_a_client_that_is_there_already_stays() {
    let Some(lab) = shipped() else { return };
    let signature = lab.files("public").into_iter().find(|f| f.starts_with("client/") && f.ends_with(".minisig"));
    let signature = lab.path("public").join(signature.unwrap());
    let first = fs::read(&signature).unwrap();
    let expected = lab.publish(&["os.img", "--name", "other", "--dry-run"]);
    let report = lab.publish(&["os.img", "--name", "other"]);
    assert_ne!(lab.trust("os"), lab.trust("other"), "two keys");
    assert!(fs::read(&signature).unwrap() == first);
    assert_eq!(report["mirrors"][0]["files"], expected["mirrors"][0]["files"]);
    lab.ok(&["verify", "--to", "mirrors.toml"]);
    // One that is no signature is replaced.
    fs::write(&signature, "damaged").unwrap();
    lab.publish(&["os.img", "--name", "third"]);
    assert!(fs::read_to_string(&signature).unwrap().starts_with("untrusted comment"));
}

#[test]
fn what_is_no_static_client_is_refused() {
    let lab = Lab::with_mirrors(&["public"]);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("os.img", Random(1).bytes(100_000));
    let refuse = |client: &str, words: &str| {
        lab.write("mirrors.toml", format!("[publish]\nclient = [\"{client}\"]\n{toml}"));
        let text = lab.fails(1, &["publish", "os.img", "--to", "mirrors.toml"]);
        assert!(text.contains(words), "{text}");
    };
    refuse("os.img", "not a Linux program");
    refuse("missing", "no such file");
    fs::copy(env!("CARGO_BIN_EXE_hfl-mount"), lab.path("dynamic")).unwrap();
    refuse("dynamic", "needs shared libraries");
    assert!(!lab.path("public/os.head").exists());
}
