//! An in-memory WebDAV server that loses, hides or refuses as real servers were seen to do, controlled by a few
//! switches.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hfl::store::webdav::WebDav;
use hfl::store::{Fetch, Put, Store, StoreErrorKind, Swap};

use super::{anonymous, path};
use crate::support::lab::{Lab, Random};

#[derive(Default)]
struct Server {
    objects: Mutex<HashMap<String, Vec<u8>>>,
    requests: AtomicUsize,
    puts: AtomicUsize,
    /// The PUT of which only half is stored, counted from 1.
    halved: AtomicUsize,
    /// HEAD and PROPFIND report no size.
    sizeless: AtomicBool,
    /// GET does not find objects that exist.
    hides: AtomicBool,
    /// The status of a MOVE onto an existing object with `Overwrite: F`. 0 ignores that header.
    taken: AtomicUsize,
}

impl Server {
    fn start() -> (Arc<Self>, String) {
        let server = Arc::new(Self { taken: 412.into(), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let its = Arc::clone(&server);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = Arc::clone(&its);
                std::thread::spawn(move || server.serve(client));
            }
        });
        (server, url)
    }

    /// Serves the requests of one connection until it closes.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(&["\r\n".to_owned()]) {
                let mut line = String::new();
                (reader.read_line(&mut line).ok()? > 0).then_some(())?;
                head.push(line);
            }
            let value = |name: &str| {
                let found = head.iter().filter_map(|line| line.trim().split_once(": "));
                found.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let mut body = vec![0; value("content-length").and_then(|l| l.parse().ok()).unwrap_or(0)];
            reader.read_exact(&mut body).ok()?;
            let mut words = head[0].split(' ');
            let (method, at) = (words.next()?.to_owned(), words.next()?.to_owned());
            self.requests.fetch_add(1, Ordering::Relaxed);
            let to = value("destination")
                .and_then(|to| Some(to.splitn(4, '/').nth(3)?.to_owned()))
                .map(|to| format!("/{to}"));
            let answer = self.answer(&method, &at, body, to, value("overwrite").as_deref() == Some("F"));
            stream.write_all(&answer).ok()?;
        }
    }

    fn answer(&self, method: &str, at: &str, body: Vec<u8>, to: Option<String>, keep: bool) -> Vec<u8> {
        let mut objects = self.objects.lock().unwrap();
        let (sizeless, hides) = (self.sizeless.load(Ordering::Relaxed), self.hides.load(Ordering::Relaxed));
        match (method, objects.get(at)) {
            ("MKCOL", _) => says("201 Created", b""),
            ("PUT", _) => {
                let cut = self.puts.fetch_add(1, Ordering::Relaxed) + 1 == self.halved.load(Ordering::Relaxed);
                let kept = if cut { body.len() / 2 } else { body.len() };
                objects.insert(at.to_owned(), body[..kept].to_vec());
                says("201 Created", b"")
            }
            ("GET" | "HEAD" | "MOVE" | "PROPFIND", None) => says("404 Not Found", b""),
            ("GET" | "HEAD", Some(_)) if hides => says("404 Not Found", b""),
            ("GET", Some(found)) => says("200 OK", found),
            ("HEAD", Some(_)) if sizeless => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            ("HEAD", Some(found)) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", found.len()).into(),
            ("PROPFIND", Some(found)) => {
                let length = if sizeless { String::new() } else { found.len().to_string() };
                let props = format!("<d:resourcetype/><d:getcontentlength>{length}</d:getcontentlength>");
                says(
                    "207 Multi-Status",
                    super::hostile::in_multistatus(&super::hostile::resource(at, &props)).as_bytes(),
                )
            }
            ("MOVE", Some(found)) => {
                let (found, to) = (found.clone(), to.unwrap_or_default());
                match self.taken.load(Ordering::Relaxed) {
                    code @ 1.. if keep && objects.contains_key(&to) => says(&format!("{code} In The Way"), b"<x/>"),
                    _ => {
                        objects.remove(at);
                        objects.insert(to, found);
                        says("201 Created", b"")
                    }
                }
            }
            ("DELETE", _) => {
                objects.remove(at);
                says("204 No Content", b"")
            }
            _ => says("200 OK", b""),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.objects.lock().unwrap().keys().cloned().collect();
        names.sort();
        names
    }

    fn has(&self, at: &str) -> Vec<u8> {
        self.objects.lock().unwrap().get(at).cloned().unwrap_or_default()
    }
}

