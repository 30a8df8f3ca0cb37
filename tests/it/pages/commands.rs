//! The commands on the pages do what they say: they are taken from the page and executed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::site::{Site, commands, image};
use crate::support::lab::{Lab, code, skipped, stderr};
use crate::support::mounting::cannot_mount;
use crate::support::servers::program;
use crate::support::through::in_place_of;

/// Executes lines in a new directory of the lab, with the programs of this build in the path.
fn shell(lab: &Lab, lines: &str) -> (Output, PathBuf) {
    let directory = lab.path("elsewhere");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_hfl"));
    let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    in_place_of(command.args(["-e", "-c", lines]), &lab.command(&[])).current_dir(&directory).env("PATH", path);
    (command.env("XDG_CACHE_HOME", lab.path("home/cache")).output().unwrap(), directory)
}

/// The commands of a page that have these words.
fn with(page: &str, words: &str) -> String {
    commands(page).into_iter().find(|lines| lines.contains(words)).unwrap_or_else(|| panic!("{words} in {page}"))
}

/// Two images of one repository ship one client: each page has the signature by its own key.
#[test]
fn the_client_is_downloaded_and_checked_with_the_key_of_each_image() {
    let site = Site::new();
    for wanted in ["minisign", "curl", "sha256sum"] {
        if program(wanted).is_none() {
            return skipped(&format!("no {wanted}"));
        }
    }
    let of = |image: &str| with(&site.page(&format!("/page/{image}.html")), "minisign -Vm");
    let (debian, kiosk) = (of("debian"), of("kiosk"));
    assert_ne!(debian, kiosk);
    for lines in [debian, kiosk] {
        let (output, directory) = shell(&site.lab, &lines);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            code(&output) == 0 && said.contains("verified") && said.contains(": OK"),
            "{lines}\n{said}{}",
            stderr(&output)
        );
        assert!(fs::read(directory.join("hfl-mount")).unwrap() == fs::read(site.lab.path("client")).unwrap());
    }
}

#[test]
fn the_image_is_restored() {
    let site = Site::new();
    let (output, directory) = shell(&site.lab, &with(&site.page("/page/debian.html"), "hfl restore "));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(directory.join("debian.img")).unwrap() == image(3));
}

#[test]
fn the_image_is_mounted() {
    let site = Site::new();
    if cannot_mount() {
        return;
    }
    let lines = with(&site.page("/page/debian.html"), "hfl-mount --key");
    let point = site.lab.path("point");
    // The last line is for root, and for an image with a file system.
    let lines = lines.split("\nmount ").next().unwrap().replace("/tmp/debian", &point.display().to_string());
    let (output, _) = shell(&site.lab, &lines);
    assert_eq!(code(&output), 0, "{lines}\n{}", stderr(&output));
    let read = fs::read(point.join("debian"));
    let ended = Command::new("fusermount3").arg("-u").arg(&point).status().unwrap();
    assert!(ended.success() && read.unwrap() == image(3));
}

#[test]
fn a_dhcp_server_takes_the_lines() {
    let Some(dnsmasq) = program("dnsmasq") else { return skipped("no dnsmasq") };
    let site = Site::new();
    let lines = with(&site.page("/page/debian.html"), "dhcp-match=");
    assert!(lines.contains(&format!("tag:ipxe,http://{}/boot/debian/boot.ipxe\n", site.at)), "{lines}");
    let tftp = site.lab.path("tftp");
    fs::create_dir(&tftp).unwrap();
    let file = site.lab.write("dnsmasq.conf", lines.replace("/srv/tftp", &tftp.display().to_string()) + "\n");
    let output = Command::new(dnsmasq).arg("--test").arg(format!("--conf-file={}", file.display())).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let menu = site.page("/boot/debian/boot.ipxe");
    assert!(menu.starts_with("#!ipxe\n") && menu.contains("hfl.version=3"), "{menu}");
}
