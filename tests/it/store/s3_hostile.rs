//! The S3 driver on servers that lie, stall or send garbage.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::format::layout::RepoPath;
use hfl::store::s3::S3;
use hfl::store::{Exclusive, Fetch as _, Put, Store, StoreErrorKind, Swap};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::servers::s3::config;

fn path() -> RepoPath {
    "os.head".parse().expect("a path")
}

fn body() -> Bytes {
    Bytes::from_static(b"twelve bytes")
}

/// The ETag of that body: its MD5.
const TAG: &str = "etag: \"c91fa94e14cf2fa5474beceff788c0dc\"\r\n";

/// The response to a request, given the request's head.
type Answer = fn(&str) -> Vec<u8>;

/// A store on a server that gives these responses.
async fn store(answer: Answer) -> S3 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer));
        }
    });
    S3::open(config(&endpoint, "")).await.expect("a store")
}

async fn serve(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let bytes = stream.read(&mut piece).await?;
        if bytes == 0 {
            return Ok(());
        }
        read.extend_from_slice(&piece[..bytes]);
        let head = String::from_utf8_lossy(&read).into_owned();
        let Some((head, rest)) = head.split_once("\r\n\r\n") else { continue };
        if head.starts_with("PUT") && rest.len() < body().len() {
            continue;
        }
        let said = answer(head);
        stream.write_all(&said).await?;
        if said.ends_with(ENDLESS) {
            loop {
                stream.write_all(&[b' '; 65_536]).await?;
            }
        }
        if said.ends_with(BROKEN) {
            return Ok(());
        }
        read.clear();
    }
}

/// The suffix of a response that never ends.
const ENDLESS: &[u8] = b"<!-- endless -->";
/// The suffix of a response after which the connection breaks.
const BROKEN: &[u8] = b"<!-- broken -->";

