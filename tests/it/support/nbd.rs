//! Exports images over NBD for tests, and a minimal NBD client.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::mounting::client;

/// An export, ended on drop.
pub struct Exported {
    child: Child,
    socket: PathBuf,
    said: String,
    uri: String,
}

impl Exported {
    /// Exports `source` at a socket in `home`.
    pub fn new(home: &Path, arguments: &[&str], source: &str) -> Self {
        Self::by(client(home), home, arguments, source)
    }

    /// Like [`Exported::new`], with this client command.
    pub fn by(mut command: Command, home: &Path, arguments: &[&str], source: &str) -> Self {
        let socket = home.join("nbd socket");
        command.arg("nbd").args(arguments).args([source, "--unsigned", "--no-cache", "--quiet"]);
        command.arg("--socket").arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let report = serde_json::from_str::<serde_json::Value>(&said);
        let uri =
            report.map_or_else(|_| said.trim_end().to_owned(), |report| report["uri"].as_str().unwrap().to_owned());
        assert!(uri.ends_with("nbd%20socket"), "{said}");
        Self { child, socket, said, uri }
    }

    /// The line that it printed.
    pub fn said(&self) -> &str {
        &self.said
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Ends the server with SIGINT, as Ctrl-C does.
    pub fn end(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket.exists(), "the socket is removed");
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a client negotiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// `NBD_OPT_EXPORT_NAME`, simple replies: like the oldest clients.
    Old,
    /// `NBD_OPT_GO`, simple replies.
    Simple,
    /// `NBD_OPT_GO`, structured replies, block status.
    Structured,
}

/// A client connection to an export.
pub struct Plain {
    stream: UnixStream,
    asked: HashMap<u64, usize>,
    cookies: u64,
}

/// The reply to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub error: u32,
    pub data: Vec<u8>,
    /// Number of chunks of zeros in the data.
    pub holes: usize,
    /// Result of a block status request: bytes and state of each run.
    pub runs: Vec<(u32, u32)>,
}

impl Plain {
    /// A connection after the greeting, answered with `flags`.
    pub fn greeted(socket: &Path, flags: u32) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"NBDMAGICIHAVEOPT\0\x03");
        stream.write_all(&flags.to_be_bytes()).unwrap();
        Self { stream, asked: HashMap::new(), cookies: 0 }
    }

    /// A connection ready for requests, and the size of the export.
    pub fn open(socket: &Path, speech: Speech) -> (Self, u64) {
        let mut plain = Self::greeted(socket, 3);
        if speech == Speech::Old {
            plain.send_option(1, b"test");
            let export = plain.take(10);
            return (plain, u64::from_be_bytes(export[..8].try_into().unwrap()));
        }
        if speech == Speech::Structured {
            assert_eq!(plain.option(8, b""), [(1, Vec::new())]);
            let contexts = [&[0; 4][..], &[0, 0, 0, 1, 0, 0, 0, 15], b"base:allocation"].concat();
            assert_eq!(plain.option(10, &contexts), [(4, b"\0\0\0\x01base:allocation".to_vec()), (1, Vec::new())]);
        }
        let answers = plain.option(7, b"\0\0\0\x04test\0\0");
        let export = answers.iter().find(|(kind, data)| *kind == 3 && data[..2] == [0, 0]).unwrap();
        let size = u64::from_be_bytes(export.1[2..10].try_into().unwrap());
        (plain, size)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        self.stream.read_exact(&mut taken).unwrap();
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Whether the server has closed the connection without sending more.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    pub fn send_option(&mut self, option: u32, data: &[u8]) {
        self.send(&[b"IHAVEOPT", &option.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), data].concat());
    }

    /// The answers to an option, up to and including the final one: kinds and data.
    pub fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(option, data);
        self.answers(option)
    }

    pub fn answers(&mut self, option: u32) -> Vec<(u32, Vec<u8>)> {
        let mut answers = Vec::new();
        loop {
            assert_eq!((self.number(8), self.number(4)), (0x0003_e889_0455_65a9, option.into()));
            let (kind, bytes) = (self.number(4) as u32, self.number(4) as usize);
            answers.push((kind, self.take(bytes)));
            if kind == 1 || kind >= 0x8000_0000 {
                return answers;
            }
        }
    }

    /// Sends a request and returns its cookie.
    pub fn ask(&mut self, flags: u16, command: u16, offset: u64, bytes: u32) -> u64 {
        self.cookies += 1;
        let cookie = self.cookies;
        self.asked.insert(cookie, if command == 0 { bytes as usize } else { 0 });
        let words = [&0x2560_9513_u32.to_be_bytes()[..], &flags.to_be_bytes(), &command.to_be_bytes()];
        let rest = [&cookie.to_be_bytes()[..], &offset.to_be_bytes(), &bytes.to_be_bytes()];
        self.send(&[words.concat(), rest.concat()].concat());
        cookie
    }

    /// The next reply and the cookie of its request. Chunks of different replies must not be
    /// interleaved.
    pub fn reply(&mut self) -> (u64, Reply) {
        let mut reply = Reply::default();
        let mut offset_at_first = None;
        loop {
            if self.number(4) == 0x6744_6698 {
                reply.error = self.number(4) as u32;
                let cookie = self.number(8);
                let bytes = self.asked.remove(&cookie).expect("a request that was made");
                reply.data = self.take(if reply.error == 0 { bytes } else { 0 });
                return (cookie, reply);
            }
            let (last, kind, cookie) = (self.number(2), self.number(2), self.number(8));
            let bytes = self.number(4) as usize;
            let data = self.take(bytes);
            let number = |range: std::ops::Range<usize>| data[range].iter().fold(0, |n, &b| n << 8 | u64::from(b));
            match kind {
                0 => {}
                1 | 2 => {
                    let offset = number(0..8);
                    let first = *offset_at_first.get_or_insert(offset);
                    assert_eq!(offset - first, reply.data.len() as u64, "in order");
                    if kind == 1 {
                        reply.data.extend_from_slice(&data[8..]);
                    } else {
                        reply.data.resize(reply.data.len() + number(8..12) as usize, 0);
                        reply.holes += 1;
                    }
                }
                5 => {
                    let runs = (4..bytes).step_by(8).map(|at| (number(at..at + 4), number(at + 4..at + 8)));
                    reply.runs = runs.map(|(bytes, state)| (bytes as u32, state as u32)).collect();
                }
                0x8001 => reply.error = number(0..4) as u32,
                _ => panic!("a chunk of kind {kind}"),
            }
            if last == 1 {
                assert!(self.asked.remove(&cookie).is_some());
                return (cookie, reply);
            }
        }
    }

    /// Sends a request and waits for its reply.
    pub fn call(&mut self, flags: u16, command: u16, offset: u64, bytes: u32) -> Reply {
        let cookie = self.ask(flags, command, offset, bytes);
        let (answered, reply) = self.reply();
        assert_eq!(answered, cookie);
        reply
    }

    pub fn read(&mut self, offset: u64, bytes: u32) -> Reply {
        self.call(0, 0, offset, bytes)
    }
}
