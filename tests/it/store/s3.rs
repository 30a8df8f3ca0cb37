//! The S3 driver on real servers.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hfl::config::Mirrors;
use hfl::format::layout::RepoPath;
use hfl::store::Secret;
use hfl::store::http::{Http, HttpClient};
use hfl::store::s3::{S3, S3Config, S3Keys};
use hfl::store::{Exclusive, Fetch as _, Put, Store, StoreErrorKind};
use tokio::task::JoinSet;

use crate::support::conformance;
use crate::support::lab::{Random, skipped};
use crate::support::servers::s3::{ACCESS_KEY, BUCKET, SECRET_KEY, Server, config};
use crate::support::servers::{free_port, rclone_s3, seaweed};

const NO_SEAWEED: &str = "SeaweedFS (weed) is not installed";

fn path(text: &str) -> RepoPath {
    text.parse().expect("a path")
}

fn block(number: u64) -> RepoPath {
    path(&format!("blocks/{:02x}/{:02x}{number:038x}", number % 256, number % 256))
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_conforms_and_is_strict() {
    let Some(server) = seaweed::start() else { return skipped(NO_SEAWEED) };
    conformance::all(Arc::new(server.open("").await)).await;
    let store = Arc::new(server.open("a/prefix").await);
    assert_eq!(store.location(), format!("s3://{BUCKET}/a/prefix"));
    conformance::all(store.clone()).await;
    assert_eq!(store.exclusive(), Exclusive::Claimed);

    assert_eq!(store.put_new(&block(1), Bytes::from_static(b"one")).await.unwrap(), Put::Created);
    assert_eq!(store.put_new(&block(1), Bytes::from_static(b"two")).await.unwrap(), Put::Exists);
    let mut racers = JoinSet::new();
    for i in 0..16_u8 {
        let store = store.clone();
        racers.spawn(async move { store.put_new(&block(2), vec![i; 100].into()).await.unwrap() });
    }
    let winners = racers.join_all().await.into_iter().filter(|put| *put == Put::Created).count();
    assert_eq!(winners, 1);

    let big: Bytes = Random(7).bytes(4 << 20).into();
    assert_eq!(store.put_new(&block(3), big.clone()).await.unwrap(), Put::Created);
    assert_eq!(store.get(&block(3), 4 << 20).await.unwrap(), big);
    let table = Mirrors::parse(&server.table("a/prefix").replacen("a/prefix", "one", 1)).expect("a mirrors.toml");
    let public = table.mirrors[0].read.clone().expect("a public URL");
    assert_eq!(Http::new(HttpClient::new().unwrap(), public).get(&block(3), 4 << 20).await.unwrap(), big);
    listings_are_of_directories(&server).await;
    headers_are_stored(&server).await;
    wrong_keys_are_denied(&server.endpoint).await;
    a_missing_bucket_is_named(&server.endpoint).await;
}

/// A listing contains what is below a directory, nothing beside it, and nothing that is not a path of a repository.
async fn listings_are_of_directories(server: &Server) {
    let store = server.open("listed").await;
    for at in ["blocks/00/x", "blocks2/00/x", "blocks"] {
        store.put_replace(&path(at), Bytes::from_static(b"12345")).await.unwrap();
    }
    for key in ["listed/blocks/.hidden", "listed/blocks/a b", "listed/blocks/directory/", "listed2/blocks/y"] {
        server.client().put_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let listed = store.list("blocks").await.unwrap();
    assert_eq!(listed.iter().map(|e| (e.path.as_str(), e.bytes)).collect::<Vec<_>>(), [("blocks/00/x", 5)]);
    assert_eq!(store.list("").await.unwrap().len(), 3);
}

async fn headers_are_stored(server: &Server) {
    const FOR_EVER: &str = "public, max-age=31536000, immutable";
    const SHORTLY: &str = "public, max-age=30";
    let store = server.open("headers").await;
    let block = block(4).to_string();
    for (at, media_type, cache_control) in [
        (block.as_str(), "application/octet-stream", FOR_EVER),
        ("index/debian/42-1f3a9c2b7d10.idx", "text/plain; charset=utf-8", FOR_EVER),
        ("index/debian/42-1f3a9c2b7d10.idx.minisig", "text/plain; charset=utf-8", FOR_EVER),
        ("client/hfl-mount-1.0.0-x86_64-linux-1f3a9c2b7d10", "application/octet-stream", FOR_EVER),
        ("debian.head", "text/plain; charset=utf-8", SHORTLY),
        ("images", "text/plain; charset=utf-8", SHORTLY),
        ("index.html", "text/html; charset=utf-8", SHORTLY),
        ("hfl.css", "text/css; charset=utf-8", SHORTLY),
        ("page/os.atom", "application/atom+xml; charset=utf-8", SHORTLY),
        ("boot/debian/boot.ipxe", "text/plain; charset=utf-8", SHORTLY),
        ("boot/debian/42/vmlinuz-1f3a9c2b7d10", "application/octet-stream", FOR_EVER),
    ] {
        store.put_new(&path(at), Bytes::from_static(b"x")).await.unwrap();
        let key = format!("headers/{at}");
        let head = server.client().head_object().bucket(BUCKET).key(&key).send().await.unwrap();
        assert_eq!((head.content_type(), head.cache_control()), (Some(media_type), Some(cache_control)), "{at}");
    }
    let chosen = S3Config {
        cache_control: Some("max-age=7".into()),
        head_cache_control: Some("no-store".into()),
        storage_class: Some("STANDARD_IA".into()),
        ..server.config("chosen")
    };
    let store = S3::open(chosen).await.unwrap();
    for (at, cache_control, class) in [(&block, "max-age=7", Some("STANDARD_IA")), (&"x.head".into(), "no-store", None)]
    {
        store.put_replace(&path(at), Bytes::from_static(b"x")).await.unwrap();
        let head = server.client().head_object().bucket(BUCKET).key(format!("chosen/{at}")).send().await.unwrap();
        assert_eq!(head.cache_control(), Some(cache_control), "{at}");
        let stored = head.storage_class().map(|class| class.as_str()).filter(|class| *class != "STANDARD");
        assert_eq!(stored, class, "{at}");
    }
}

async fn wrong_keys_are_denied(endpoint: &str) {
    let (wrong, token) = ("a-wrong-secret-that-nobody-may-see", "a-token-that-nobody-may-see");
    let keys = |access_key: &str, session_token: Option<&str>| S3Keys {
        access_key: access_key.into(),
        secret_key: Secret::new(wrong),
        session_token: session_token.map(Secret::new),
    };
    for (access_key, token, code) in [
        (ACCESS_KEY, None, "403 SignatureDoesNotMatch"),
        (ACCESS_KEY, Some(token), "403 "),
        ("nobody", None, "403 InvalidAccessKeyId"),
    ] {
        let config = S3Config { credentials: Some(keys(access_key, token)), ..config(endpoint, "x") };
        let shown = format!("{config:?}");
        let store = S3::open(config).await.unwrap();
        let errors = [
            store.put_new(&block(1), Bytes::from_static(b"x")).await.unwrap_err(),
            store.get(&block(1), 10).await.unwrap_err(),
            store.size(&block(1)).await.unwrap_err(),
            store.list("blocks").await.unwrap_err(),
            store.delete(&block(1)).await.unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
        }
        println!("denied: {}", errors[0]);
        assert!(errors[0].to_string().contains(code), "{}", errors[0]);
        let all = format!("{shown} {store:?} {errors:?} {errors:#?}");
        assert!(!all.contains(wrong) && !token.is_some_and(|token| all.contains(token)), "{all}");
    }
}

/// Reads from a bucket that does not exist. Only reads, because SeaweedFS creates the bucket on a write.
async fn a_missing_bucket_is_named(endpoint: &str) {
    let store = S3::open(S3Config { bucket: "nobody-made-this".into(), ..config(endpoint, "") }).await.unwrap();
    for error in [store.get(&block(1), 10).await.unwrap_err(), store.list("").await.unwrap_err()] {
        println!("missing: {error}");
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error}");
        assert!(error.to_string().starts_with("s3://nobody-made-this"), "{error}");
        assert!(error.to_string().contains("the bucket does not exist"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_conforms_though_it_is_lax() {
    let Some(server) = rclone_s3::start() else { return skipped("rclone is not installed") };
    conformance::all(Arc::new(server.open("a/prefix").await)).await;
    a_missing_bucket_is_named(&server.endpoint).await;
    wrong_keys_are_denied(&server.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_private_authority_are_trusted_where_they_are_named() {
    let Some(server) = rclone_s3::start_tls() else { return skipped("rclone or openssl is not installed") };
    let trusting = server.open("tls").await;
    trusting.put_replace(&block(1), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(&trusting.get(&block(1), 1).await.unwrap()[..], b"x");
    let store = S3::open(S3Config { ca_file: None, ..server.config("tls") }).await.unwrap();
    let error = store.get(&block(1), 1).await.unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_unreachable() {
    let Some(server) = seaweed::start() else { return skipped(NO_SEAWEED) };
    let store = server.open("dies").await;
    let body: Bytes = Random(8).bytes(1 << 20).into();
    let (mut writers, written) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for writer in 0..8_u64 {
        let (store, body, written) = (store.clone(), body.clone(), Arc::clone(&written));
        writers.spawn(async move {
            for number in writer << 32.. {
                match store.put_new(&block(number), body.clone()).await {
                    Ok(_) => written.fetch_add(1, Ordering::Relaxed),
                    Err(e) => return e,
                };
            }
            unreachable!("the server dies")
        });
    }
    while written.load(Ordering::Relaxed) < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    server.kill();
    let ended = writers.join_all().await;
    println!("noticed after {:.2?}: {}", started.elapsed(), ended[0]);
    for error in ended {
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_unreachable_at_once() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let store = S3::open(config(&endpoint, "")).await.unwrap();
    let started = Instant::now();
    let error = store.put_new(&block(1), Bytes::from_static(b"x")).await.unwrap_err();
    println!("refused after {:.2?}: {error}", started.elapsed());
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_said() {
    let lab = crate::support::lab::Lab::new();
    let ca_file = |name: &str, text: &str| {
        let ca_file = Some(lab.write(name, text));
        S3Config { ca_file, ..config("https://127.0.0.1:1", "") }
    };
    let missing = S3Config { ca_file: Some(lab.path("missing.pem")), ..config("https://127.0.0.1:1", "") };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (config, expected) in [
        (config("127.0.0.1:1", ""), "s3://hfl-images: the endpoint is not a URL"),
        (config("http://user:word@127.0.0.1", ""), "the endpoint has no place for a user"),
        (missing, "missing.pem: no such file or directory"),
        (ca_file("empty.pem", "nothing"), "empty.pem: holds no certificate"),
        (ca_file("broken.pem", broken), "broken.pem: "),
        (S3Config { bucket: String::new(), ..config("http://127.0.0.1:1", "") }, "s3://: "),
    ] {
        let error = S3::open(config).await.unwrap_err();
        println!("{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("word"), "{error}");
    }
}

/// The variable that gives the store's endpoint to this test when it starts itself as a child.
const CHILD: &str = "HFL_TEST_CREDENTIALS_ENDPOINT";

/// The result of opening a store in a child with this environment and no other `AWS_` variable.
fn opened(endpoint: &str, home: &std::path::Path, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "store::s3::credentials_are_found_where_aws_programs_look", "--nocapture"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command.env(CHILD, endpoint).env("HOME", home).envs(environment.iter().copied());
    let output = command.output().expect("this program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().find_map(|line| line.split_once("opened: ")).expect("an answer").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_found_where_aws_programs_look() {
    if let Ok(endpoint) = std::env::var(CHILD) {
        let config = S3Config { credentials: None, ..config(&endpoint, "x") };
        let said = match S3::open(config).await {
            Ok(store) => format!("{:?}", store.put_replace(&block(1), Bytes::from_static(b"x")).await),
            Err(e) => format!("{:?} {e}", e.kind()),
        };
        return println!("\nopened: {said}");
    }
    let Some(server) = rclone_s3::start() else { return skipped("rclone is not installed") };
    let lab = crate::support::lab::Lab::new();
    let home = lab.path("home");
    std::fs::create_dir(&home).expect("a directory");
    let in_home = |environment: &[(&str, &str)]| opened(&server.endpoint, &home, environment);

    let started = Instant::now();
    // An instance metadata service, from which a cloud instance would get its role. It never responds.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", listener.local_addr().expect("an address"));
    for environment in [&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.as_str())][..], &[]] {
        let none = in_home(environment);
        println!("no credentials after {:.2?}: {none}", started.elapsed());
        assert!(none.starts_with("Denied s3://hfl-images/x: no credentials found"), "{none}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    assert_eq!(in_home(&[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]), "Ok(())");
    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    lab.write("home/.aws/credentials", format!("[mine]\n{keys}"));
    assert_eq!(in_home(&[("AWS_PROFILE", "mine")]), "Ok(())");
    let process = format!(r#"echo '{{"Version":1,"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}"}}'"#);
    let fails = "echo a-word-of-the-program >&2; false";
    let config =
        format!("[profile told]\ncredential_process = {process}\n[profile fails]\ncredential_process = {fails}\n");
    lab.write("home/.aws/config", config);
    assert_eq!(in_home(&[("AWS_PROFILE", "told")]), "Ok(())");
    let failed = in_home(&[("AWS_PROFILE", "fails")]);
    println!("{failed}");
    assert!(failed.starts_with("Denied s3://hfl-images/x: the credential_process"), "{failed}");
    let unknown = in_home(&[("AWS_PROFILE", "unknown")]);
    println!("{unknown}");
    assert!(unknown.starts_with("Denied s3://hfl-images/x: "), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_one_at_a_time_and_many() {
    const OBJECTS: u64 = 2000;
    let Some(server) = seaweed::start() else { return skipped(NO_SEAWEED) };
    let store = server.open("speed").await;
    let started = Instant::now();
    for i in 0..OBJECTS {
        store.put_new(&block(i), Bytes::from_static(b"a small object")).await.unwrap();
    }
    let single = started.elapsed();
    let room = Arc::new(tokio::sync::Semaphore::new(store.jobs()));
    let mut running = JoinSet::new();
    let started = Instant::now();
    for i in OBJECTS..2 * OBJECTS {
        let (store, room) = (store.clone(), Arc::clone(&room));
        running.spawn(async move {
            let _room = room.acquire().await;
            store.put_new(&block(i), Bytes::from_static(b"a small object")).await.unwrap()
        });
    }
    running.join_all().await;
    let many = started.elapsed();
    let started = Instant::now();
    assert_eq!(store.list("blocks").await.unwrap().len() as u64, 2 * OBJECTS);
    println!(
        "SeaweedFS: {OBJECTS} small objects one at a time in {single:.2?}, {} at once in {many:.2?}; listed in {:.2?}",
        store.jobs(),
        started.elapsed()
    );
}
