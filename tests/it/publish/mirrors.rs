//! `hfl mirrors`: the state of each mirror, and the guarantees of its store.

use std::fs;

use hfl::format::head::SignedHead;
use serde_json::Value;

use crate::support::lab::{Lab, Random, code};
use crate::support::mounting::WebServer;

fn states(lab: &Lab, options: &[&str]) -> (i32, Value) {
    let output = lab.run(&[&["mirrors", "--to", "mirrors.toml", "--json"], options].concat());
    let mut report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    (code(&output), report["mirrors"].take())
}

#[test]
fn a_table_of_mirrors() {
    let lab = Lab::new();
    let server = WebServer::new(&lab.path("a"));
    let mirror = |name: &str, more: &str| format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n{more}");
    let read = format!("read = \"{}/\"\n", server.url());
    lab.write("mirrors.toml", mirror("a", &read) + &mirror("b", ""));
    lab.write("os.img", Random(1).bytes(300_000));
    lab.publish(&["os.img"]);
    let old = fs::read(lab.path("b/os.head")).unwrap();
    lab.publish(&["os.img", "--force"]);
    fs::write(lab.path("b/os.head"), old).unwrap();
    lab.write("file", "no directory");
    lab.write("mirrors.toml", mirror("a", &read) + &mirror("b", "") + &mirror("file", ""));
    let before = lab.files("a");

    let (code, states) = states(&lab, &["--count"]);
    assert_eq!(code, 6);
    let image =
        |version, behind| serde_json::json!([{"image": "os", "version": version, "behind": behind, "verified": true}]);
    assert_eq!((&states[0]["images"], &states[1]["images"]), (&image(2, 0), &image(1, 1)));
    assert_eq!((&states[0]["reachable"], &states[2]["reachable"]), (&Value::Bool(true), &Value::Bool(false)));
    assert!(states[2]["why"].as_str().unwrap().contains("not a directory"), "{states}");
    assert_eq!(states[0]["objects"], before.len());
    let found = &states[0]["capabilities"];
    for promise in ["exclusive_create", "atomic_replace", "read_back"] {
        assert_eq!(found[promise]["verdict"], "yes", "{promise}: {found}");
    }
    assert!(states[1]["capabilities"]["read_back"].is_null());
    assert_eq!(lab.files("a"), before, "nothing is left");
    println!("latency of a directory: {} ms", states[0]["latency_ms"]);

    let text = lab.run(&["mirrors", "--to", "mirrors.toml", "--no-probe"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("os 1 (1 behind)") && text.lines().any(|l| l.starts_with("file") && l.contains("NO")),
        "{text}"
    );
    assert!(lab.run(&["mirrors", "--help"]).stdout.windows(7).any(|w| w == b"Example"));
}

#[cfg(feature = "webdav")]
mod webdav {
    use crate::support::lab::{Lab, code, stderr};
    use crate::support::servers::free_port;

    #[test]
    fn nobody_answers() {
        let lab = Lab::new();
        let write = format!("webdav+http://127.0.0.1:{}/hfl/", free_port());
        lab.write("mirrors.toml", format!("[[mirror]]\nname = \"gone\"\nwrite = \"{write}\"\n"));
        for command in ["mirrors", "verify"] {
            let output = lab.run(&[command, "--to", "mirrors.toml"]);
            assert_eq!(code(&output), 4, "{command}: {}", stderr(&output));
        }
    }
}

/// Mirrors a and c are two places behind one URL, with another mirror between them in mirrors.toml.
#[test]
fn mirrors_that_share_a_url_are_named_once() {
    let lab = Lab::new();
    let table = |name: &str, port: u16| {
        let read = format!("read = \"http://127.0.0.1:{port}/\"\nread-back = false\n");
        format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\n{read}")
    };
    lab.write("mirrors.toml", [table("a", 9), table("b", 7), table("c", 9)].concat());
    lab.write("os.img", [7; 4096]);
    lab.publish(&["os.img"]);
    let head = SignedHead::parse(&fs::read(lab.path("c/os.head")).unwrap()).unwrap();
    let head = head.verify(&lab.trust("os")).unwrap();
    assert_eq!(
        head.mirrors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://127.0.0.1:9/", "http://127.0.0.1:7/"]
    );
}
