//! Chromium, driven through chromedriver (W3C WebDriver), and plain HTTP requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::servers::{Daemon, free_port, local, program};

/// How long an answer may take on a loaded machine.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The value of a header; some servers write no space before it.
fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Sends a request on a connection of its own.
pub fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("a server");
    stream.set_read_timeout(Some(ANSWER_WAIT)).expect("a limit");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("a request");
    let mut answer = Vec::new();
    // chromedriver keeps the connection open: the length ends the answer.
    loop {
        let mut buffer = [0; 16 << 10];
        let read = stream.read(&mut buffer).expect("an answer");
        answer.extend_from_slice(&buffer[..read]);
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        let Some(end) = end else {
            assert!(read > 0, "{method} {path}: no answer");
            continue;
        };
        let headers = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = header(&headers, "content-length").and_then(|length| length.parse::<usize>().ok());
        let is_whole = method == "HEAD" || length.is_some_and(|length| answer.len() >= end + length);
        if read == 0 || is_whole {
            let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            return Answer { status, headers, body: answer.split_off(end) };
        }
    }
}

/// A browser with one empty profile.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _daemon: Daemon,
    _directory: tempfile::TempDir,
}

impl Browser {
    /// Starts it; or the reason why there is none.
    pub fn start() -> Result<Self, String> {
        let driver = program("chromedriver").ok_or("no chromedriver")?;
        let chromium = program("chromium").ok_or("no chromium")?;
        let (directory, at) = (tempfile::tempdir().expect("a directory"), local(free_port()));
        let mut command = Command::new(driver);
        command.arg(format!("--port={}", at.port()));
        // Without it, tests would leave the profile's remains in the home directory.
        command.env("HOME", directory.path());
        let daemon = Daemon::start(command, &directory.path().join("log"), at);
        let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--no-proxy-server",
            profile.as_str(),
        ];
        let options = json!({ "binary": chromium, "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let answer = request(at, "POST", "/session", &wanted.to_string());
        let value: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        let session = value["value"]["sessionId"].as_str().ok_or(format!("Chromium does not start: {value}"))?;
        let session = session.to_owned();
        Ok(Self { driver: at, session, _daemon: daemon, _directory: directory })
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        let answer = request(self.driver, "POST", &path, &body.to_string());
        let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer.status, 200, "{path}: {value}");
        value["value"].clone()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Sets the width of the window, and the colours that its user prefers.
    pub fn set(&self, width: u32, is_dark: bool) {
        let metrics = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// The value of the body of a function.
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Writes a picture of the whole page.
    pub fn picture(&self, file: &Path) {
        let taken = self.devtools(
            "Page.captureScreenshot",
            &json!({ "captureBeyondViewport": true, "clip": {
            "x": 0, "y": 0, "scale": 1,
            "width": self.run("return document.documentElement.clientWidth"),
            "height": self.run("return document.documentElement.scrollHeight"),
        } }),
        );
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().expect("a picture"));
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, bytes.expect("base64")).expect("a picture");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session.
        request(self.driver, "DELETE", &format!("/session/{}", self.session), "");
    }
}
