//! The examples for service managers, fstab and /etc/hfl in templates/client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::lab::{code, skipped, stderr};
use crate::support::mounting::client;
use crate::support::servers::program;

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fn template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/client").join(name)
}

/// systemd knows every word of the units.
#[test]
fn units_are_understood() {
    let Some(analyze) = program("systemd-analyze") else { return skipped("no systemd-analyze") };
    let home = tempfile::tempdir().unwrap();
    let units = ["hfl-mount@.service", "mnt-debian.mount", "mnt-debian.automount"];
    for unit in units {
        let text = fs::read_to_string(template(unit)).unwrap();
        let text = text.replace("/usr/bin/hfl-mount", env!("CARGO_BIN_EXE_hfl-mount"));
        fs::write(home.path().join(unit.replace("@.", "@debian.")), text).unwrap();
    }
    for unit in ["hfl-mount@debian.service", "mnt-debian.automount"] {
        let output =
            Command::new(&analyze).args(["verify", "--man=no", unit]).current_dir(home.path()).output().unwrap();
        let said = stderr(&output);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("debian")).collect();
        assert!(ours.is_empty(), "{unit}: {ours:?}");
    }
}

#[test]
fn lines_of_fstab_are_read() {
    let Some(findmnt) = program("findmnt") else { return skipped("no findmnt") };
    let output = Command::new(findmnt)
        .args(["--fstab", "--tab-file"])
        .arg(template("fstab"))
        .args(["-n", "-o", "TARGET,FSTYPE"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [["/mnt/debian", "hfl"], ["/mnt/disk", "hfl"]], "{}", stderr(&output));
}

/// Every setting of the example is one, the commented ones too.
#[test]
fn the_example_of_a_configuration_is_accepted() {
    let home = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(template("debian.toml")).unwrap();
    let setting = |line: &str| {
        let line = line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line);
        line.replace("RWQ...", KEY).replace("60s", "1s").replace("/etc/ssl/our-ca.pem", "/dev/null")
    };
    let text: Vec<String> = text.lines().map(setting).collect();
    fs::create_dir(home.path().join("config")).unwrap();
    fs::write(home.path().join("config/debian.toml"), text.join("\n")).unwrap();
    let output = client(home.path()).args(["--foreground", "debian"]).arg(home.path().join("config")).output().unwrap();
    // The directory is no mount point: all settings were accepted before that was noticed.
    assert!(code(&output) == 1 && stderr(&output).contains("not empty"), "{}", stderr(&output));
}