fn says(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn store() -> (Arc<Server>, WebDav) {
    let (server, url) = Server::start();
    (server, anonymous(&url))
}

/// The server stores half of one PUT and responds 201 Created. No truncated upload gets its final name.
#[tokio::test]
async fn an_upload_that_was_cut_gets_no_name() {
    for sizeless in [false, true] {
        let (server, store) = store();
        server.sizeless.store(sizeless, Ordering::Relaxed);
        let (at, block): (_, Bytes) = (path("blocks/1f/1f3a"), Random(1).bytes(9000).into());
        store.put_new(&path("blocks/00/0000"), block.clone()).await.unwrap();
        let before = server.requests.load(Ordering::Relaxed);
        store.put_new(&path("blocks/00/0001"), block.clone()).await.unwrap();
        println!(
            "requests of one object: {}, sizes told: {}",
            server.requests.load(Ordering::Relaxed) - before,
            !sizeless
        );
        server.halved.store(3, Ordering::Relaxed);
        let error = store.put_new(&at, block.clone()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "worth another try: {error}");
        assert!(error.to_string().contains("4500 of 9000 bytes arrived"), "{error}");
        assert_eq!(server.names(), ["/blocks/00/0000", "/blocks/00/0001"], "the temporary is gone too");
        assert_eq!(store.put_new(&at, block.clone()).await.unwrap(), Put::Created);
        server.halved.store(5, Ordering::Relaxed);
        store.put_replace(&at, Random(2).bytes(5000).into()).await.unwrap_err();
        assert_eq!(server.has("/blocks/1f/1f3a"), block, "what was there stays");
    }
}

/// The same through the program: hfl sends the object again, and the mirror is complete.
#[test]
fn a_publish_over_a_server_that_cuts_one_upload_is_whole() {
    let (server, url) = Server::start();
    let lab = Lab::new();
    let write = url.replacen("http", "webdav+http", 1);
    lab.write("mirrors.toml", format!("[[mirror]]\nname = \"cuts\"\nwrite = \"{write}\"\nread = \"{url}\"\n"));
    lab.write("image", Random(3).bytes(6 << 20));
    server.halved.store(20, Ordering::Relaxed);
    lab.publish(&["image", "--name", "os", "--split", "fixed:64K"]);
    assert!(server.puts.load(Ordering::Relaxed) > 20, "one of the blocks was cut");
    let objects = server.objects.lock().unwrap().clone();
    for (name, body) in objects.iter().filter(|(name, _)| name.starts_with("/blocks/")) {
        let place = lab.write(&format!("mirror{name}"), body);
        assert!(place.is_file());
    }
    for (name, body) in objects.iter().filter(|(name, _)| !name.starts_with("/blocks/") && !name.ends_with('/')) {
        lab.write(&format!("mirror{name}"), body);
    }
    assert_eq!(crate::support::lab::check_mirror(&lab.path("mirror"), "os", &lab.trust("os")), [1]);
}

/// Servers respond with different statuses to a MOVE onto an existing object.
#[tokio::test]
async fn what_is_there_already_is_known_by_looking() {
    for code in [400, 403, 405, 409, 412, 500, 207] {
        let (server, store) = store();
        server.taken.store(code, Ordering::Relaxed);
        let at = path("blocks/1f/1f3a");
        assert_eq!(store.put_new(&at, "one".into()).await.unwrap(), Put::Created);
        assert_eq!(store.put_new(&at, "two".into()).await.unwrap(), Put::Exists, "{code}");
        assert_eq!((server.has("/blocks/1f/1f3a"), server.names().len()), (b"one".to_vec(), 1), "{code}");
    }
}

/// If the server ignores `Overwrite: F`, the driver checks for the object before it creates a lock or a head. An object
/// that GET does not find is not absent if PROPFIND finds it.
#[tokio::test]
async fn what_cannot_be_read_is_neither_absent_nor_overwritten() {
    let (server, store) = store();
    server.taken.store(0, Ordering::Relaxed);
    for name in ["os.head", "publish.lock"] {
        assert_eq!(store.put_new(&path(name), "one".into()).await.unwrap(), Put::Created);
        assert_eq!(store.put_new(&path(name), "two".into()).await.unwrap(), Put::Exists);
        assert_eq!(store.swap(&path(name), None, "two".into()).await.unwrap(), Swap::Changed);
        assert_eq!(server.has(&format!("/{name}")), b"one");
    }
    server.hides.store(true, Ordering::Relaxed);
    let error = store.get(&path("os.head"), 100).await.unwrap_err();
    assert_ne!(error.kind(), StoreErrorKind::NotFound, "{error}");
    println!("{error}");
    assert_eq!(store.swap(&path("os.head"), None, "two".into()).await.unwrap(), Swap::Changed);
    assert_eq!(server.has("/os.head"), b"one");
    server.objects.lock().unwrap().clear();
    assert_eq!(store.get(&path("os.head"), 100).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}
