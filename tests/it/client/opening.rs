//! Opening an image has the patience of reading it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use tokio::runtime::Runtime;

use crate::support::fixture::{Publish, image};
use crate::support::lab::{Lab, stderr};
use crate::support::mounting::{Mounted, cannot_mount, client, listener, run};

/// A server for one directory that answers every third request with 503, the first one included.
struct Busy {
    url: String,
    refused: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Busy {
    fn start(directory: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (asked, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let its = Arc::clone(&refused);
        let refuse = axum::middleware::from_fn(move |request: Request, next: Next| {
            let is_refused = asked.fetch_add(1, Relaxed).is_multiple_of(3);
            its.fetch_add(usize::from(is_refused), Relaxed);
            async move { if is_refused { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { next.run(request).await } }
        });
        let listener = listener(&runtime);
        let url = format!("http://{}", listener.local_addr().unwrap());
        let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(directory)).layer(refuse);
        runtime.spawn(async move { axum::serve(listener, files).await });
        Self { url, refused, runtime: Some(runtime) }
    }

    /// How many requests it refused since the last call.
    fn refused(&self) -> usize {
        self.refused.swap(0, Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[test]
fn one_answer_in_three_that_is_a_503_fails_no_command() {
    let lab = Lab::new();
    let bytes = image(4 << 20);
    Publish::default().write(&lab.path("a"), &bytes);
    let home = lab.path("home");
    let source = |server: &Busy| format!("{}/test", server.url);
    // Each begins with a server that refuses the first request.
    let server = Busy::start(&lab.path("a"));
    let fetched =
        run(&home, &["fetch", "--unsigned", "--cache", &lab.path("c").display().to_string(), &source(&server)]);
    assert!(fetched.status.success() && server.refused() > 1, "{}", stderr(&fetched));
    assert!(stderr(&fetched).contains("503 Service Unavailable; trying again"), "{}", stderr(&fetched));
    let server = Busy::start(&lab.path("a"));
    assert!(lab.ok(&["log", &source(&server), "--unsigned"]).contains("version"));
    assert_eq!(server.refused(), 1);
    let server = Busy::start(&lab.path("a"));
    let index = lab.files("a").into_iter().find(|file| file.ends_with(".idx")).unwrap();
    let url = format!("{}/{index}", server.url);
    assert!(lab.ok(&["diff", &url, &url]).contains("kept"));
    assert!(server.refused() >= 1);
    let server = Busy::start(&lab.path("a"));
    let socket = lab.path("socket");
    let mut nbd = client(&home);
    nbd.args(["nbd", "--unsigned", "--no-cache", &source(&server), "--socket"]).arg(&socket);
    let mut nbd = nbd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !socket.exists() && start.elapsed() < Duration::from_secs(20) {
        assert!(nbd.try_wait().unwrap().is_none(), "the export has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (is_there, refused) = (socket.exists(), server.refused());
    nbd.kill().unwrap();
    nbd.wait().unwrap();
    assert!(is_there && refused >= 1, "{refused}");
    if cannot_mount() {
        return;
    }
    for mode in ["soft", "hard"] {
        let server = Busy::start(&lab.path("a"));
        let arguments = ["--unsigned", "--no-cache", "--mode", mode];
        let mounted = Mounted::new(&home, &arguments, &[&server.url], "test");
        assert!(fs::read(mounted.file()).unwrap() == bytes);
        mounted.end();
        assert!(server.refused() > 1);
    }
}

#[test]
fn a_mirror_that_comes_back_in_time_is_waited_for_and_the_timeout_ends_it() {
    if cannot_mount() {
        return;
    }
    let lab = Lab::new();
    Publish::default().write(&lab.path("a"), &image(1 << 20));
    let server = crate::support::mounting::WebServer::new(&lab.path("a"));
    let proxy = crate::support::proxy::Proxy::start(server.address());
    let (home, url) = (lab.path("home"), format!("http://{}", proxy.address()));
    proxy.faults().unavailable(Some(1));
    let point = lab.path("point");
    fs::create_dir(&point).unwrap();
    let start = Instant::now();
    let arguments = ["--unsigned", "--no-cache", "--timeout", "2", "-f", &format!("{url}/test")];
    let ended = run(&home, &[&arguments[..], &[point.to_str().unwrap()]].concat());
    let took = start.elapsed();
    println!("{took:.2?}: {}", stderr(&ended));
    assert_eq!(ended.status.code(), Some(4));
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            proxy.faults().unavailable(None);
        });
        let mounted = Mounted::new(&home, &["--unsigned", "--no-cache"], &[&url], "test");
        assert!(mounted.end().contains("503 Service Unavailable; trying again"));
    });
}
