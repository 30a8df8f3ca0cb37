//! The WebDAV driver on hostile servers: a listener gives responses that no real server gives.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use bytes::Bytes;
use hfl::store::webdav::WebDav;
use hfl::store::{Store, StoreErrorKind};

use super::{anonymous, path};

/// A server that gives the same response to every request.
fn answering(answer: Vec<u8>) -> WebDav {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base%20dir/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(&answer);
        }
    });
    anonymous(&url)
}

fn multistatus(body: &str) -> WebDav {
    let head = format!("HTTP/1.1 207 Multi-Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    answering((head + body).into_bytes())
}

pub fn resource(href: &str, properties: &str) -> String {
    format!("<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop></d:propstat></d:response>")
}

pub fn in_multistatus(inner: &str) -> String {
    format!("<?xml version=\"1.0\"?><d:multistatus xmlns:d=\"DAV:\" xmlns:x=\"other\">{inner}</d:multistatus>")
}

#[tokio::test]
async fn hrefs_are_decoded_and_believed_only_below_the_collection() {
    let size = "<d:getcontentlength>7</d:getcontentlength>";
    let hrefs = [
        "/base%20dir/blocks/",
        "/base%20dir/blocks/a%2Bb",
        "https://another.example:8443/base%20dir/blocks/c",
        " /base dir/blocks/d\n",
        "/base%20dir/blocks/&#x65;",
        "<![CDATA[/base%20dir/blocks/f]]>",
        "/base%20dir/blocks/../../etc/passwd",
        "/base%20dir/blocks/%2e%2e%2fx",
        "/base%20dir/blocks/deeper/x",
        "/base%20dir/other/x",
        "/etc/passwd",
        "/base%20dir/blocks/.hidden",
        "/base%20dir/blocks/a&amp;b",
        "/base%20dir/blocks/%ff",
        "/base%20dir/blocksx",
        "",
    ];
    let all: String = hrefs.iter().map(|href| resource(href, size)).collect();
    let foreign = resource("/base%20dir/blocks/g", "<x:getcontentlength>9</x:getcontentlength>");
    let store = multistatus(&in_multistatus(&(all + &foreign.replace("d:href", "x:href"))));
    let mut found: Vec<_> = store.list("blocks").await.unwrap().into_iter().map(|e| (e.path, e.bytes)).collect();
    found.sort();
    let expected = ["a+b", "c", "d", "e", "f"].map(|name| (path(&format!("blocks/{name}")), 7));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn harmful_listings_are_refused() {
    let bomb = r#"<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>"#;
    let fine = resource("/base%20dir/a", "<d:getcontentlength>1</d:getcontentlength>");
    let whole = in_multistatus(&fine);
    let cases = [
        (format!("{bomb}{whole}"), "document type"),
        (in_multistatus(&resource("/base%20dir/&b;", "")), "unknown entity"),
        (in_multistatus(&"<d:x>".repeat(100_000)), "deep"),
        (in_multistatus(&resource(&"a".repeat(5000), "")), "text of more than"),
        (whole.replace("</d:multistatus>", ""), "ends in the middle"),
        (whole.replace("DAV:", "other:"), "no WebDAV multistatus"),
        ("<html><body>a page</body></html>".to_owned(), "no WebDAV multistatus"),
        ("no XML at all".to_owned(), "no WebDAV multistatus"),
        (in_multistatus("<d:response></d:href>"), "no XML"),
        (in_multistatus(&resource("/base%20dir/\u{fffd}", "")).replace('\u{fffd}', "&#0;"), "no XML"),
    ];
    for (body, reason) in cases {
        let error = multistatus(&body).list("").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let huge = answering(b"HTTP/1.1 207 M\r\ncontent-length: 99999999999\r\n\r\n<".to_vec());
    assert_eq!(huge.list("").await.unwrap_err().kind(), StoreErrorKind::TooLong);
    let cut = answering(b"HTTP/1.1 207 M\r\ncontent-length: 5000\r\n\r\n<".to_vec());
    assert_eq!(cut.list("").await.unwrap_err().kind(), StoreErrorKind::Unreachable);
}

/// A collection that lists itself as its own member forever. The walk ends, because the length of a path is limited.
#[tokio::test]
async fn a_tree_without_end_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let length = client.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            let asked = request.split(' ').nth(1).unwrap_or("/");
            let collection = "<d:resourcetype><d:collection/></d:resourcetype>";
            let body = in_multistatus(&resource(&format!("{asked}{}/", "n".repeat(9)), collection));
            let head = format!("HTTP/1.1 207 M\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = client.write_all((head + &body).as_bytes());
        }
    });
    assert_eq!(anonymous(&url).list("").await.unwrap(), []);
}

#[tokio::test]
async fn what_an_answer_means() {
    let cases = [
        ("507 Insufficient Storage", StoreErrorKind::Full, "full"),
        ("403 Forbidden", StoreErrorKind::Denied, "403"),
        ("423 Locked", StoreErrorKind::Locked, "another WebDAV client"),
        ("501 Not Implemented", StoreErrorKind::Protocol, "does not speak WebDAV here"),
        ("503 Service Unavailable", StoreErrorKind::Unreachable, "503"),
        ("429 Too Many Requests", StoreErrorKind::Unreachable, "429"),
        (
            "308 Moved\r\nlocation: https://u:secret@else.example/x",
            StoreErrorKind::Protocol,
            "to https://else.example,",
        ),
        ("418 Teapot", StoreErrorKind::Protocol, "418"),
    ];
    for (status, kind, said) in cases {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let store = answering(answer.into_bytes());
        let error = store.put_new(&path("os.head"), Bytes::from_static(b"head")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said) && !error.to_string().contains("secret"), "{error}");
    }
}
