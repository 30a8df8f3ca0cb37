//! Status of a mount: the status command, Prometheus metrics, and the service manager.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::fixture::{Publish, image};
use crate::support::mounting::{Mounted, WebServer, cannot_mount, nobody, run};

fn status(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let arguments = [&["status"], arguments].concat();
    let output = run(home, &arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(home: &Path, mounted: &Mounted) -> Value {
    let (code, out, said) = status(home, &[mounted.point().to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{said}");
    let status = serde_json::from_str(&out).unwrap();
    crate::support::schema::assert_is("mount-status", &status);
    status
}

#[test]
fn the_status_says_what_happened() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), image(24 << 20));
    let index = Publish { version: 7, ..Publish::default() }.write(&base, &bytes);
    let (server, nobody) = (WebServer::new(&base), nobody());
    let arguments = ["--unsigned", "--memory", "1M", "--metrics", "127.0.0.1:0"];
    let mounted = Mounted::new(home.path(), &arguments, &[&nobody, &server.url()], "test");
    let point = mounted.point().to_str().unwrap().to_owned();
    let before = json(home.path(), &mounted);
    assert_eq!(
        (&before["image"], &before["version"], &before["size"]),
        (&"test".into(), &7.into(), &(24 << 20).into())
    );
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    // A read is answered shortly before it is counted as finished.
    let started = Instant::now();
    let status_now = loop {
        let status = json(home.path(), &mounted);
        if status["in_flight"] == 0 || started.elapsed() > Duration::from_secs(10) {
            break status;
        }
    };
    let of = |key: &str| status_now[key].as_u64().unwrap();
    assert!(of("fetched_blocks") >= index.blocks().len() as u64 && of("fetched_bytes") >= index.zlib_bytes());
    assert!(of("read_bytes") >= 24 << 20 && of("reads") > 0 && of("reads_failed") == 0, "{status_now}");
    assert_eq!(of("in_flight"), 0, "{status_now}");
    assert!(of("ram_bytes_held") <= 1 << 20 && of("ram_blocks") > 0);
    let mirrors = status_now["mirrors"].as_array().unwrap();
    assert_eq!((&mirrors[0]["url"], &mirrors[0]["state"]), (&format!("{}/", server.url()).into(), &"good".into()));
    assert!(mirrors[0]["usual_ms"].as_f64().unwrap() > 0.0 && mirrors[0]["rank"] == 1);
    assert_eq!((&mirrors[1]["url"], &mirrors[1]["state"]), (&format!("{nobody}/").into(), &"quarantined".into()));
    assert!(mirrors[1]["why"].as_str().unwrap().contains("connection refused"), "{}", mirrors[1]);

    let (code, text, _) = status(home.path(), &[&point]);
    println!("{text}");
    assert_eq!(code, 0);
    for words in ["test version 7", "24.0 MiB", "soft mode", "quarantined for ", "connection refused", "  1 http://"] {
        assert!(text.contains(words), "`{words}` in {text}");
    }
    assert_eq!(fs::read_dir(mounted.point()).unwrap().count(), 1, "the status is in no listing");
    assert!(fs::write(mounted.point().join(".hfl-status"), "x").is_err());

    let said = mounted.end();
    let address = said.split("metrics on http://").nth(1).unwrap().split('/').next().unwrap();
    assert!(TcpStream::connect(address).is_err(), "it ends with the mount");
    let (code, _, said) = status(home.path(), &[&point]);
    assert_eq!(code, 1);
    assert!(said.contains("no image is mounted here\n") && said.contains("hint:"), "{said}");
    assert_eq!(status(home.path(), &[]).0, 2);
}

#[test]
fn prometheus_and_the_service_manager_are_told() {
    if cannot_mount() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (base, bytes) = (home.path().join("a"), image(3 << 20));
    Publish::default().write(&base, &bytes);
    let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let hear = || {
        let mut heard = [0; 1000];
        let length = socket.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    let port = crate::support::servers::free_port();
    let address = format!("127.0.0.1:{port}");
    let arguments = ["--unsigned", "--metrics", &address];
    let environment = [("NOTIFY_SOCKET", home.path().join("notify"))];
    let sources = [format!("{}/test", base.display())];
    let mounted = Mounted::with_environment(home.path(), &environment, &arguments, &sources, "test");
    let ready = hear();
    assert!(ready.starts_with(&format!("READY=1\nMAINPID={}\nSTATUS=/", mounted.pid())), "{ready}");
    assert!(fs::read(mounted.file()).unwrap() == bytes);
    let idle: Vec<_> = (0..3).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut client = TcpStream::connect(&address).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    client.read_to_string(&mut page).unwrap();
    drop(idle);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{page}");
    let label = format!("image=\"test\",mirror=\"{}\"", base.display());
    for line in ["hfl_version{image=\"test\"} 1", &format!("hfl_mirror_up{{{label}}} 1"), "# TYPE hfl_reads counter"] {
        assert!(page.lines().any(|found| found == line), "`{line}` in {page}");
    }
    let metrics = page.lines().filter(|line| line.starts_with("hfl_")).count();
    println!("{metrics} figures");
    mounted.end();
    assert_eq!(hear(), "STOPPING=1");
}
