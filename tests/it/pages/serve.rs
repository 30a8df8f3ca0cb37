//! `hfl serve`: what caches may keep, the log, and the state of the mirrors.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use hfl::format::digest::Sha256;

use super::site::{Site, image, serve};
use crate::support::browser::request;
use crate::support::lab::Lab;
use crate::support::schema::assert_is;
use crate::support::servers::{Daemon, free_port, local};

#[test]
fn files_that_are_never_replaced_are_cached_forever_and_all_others_looked_after() {
    let site = Site::new();
    let files = site.lab.files("public");
    let file = |ends: &str, starts: &str| {
        let found = files.iter().find(|file| file.ends_with(ends) && file.starts_with(starts));
        format!("/{}", found.unwrap_or_else(|| panic!("{starts}*{ends} in {files:?}")))
    };
    for immutable in
        [file("", "blocks/"), file(".idx", "index/debian/3"), file(".minisig", "client/"), file("", "boot/debian/3/")]
    {
        let answer = site.get(&immutable);
        assert_eq!(answer.status, 200, "{immutable}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"), "{immutable}");
    }
    let missing = file("", "blocks/").split_at(10).0.to_owned() + &"0".repeat(40);
    for (path, status) in [
        ("/", 200),
        ("/index.html", 200),
        ("/page/debian.html", 200),
        ("/debian.head", 200),
        ("/images", 200),
        ("/boot/debian/boot.ipxe", 200),
        ("/nothing", 404),
        (&missing, 404),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.header("cache-control")), (status, Some("no-cache")), "{path}");
    }
    assert!(site.get("/page/debian.atom").header("content-type").unwrap().starts_with("application/atom+xml"));
}

#[test]
fn each_request_is_logged_and_none_if_it_is_to_be_quiet() {
    let lab = Lab::new();
    lab.write("public/file", "12345");
    let at = local(free_port());
    let server = serve(&lab, at, &["--json"]);
    request(at, "GET", "/file?a=%22", "");
    request(at, "HEAD", "/missing", "");
    drop(server);
    let said = fs::read_to_string(lab.path("served")).unwrap();
    let mut lines = said.lines().filter(|line| !line.is_empty());
    let first: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_is("serve", &first);
    assert_eq!((&first["directory"], &first["url"]), (&"public".into(), &format!("http://{at}/").into()));
    let lines: Vec<&str> = lines.collect();
    assert!(
        lines[0].starts_with("127.0.0.1 - - [") && lines[0].ends_with("] \"GET /file?a=%22 HTTP/1.1\" 200 5"),
        "{said}"
    );
    assert!(lines[1].contains(" +0000] \"HEAD /missing HTTP/1.1\" 404 "), "{said}");
    let _server = serve(&lab, at, &["-q"]);
    request(at, "GET", "/file", "");
    assert_eq!(fs::read_to_string(lab.path("served")).unwrap(), "");
}

/// A mirror that is current, one that is behind, one that is down, and one that says nothing.
#[test]
fn the_front_page_tells_how_the_mirrors_stand() {
    let lab = Lab::new();
    let ports: Vec<_> = (0..3).map(|_| local(free_port())).collect();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = hanging.local_addr().unwrap();
    let places = [("public", ports[0]), ("behind", ports[1]), ("down", ports[2]), ("silent", silent)];
    let table = |(name, at): &(&str, std::net::SocketAddr)| {
        format!("[[mirror]]\nname = \"{name}\"\nwrite = \"./{name}\"\nread = \"http://{at}/\"\nread-back = false\n")
    };
    lab.write("mirrors.toml", places.iter().map(table).collect::<String>());
    lab.write("os.img", image(1));
    lab.publish(&["os.img"]);
    let head = fs::read(lab.path("behind/os.head")).unwrap();
    lab.write("os.img", image(2));
    lab.publish(&["os.img"]);
    fs::write(lab.path("behind/os.head"), head).unwrap();
    let log = |name: &str| lab.path(&format!("{name}.log"));
    let other = lab.command(&["serve", "behind", "--listen", &ports[1].to_string()]);
    let _other = Daemon::start(other, &log("behind"), ports[1]);
    let _server = serve(&lab, ports[0], &[]);
    let started = Instant::now();
    let page = request(ports[0], "GET", "/", "").text();
    let took = started.elapsed();
    println!("the state of four mirrors, one of which says nothing: {took:.1?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let now = page.split("<h2 id=\"live\">").nth(1).and_then(|rest| rest.split("</table>").next()).unwrap();
    let rows: Vec<&str> = now.split("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">").skip(1).collect();
    let is = |row: usize, words: [&str; 2]| words.iter().all(|words| rows[row].contains(words));
    assert!(is(0, [">2<", "newest, published just now"]) && is(1, [">1<", "behind version 2"]), "{now}");
    assert!(is(2, ["cannot be reached", " bad\">"]) && is(3, ["does not answer", " bad\">"]), "{now}");
    // The answer is kept for a while: another request asks nobody.
    request(ports[0], "GET", "/index.html", "");
    let heads = fs::read_to_string(log("behind")).unwrap().matches("GET /os.head").count();
    assert_eq!(heads, 1);
    assert!(!request(ports[0], "GET", "/page/os.html", "").text().contains("id=\"live\""));
}

/// Whoever writes a head can name any URL: only those that a known key signed are asked.
#[test]
fn mirrors_of_a_head_that_no_known_key_signed_are_not_asked() {
    let lab = Lab::with_mirrors(&["public"]);
    let asked = TcpListener::bind("127.0.0.1:0").unwrap();
    asked.set_nonblocking(true).unwrap();
    let toml = fs::read_to_string(lab.path("mirrors.toml")).unwrap();
    let read = format!("read = \"http://{}/\"\nread-back = false\n", asked.local_addr().unwrap());
    lab.write("mirrors.toml", toml + &read);
    lab.write("os.img", image(1));
    lab.publish(&["os.img"]);
    let before = Sha256::of(&fs::read(lab.path("public/index.html")).unwrap());
    fs::rename(lab.path("home/.config/hfl/keys"), lab.path("keys")).unwrap();
    let at = local(free_port());
    let _server = serve(&lab, at, &[]);
    let page = request(at, "GET", "/", "").text();
    assert!(page.contains("1 images are left out: their keys are not known here"), "{page}");
    assert!(asked.accept().is_err());
    assert_eq!(Sha256::of(&fs::read(lab.path("public/index.html")).unwrap()), before);
}
