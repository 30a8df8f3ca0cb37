//! Options for the location of mirrors and for connecting to them.

use std::fs;

use crate::support::fixture::{Publish, image};
use crate::support::lab::stderr;
use crate::support::mounting::{Mounted, WebServer, cannot_mount, nobody, run};
use crate::support::proxy::Proxy;

#[test]
fn lists_of_mirrors_are_read_and_bad_ones_refused() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("list");
    let path = list.to_str().unwrap();
    let point = home.path().join("point");
    fs::create_dir(&point).unwrap();
    let refused = |text: &[u8], words: &str| {
        fs::write(&list, text).unwrap();
        let output = run(home.path(), &["--unsigned", "--mirrors", path, "test", point.to_str().unwrap()]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(words) && said.contains(path), "{said}");
    };
    refused(b"", "names no mirror");
    refused(b"# nothing\n\n", "names no mirror");
    refused(b"https://a.example/\nmirror.example/hfl/\n", "line 2: a base URL begins with http:// or https://");
    refused(b"gopher://a.example/", "line 1: a base URL begins with");
    refused(b"https://a.example/?x=1/", "no query");
    refused(b"https://a.example:0/", "port");
    refused(b"https://user:secret@a.example/", "public");
    refused(b"\xff\xfe", "not a text");
    refused(&vec![b'#'; (1 << 20) + 1], "more than 1048576 bytes");
    fs::remove_file(&list).unwrap();
    let output = run(home.path(), &["--unsigned", "--mirrors", path, "test", point.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains(path), "{}", stderr(&output));
    let output = run(home.path(), &["--unsigned", "--proxy", "socks5://u:secret@x:1", "test", point.to_str().unwrap()]);
    let said = stderr(&output);
    assert!(output.status.code() == Some(2) && said.contains("--proxy") && !said.contains("secret"), "{said}");
    for wrong in ["0", "-1", "x"] {
        let output = run(home.path(), &["--unsigned", "--timeout", wrong, "a/test", point.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn mirrors_come_from_a_list_and_through_a_proxy() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), image(3 << 20));
    Publish::default().write(&base, &bytes);
    let server = WebServer::new(&base);
    let list = home.path().join("list");
    fs::write(&list, format!("# ours\n{}/\n  {}/  \n", nobody(), server.url())).unwrap();
    let arguments = ["--unsigned", "--no-cache", "--mirrors", list.to_str().unwrap()];
    let mounted = Mounted::named(home.path(), &arguments, &["test".into()], "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();

    // The server ignores the requested host, as a proxy does.
    let proxy = Proxy::start(server.address());
    let url = format!("http://u:secret@{}", proxy.address());
    let source = ["http://mirror.invalid/test".to_owned()];
    let arguments = ["--unsigned", "--no-cache", "--proxy", &url];
    let mounted = Mounted::named(home.path(), &arguments, &source, "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    assert!(!mounted.end().contains("secret"));
    let through_option = proxy.faults().connections();
    let environment = [("http_proxy", format!("http://{}", proxy.address()))];
    let mounted = Mounted::with_environment(home.path(), &environment, &arguments[..2], &source, "test");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    mounted.end();
    let connections = proxy.faults().connections();
    println!("{through_option} connections through --proxy, {} through http_proxy", connections - through_option);
    assert!(through_option > 0 && connections > through_option);
    let environment = [("http_proxy", format!("http://{}", proxy.address())), ("no_proxy", "127.0.0.1".into())];
    let source = [format!("{}/test", server.url())];
    Mounted::with_environment(home.path(), &environment, &arguments[..2], &source, "test").end();
    assert_eq!(proxy.faults().connections(), connections, "no_proxy is heeded");
}

#[test]
fn in_hard_mode_a_network_that_is_not_there_yet_is_waited_for() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), image(3 << 20));
    Publish::default().write(&base, &bytes);
    let server = WebServer::new(&base);
    let proxy = Proxy::start(server.address());
    proxy.faults().refuse(true);
    let mounted = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(1200));
            proxy.faults().refuse(false);
        });
        let source = [format!("http://{}/test", proxy.address())];
        Mounted::named(home.path(), &["--unsigned", "--no-cache", "--mode", "hard"], &source, "test")
    });
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    let said = mounted.end();
    assert!(said.contains("connection refused; trying again"), "{said}");
}
