//! Data connections, one at a time per control connection: store, retrieve, list.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use suppaftp::tokio::{AsyncRustlsStream, TransferStream};
use suppaftp::{FtpError, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failure;
use super::listing::{self, Listed};
use super::session::{COMMAND_TIMEOUT, Session};
use crate::store::StoreErrorKind;

type Transfer = TransferStream<AsyncRustlsStream>;

/// Minimum throughput for deadlines, in bytes per second; one [`COMMAND_TIMEOUT`] is added.
const SLOWEST: u64 = 16 << 10;
/// Wait for the server to close a data connection after an upload; no harm if it does not.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of a line of a listing, in bytes: a path and its facts.
const LINE_MAX_BYTES: usize = 4096;

impl Session {
    /// Stores a file; it is incomplete until this returns.
    pub async fn store(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let mut transfer = self.open(&format!("STOR {path}")).await?;
        let sent = timeout(allowed(bytes.len() as u64), send(&mut transfer, bytes)).await;
        let sent = sent.map_err(|_| Failure::timed_out("sending"))?;
        // A server that cannot continue closes the data connection and reports why on the control connection.
        self.finish(transfer).await?;
        if let Err(e) = sent {
            self.settled = false;
            return Err(Failure::io(&e));
        }
        Ok(())
    }

    /// Retrieves the file at `path`. A failure of the kind "not found" is certain.
    pub async fn retrieve(&mut self, path: &str, max_bytes: u64) -> Result<Bytes, Failure> {
        match self.receive(path, max_bytes).await {
            Err(refusal) => Err(self.explained(path, refusal).await?),
            received => received,
        }
    }

    async fn receive(&mut self, path: &str, max_bytes: u64) -> Result<Bytes, Failure> {
        let mut transfer = self.open(&format!("RETR {path}")).await?;
        let (started, mut body) = (Instant::now(), BytesMut::new());
        loop {
            let until = started + allowed(body.len() as u64);
            let read = timeout_at(until, transfer.read_buf(&mut body)).await;
            match read.map_err(|_| Failure::timed_out("receiving"))?.map_err(|e| Failure::io(&e))? {
                0 => break,
                _ if body.len() as u64 > max_bytes => {
                    return Err(Failure::new(StoreErrorKind::TooLong, format!("more than {max_bytes} bytes")));
                }
                _ => {}
            }
        }
        self.finish(transfer).await?;
        Ok(body.freeze())
    }

    /// Lists a directory, line by line; the empty path is the current one.
    pub async fn list(
        &mut self,
        directory: &str,
        mut line: impl FnMut(Listed) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let verb = if self.machine { "MLSD" } else { "LIST" };
        let parse: fn(&str) -> Option<Listed> = if self.machine { listing::machine_line } else { listing::human_line };
        let mut transfer = self.open(format!("{verb} {directory}").trim_end()).await?;
        let (started, mut received, mut buffer) = (Instant::now(), 0, BytesMut::new());
        loop {
            let until = started + allowed(received);
            let read = timeout_at(until, transfer.read_buf(&mut buffer)).await;
            let read = read.map_err(|_| Failure::timed_out("receiving a listing"))?.map_err(|e| Failure::io(&e))?;
            received += read as u64;
            if read == 0 && !buffer.is_empty() {
                buffer.extend_from_slice(b"\n");
            }
            whole_lines(&mut buffer, parse, &mut line)?;
            if buffer.len() > LINE_MAX_BYTES {
                return Err(Failure::new(StoreErrorKind::Protocol, "a line of a listing that does not end"));
            }
            if read == 0 {
                break;
            }
        }
        self.finish(transfer).await
    }

    /// Opens a data connection for `command`.
    async fn open(&mut self, command: &str) -> Result<Transfer, Failure> {
        self.settled = false;
        // The library treats every such transfer as a download. That suits uploads too: at their end the server's reply
        // decides, not whether the data connection could still be closed.
        let about_to = [Status::AboutToSend, Status::AlreadyOpen];
        let opened = timeout(COMMAND_TIMEOUT, self.control.custom_data_command(command, &about_to)).await;
        match opened.map_err(|_| Failure::timed_out("opening a data connection"))? {
            Ok((_, transfer)) => Ok(transfer),
            Err(e) => {
                // No further reply follows a refusal.
                self.settled =
                    matches!(&e, FtpError::UnexpectedResponse(refusal) if refusal.status != Status::NotAvailable);
                Err(e.into())
            }
        }
    }

    /// Closes the data connection and reads the final reply.
    async fn finish(&mut self, transfer: Transfer) -> Result<(), Failure> {
        let finished = timeout(COMMAND_TIMEOUT, transfer.finish()).await;
        let finished = finished.map_err(|_| Failure::timed_out("waiting for the end of a transfer"))?;
        self.settled = match &finished {
            Ok(()) => true,
            Err(FtpError::UnexpectedResponse(refusal)) => refusal.status != Status::NotAvailable,
            Err(_) => false,
        };
        self.used = Instant::now();
        finished.map_err(Failure::from)
    }
}

/// Time limit for a transfer of `bytes`.
fn allowed(bytes: u64) -> Duration {
    COMMAND_TIMEOUT + Duration::from_secs(bytes / SLOWEST)
}

/// Sends everything and shuts down our side, then waits for the server to close its own: closing a connection with
/// unread data resets it, which some servers take for a truncated upload.
async fn send(transfer: &mut Transfer, bytes: &[u8]) -> std::io::Result<()> {
    transfer.write_all(bytes).await?;
    transfer.flush().await?;
    transfer.shutdown().await?;
    let mut rest = [0; 256];
    let _ = timeout(CLOSE_TIMEOUT, async { while matches!(transfer.read(&mut rest).await, Ok(1..)) {} }).await;
    Ok(())
}

/// Removes the complete lines from `buffer` and parses them.
fn whole_lines(
    buffer: &mut BytesMut,
    parse: fn(&str) -> Option<Listed>,
    line: &mut impl FnMut(Listed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while let Some(end) = memchr::memchr(b'\n', buffer) {
        let text = buffer.split_to(end + 1);
        // A name that is not UTF-8 is not an object's, and does not become one with replacement characters.
        let text = String::from_utf8_lossy(&text);
        match text.trim_end_matches(['\r', '\n']) {
            "" => {}
            text => line(parse(text).ok_or_else(|| unknown_line(text))?)?,
        }
    }
    Ok(())
}

fn unknown_line(line: &str) -> Failure {
    let line: String = line.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    Failure::new(StoreErrorKind::Protocol, format!("a listing in a form that is not known: {line}"))
}