fn says(status: &str, headers: &str, text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

fn error(status: &str, code: &str) -> Vec<u8> {
    says(status, "", &format!("<Error><Code>{code}</Code><Message>your token was s3cret</Message></Error>"))
}

#[tokio::test]
async fn every_refusal_has_its_kind() {
    use StoreErrorKind::{Denied, Full, NotFound, Other, Protocol, Unreachable};
    let cases: [(Answer, StoreErrorKind, &str); 17] = [
        (|_| error("404 Not Found", "NoSuchKey"), NotFound, "404 NoSuchKey"),
        (|_| error("404 Not Found", "NoSuchBucket"), Other, "the bucket does not exist"),
        (|_| error("403 Forbidden", "AccessDenied"), Denied, "403 AccessDenied"),
        (|_| error("403 Forbidden", "SignatureDoesNotMatch"), Denied, "403 SignatureDoesNotMatch"),
        (|_| error("400 Bad Request", "ExpiredToken"), Denied, "the session token is not valid"),
        (|_| says("403 Forbidden", "", ""), Denied, "access denied"),
        (|_| error("403 Forbidden", "RequestTimeTooSkewed"), Denied, "the clock of this machine is wrong"),
        (|_| error("503 Service Unavailable", "SlowDown"), Unreachable, "503 SlowDown"),
        (|_| says("502 Bad Gateway", "", "<html>oops"), Unreachable, "502"),
        (|_| error("400 Bad Request", "RequestTimeout"), Unreachable, "400 RequestTimeout"),
        (|_| error("400 Bad Request", "BadDigest"), Unreachable, "damaged on their way"),
        (|_| error("409 Conflict", "ConditionalRequestConflict"), Unreachable, "another writer was at work"),
        (|_| error("507 Insufficient Storage", "Whatever"), Full, "no space left"),
        (|_| error("403 Forbidden", "QuotaExceeded"), Full, "no space left"),
        (|_| says("301 Moved", "x-amz-bucket-region: eu-north-1\r\n", ""), Other, "it is in eu-north-1"),
        (|_| error("400 Bad Request", "Inv\u{1b}[31malid<!-- -->"), Protocol, "400"),
        (|_| b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), Unreachable, ""),
    ];
    for (answer, kind, expected) in cases {
        let error = store(answer).await.put_replace(&path(), body()).await.expect_err("refused");
        println!("{error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        let shown = error.to_string();
        assert!(shown.starts_with("s3://hfl-images/os.head: ") && !shown.contains("s3cret"), "{shown}");
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

#[tokio::test]
async fn a_store_without_conditions_is_looked_at_first() {
    let store = store(|head| match head.split(' ').next() {
        Some("PUT") if head.contains("\r\nif-") => error("501 Not Implemented", "NotImplemented"),
        Some("PUT") => says("200 OK", TAG, ""),
        _ if head.contains("/images") => b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\netag: \"x\"\r\n\r\n".to_vec(),
        _ => error("404 Not Found", "NoSuchKey"),
    })
    .await;
    assert_eq!(store.exclusive(), Exclusive::Claimed);
    assert_eq!(store.swap(&path(), None, body()).await.expect("written"), Swap::Done);
    assert_eq!(store.put_new(&path(), body()).await.expect("written"), Put::Created);
    assert_eq!(store.exclusive(), Exclusive::CheckThenWrite);
    assert_eq!(store.put_new(&path(), body()).await.expect("written"), Put::Created);
}

#[tokio::test]
async fn every_upload_carries_its_digest() {
    let store = store(|head| match head.to_lowercase().contains("content-md5: yr+pthtpl6vhs+zv94ja3a==") {
        true => says("200 OK", TAG, ""),
        false => error("400 Bad Request", "InvalidRequest"),
    })
    .await;
    store.put_replace(&path(), body()).await.expect("the digest is there");
    assert_eq!(store.put_new(&path(), body()).await.expect("the digest is there"), Put::Created);
}

/// A store that ignores the digest and keeps only half of an object. The driver checks the stored size, and removes a
/// new object that is truncated.
#[tokio::test]
async fn an_object_that_was_cut_is_told_and_removed() {
    static DELETED: AtomicUsize = AtomicUsize::new(0);
    let half = store(|head| match head.split(' ').next() {
        Some("PUT") => says("200 OK", "etag: \"another\"\r\n", ""),
        Some("HEAD") => b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n".to_vec(),
        Some("DELETE") => {
            DELETED.fetch_add(1, Ordering::Relaxed);
            says("204 No Content", "", "")
        }
        _ => error("404 Not Found", "NoSuchKey"),
    })
    .await;
    let error = half.put_new(&path(), body()).await.expect_err("half of it");
    assert!(error.to_string().contains("6 of 12 bytes arrived"), "{error}");
    assert_eq!(DELETED.load(Ordering::Relaxed), 1, "it does not stay");
    half.put_replace(&path(), body()).await.expect_err("half of it");
    assert_eq!(DELETED.load(Ordering::Relaxed), 1, "what replaces a head is not removed: nothing would be there");
    let encrypted = store(|head| match head.split(' ').next() {
        Some("HEAD") => b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n".to_vec(),
        _ => says("200 OK", "etag: \"another\"\r\n", ""),
    })
    .await;
    assert_eq!(encrypted.put_new(&path(), body()).await.expect("all of it"), Put::Created);
}

/// A 404 from anything but the store does not mean that an object is missing.
#[tokio::test]
async fn only_the_store_says_that_an_object_is_missing() {
    for not_found in ["", "<html>no such page</html>"] {
        let elsewhere: Answer = match not_found {
            "" => |_| says("404 Not Found", "", ""),
            _ => |_| says("404 Not Found", "", "<html>no such page</html>"),
        };
        let error = store(elsewhere).await.get(&path(), 100).await.expect_err("no store");
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
        store(elsewhere).await.swap(&path(), None, body()).await.expect_err("no store");
    }
    let error = store(|_| error("404 Not Found", "NoSuchKey")).await.get(&path(), 100).await.expect_err("nothing");
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn endless_answers_come_to_an_end() {
    let started = Instant::now();
    let endless = |head: &str| -> Vec<u8> {
        let status = if head.contains("list-type") { "200 OK" } else { "500 Oops" };
        let mut said = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n").into_bytes();
        said.extend_from_slice(ENDLESS);
        said
    };
    let endless = store(endless).await;
    let error = endless.list("blocks").await.expect_err("too long");
    assert_eq!((error.kind(), error.why()), (StoreErrorKind::Protocol, "the answer is too long"));
    assert_eq!(endless.put_new(&path(), body()).await.expect_err("an error").kind(), StoreErrorKind::Unreachable);
    let endless = store(|_| [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", ENDLESS].concat()).await;
    for error in [
        endless.put_new(&path(), body()).await.expect_err("too long"),
        endless.put_replace(&path(), body()).await.expect_err("too long"),
    ] {
        assert_eq!((error.kind(), error.why()), (StoreErrorKind::Protocol, "the answer is too long"));
    }
    let error = endless.get(&path(), 100_000).await.expect_err("too long");
    assert_eq!(error.kind(), StoreErrorKind::TooLong, "{error}");
    println!("all of them after {:.2?}", started.elapsed());
}

#[tokio::test]
async fn listings_that_go_in_circles_or_make_no_sense_are_refused() {
    const CIRCLE: &str = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>\
        <Contents><Key>blocks/aa</Key><Size>1</Size></Contents></ListBucketResult>";
    const NOWHERE: &str = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    for answer in [|_: &str| says("200 OK", "", CIRCLE), |_: &str| says("200 OK", "", NOWHERE)] {
        let error = store(answer).await.list("blocks").await.expect_err("refused");
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("does not say where"), "{error}");
    }
    for answer in [|_: &str| says("200 OK", "", "<html>"), |_: &str| says("200 OK", "", "\0\u{1}<Contents><")] {
        let error = store(answer).await.list("blocks").await.expect_err("refused");
        println!("{error}");
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{error}");
    }
}

#[tokio::test]
async fn broken_answers_are_worth_another_try() {
    let broken = |_: &str| [b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", BROKEN].concat();
    let broken = store(broken).await;
    for error in [
        broken.get(&path(), 1000).await.expect_err("broken"),
        broken.list("blocks").await.expect_err("broken"),
        broken.put_new(&path(), body()).await.expect_err("broken"),
    ] {
        println!("{error}");
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let store = store(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nsome".to_vec()).await;
    let started = Instant::now();
    let error = store.get(&path(), 1000).await.expect_err("stalled");
    println!("given up after {:.2?}", started.elapsed());
    assert_eq!((error.kind(), error.why()), (StoreErrorKind::Unreachable, "timed out"));
    assert!(started.elapsed() < Duration::from_secs(15));
}
