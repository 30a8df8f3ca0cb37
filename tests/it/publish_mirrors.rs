//! `hfl mirrors`: how each mirror is, and what its store keeps to.

use std::fs;

use serde_json::Value;

use crate::lab::{Lab, Random, code};
use crate::mounting::WebServer;

fn states(lab: &Lab, options: &[&str]) -> (i32, Value) {
    let output = lab.run(&[&["mirrors", "--to", "mirrors.toml", "--json"], options].concat());
    (code(&output), serde_json::from_slice(&output.stdout).expect("JSON"))
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
    use std::sync::atomic::AtomicBool;

    use hfl::publish::{Capabilities, Verdict, try_store};
    use hfl::store::{Exclusive, Fetch as _, Store as _};

    use crate::lab::{Lab, code, skipped, stderr};
    use crate::servers::{apache, free_port, nginx, rclone, webdav::WebDavServer};

    async fn tried(server: &WebDavServer) -> Capabilities {
        let store = server.store();
        let found = try_store(&store, Some(&store), &AtomicBool::new(false)).await;
        assert_eq!(store.exclusive(), Exclusive::Looked);
        let left = store.list("").await.unwrap();
        assert!(left.is_empty() && found.left_behind.is_empty(), "nothing is left: {left:?}");
        println!("{}: {found:?}", store.location());
        found
    }

    /// What the driver says of itself is true: servers that look before they rename let several writers win, or do not.
    #[tokio::test(flavor = "multi_thread")]
    async fn real_servers_are_found_out() {
        let servers = [("nginx", nginx::start()), ("Apache", apache::start()), ("rclone", rclone::start())];
        for (name, server) in servers {
            let Some(server) = server else {
                skipped(&format!("needs {name}"));
                continue;
            };
            let found = tried(&server).await;
            assert_eq!(found.read_back, Some(Verdict::Yes), "{name}");
            for verdict in [&found.exclusive_create, &found.atomic_replace, &found.conditional_put] {
                assert!(!matches!(verdict, Verdict::Unknown(_)), "{name}: {verdict:?}");
            }
        }
    }

    #[test]
    fn nobody_answers() {
        let lab = Lab::new();
        let write = format!("webdav+http://127.0.0.1:{}/hfl/", free_port());
        lab.write("mirrors.toml", format!("[[mirror]]\nname = \"gone\"\nwrite = \"{write}\"\n"));
        for command in ["mirrors", "verify"] {
            let output = lab.run(&[command, "--to", "mirrors.toml"]);
            if stderr(&output).contains("was built without") {
                return skipped("this hfl does not open WebDAV mirrors");
            }
            assert_eq!(code(&output), 4, "{command}: {}", stderr(&output));
        }
    }
}
