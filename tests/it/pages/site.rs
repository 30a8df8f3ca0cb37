//! A repository with two images, of different keys, and a server of it.

use std::fs;
use std::net::SocketAddr;

use crate::support::boot_fixture::elf;
use crate::support::browser::{Answer, request};
use crate::support::lab::{Lab, Random};
use crate::support::servers::{Daemon, free_port, local};

/// A label that means something in HTML, XML, shells and menus.
pub const LABEL: &str = "<b>\"it's\" & 100 %</b> \u{202e}${x} {{ 1 }} <script>alert(1)</script>";

/// A repository, and `hfl serve` at the URL of its only mirror.
pub struct Site {
    pub lab: Lab,
    pub at: SocketAddr,
    _server: Daemon,
}

impl Site {
    /// Publishes `debian` three times, to boot, and `kiosk` once, both with a client, and serves them.
    pub fn new() -> Self {
        let lab = Lab::new();
        let at = local(free_port());
        let table = format!("write = \"./public\"\nread = \"http://{at}/\"\nread-back = false\n");
        lab.write("mirrors.toml", format!("[publish]\nclient = [\"client\"]\n[[mirror]]\nname = \"a\"\n{table}"));
        lab.write("client", elf(62, b"hfl-mount version mark:9.9.9;"));
        lab.write("boot/vmlinuz", Random(3).bytes(5000));
        lab.write("boot/initrd.img", Random(4).bytes(9000));
        for version in 1..=3 {
            lab.write("debian.img", image(version));
            let label = if version == 3 { LABEL } else { "nightly" };
            lab.publish(&["debian.img", "--label", label, "--boot=boot", "--split", "fixed:65536"]);
        }
        lab.publish(&["debian.img", "--name", "kiosk"]);
        let server = serve(&lab, at, &[]);
        Self { lab, at, _server: server }
    }

    pub fn get(&self, path: &str) -> Answer {
        request(self.at, "GET", path, "")
    }

    pub fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}");
        answer.text()
    }
}

/// Starts `hfl serve` for the directory `public` of the lab; it writes to the file `served`.
pub fn serve(lab: &Lab, at: SocketAddr, more: &[&str]) -> Daemon {
    let address = at.to_string();
    let command = lab.command(&[&["serve", "public", "--listen", &address], more].concat());
    Daemon::start(command, &lab.path("served"), at)
}

/// Four megabytes, of which each version changes some; a part is a hole.
pub fn image(version: u64) -> Vec<u8> {
    let mut image = Random(1).bytes(3 << 20);
    let changed = Random(version).bytes(300_000);
    image[1_000_000..1_300_000].copy_from_slice(&changed);
    image[2_500_000..2_500_010].copy_from_slice(&changed[..10]);
    image.resize(4 << 20, 0);
    image
}

/// The texts of the commands of a page, as a browser shows them.
pub fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("<pre><code>").skip(1);
    blocks.map(|block| unescape(block.split("</code></pre>").next().unwrap())).collect()
}

fn unescape(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#x2f;", "/"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

/// A file of a mirror.
pub fn read(lab: &Lab, mirror: &str, path: &str) -> String {
    let file = lab.path(mirror).join(path);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
