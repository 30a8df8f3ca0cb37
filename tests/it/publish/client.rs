//! The client that is published with the images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hfl::format::digest::Sha256;
use hfl::format::layout::RepoPath;

use crate::support::boot_fixture::elf;
use crate::support::lab::{Lab, Random, code, skipped, stderr};
use crate::support::mounting::WebServer;
use crate::support::servers;

/// A static hfl-mount, as built by tests/all.sh.
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
    let expected = client_path(env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, &lab.path("the-client"));
    let signature = signatures(&shipped, &expected).pop().unwrap();
    assert_eq!(shipped, [expected.clone(), signature.clone()]);
    assert!(fs::read(lab.path("public").join(&expected)).unwrap() == fs::read(lab.path("the-client")).unwrap());
    let server = WebServer::new(&lab.path("public"));
    for place in [format!("{}/os", server.url()), "public/os".to_owned()] {
        let log = lab.ok(&["log", &place]);
        assert_eq!(log.contains(&format!("curl -fO {}/{expected} && ", server.url())), place.contains("://"), "{log}");
        as_printed(&lab, &log);
    }
    let again = lab.publish(&["os.img"]);
    assert_eq!(again["outcome"], "no-change");
    assert_eq!(is_signed_by(&lab, &expected, &signature, "os"), Ok(()));
}

/// Executes the commands of a log that download and check the client.
fn as_printed(lab: &Lab, log: &str) {
    let commands: Vec<&str> =
        log.lines().filter(|line| line.starts_with("  curl ") || line.starts_with("  minisign ")).collect();
    assert!(commands.iter().any(|line| line.contains("minisign -Vm ")), "{log}");
    for program in ["curl", "minisign"] {
        if commands.iter().any(|line| line.trim_start().starts_with(program)) && servers::program(program).is_none() {
            return skipped(&format!("no {program}"));
        }
    }
    let output = Command::new("sh").args(["-ec", &commands.join("\n")]).current_dir(lab.path("")).output().unwrap();
    assert!(output.status.success(), "{commands:?}: {}", stderr(&output));
}

/// The path at which a client of this version for this machine is published.
fn client_path(version: &str, machine: &str, program: &Path) -> String {
    let digest = Sha256::of(&fs::read(program).unwrap());
    RepoPath::client(version, machine, &digest).unwrap().to_string()
}

/// The signatures of a client among these files.
fn signatures(files: &[String], client: &str) -> Vec<String> {
    let client: RepoPath = client.parse().unwrap();
    let is_one = |file: &&String| client.is_client_signature(&file.parse().unwrap());
    files.iter().filter(is_one).cloned().collect()
}

/// Verifies a file of the mirror `public` with minisign and an image's key. Passes if minisign cannot be run.
fn is_signed_by(lab: &Lab, file: &str, signature: &str, image: &str) -> Result<(), String> {
    let at = |file: &str| lab.path("public").join(file);
    let key = lab.path(&format!("home/.config/hfl/keys/{image}.pub"));
    let mut minisign = Command::new("minisign");
    minisign.arg("-Vm").arg(at(file)).arg("-x").arg(at(signature)).arg("-p").arg(key);
    match minisign.output() {
        Err(e) => skipped(&format!("minisign cannot be run: {e}")),
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(stderr(&output)),
    }
    Ok(())
}

/// Publishes an image with this build of client 9.9.9. Returns the path of the client.
fn ship(lab: &Lab, image: &str, build: &[u8]) -> String {
    lab.write("the-client", elf(62, &[b"hfl-mount version mark:9.9.9;", build].concat()));
    lab.publish(&["os.img", "--name", image]);
    client_path("9.9.9", "x86_64", &lab.path("the-client"))
}

fn shipping() -> Lab {
    let lab = Lab::with_mirrors(&["public"]);
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    lab.write("mirrors.toml", format!("[publish]\nclient = [\"the-client\"]\n{toml}"));
    lab.write("os.img", Random(1).bytes(100_000));
    lab
}

/// Two images of one repository ship two builds of one client version, as jobs do that rebuild their client.
#[test]
fn another_build_of_a_client_leaves_the_first_one_alone() {
    let lab = shipping();
    lab.ok(&["key", "new", "b"]);
    let one = ship(&lab, "a", b"build 1");
    let before = fs::read(lab.path("public").join(&one)).unwrap();
    let two = ship(&lab, "b", b"build 2");
    assert_ne!(one, two);
    assert!(fs::read(lab.path("public").join(&one)).unwrap() == before);
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
    let files = lab.files("public");
    for (client, image, other) in [(&one, "a", "b"), (&two, "b", "a")] {
        let signature = signatures(&files, client);
        assert_eq!(signature.len(), 1, "{signature:?}");
        assert_eq!(is_signed_by(&lab, client, &signature[0], image), Ok(()));
        assert_ne!(lab.trust(image), lab.trust(other), "two keys");
    }
    // The same image with a third build: a head needs only one client of a version.
    let three = ship(&lab, "a", b"build 3");
    assert!(!lab.path("public").join(three).exists());
    lab.ok(&["verify", "--to", "mirrors.toml", "--deep"]);
}

/// Two images of one repository, each with its own key, ship the same client.
#[test]
fn a_client_that_several_images_ship_is_signed_with_each_key() {
    let lab = shipping();
    lab.ok(&["key", "new", "b"]);
    let client = ship(&lab, "a", b"build 1");
    let first = signatures(&lab.files("public"), &client);
    let expected = lab.publish(&["os.img", "--name", "b", "--dry-run"]);
    let report = lab.publish(&["os.img", "--name", "b"]);
    assert_eq!(report["mirrors"][0]["files"], expected["mirrors"][0]["files"]);
    let both = signatures(&lab.files("public"), &client);
    assert_eq!(both.len(), 2);
    let of_b = both.iter().find(|signature| !first.contains(signature)).unwrap();
    assert_eq!(is_signed_by(&lab, &client, &first[0], "a"), Ok(()));
    assert_eq!(is_signed_by(&lab, &client, of_b, "b"), Ok(()));
    lab.ok(&["verify", "--to", "mirrors.toml"]);
    // A damaged signature is reported. A damaged client is repaired by the next publish that ships it.
    fs::write(lab.path("public").join(of_b), "damaged").unwrap();
    let output = lab.run(&["verify", "--to", "mirrors.toml"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(of_b) && !text.contains(&first[0]), "{text}");
    fs::write(lab.path("public").join(&client), "damaged").unwrap();
    lab.publish(&["os.img", "--name", "third"]);
    assert_eq!(client_path("9.9.9", "x86_64", &lab.path("public").join(&client)), client);
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
