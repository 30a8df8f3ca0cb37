//! One control connection: commands and their replies.
//!
//! Every step has a deadline. A step that does not complete, by failure or cancellation, leaves the session unsettled:
//! the next reply may belong to another command, so the session is never reused.

use std::time::Duration;

use suppaftp::tokio::{AsyncRustlsStream, ImplAsyncFtpStream};
use suppaftp::types::{Mode, Response};
use suppaftp::{FtpError, Status};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Failure};

pub(super) type Control = ImplAsyncFtpStream<AsyncRustlsStream>;

/// Maximum wait for a reply.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A control connection that has logged in.
pub(super) struct Session {
    pub(super) control: Control,
    pub(super) settled: bool,
    pub(super) used: Instant,
    /// The server supports MLSD and MLST.
    pub(super) machine: bool,
    /// Left in another directory, where relative paths are wrong: not reusable.
    pub(super) astray: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("settled", &self.settled).finish_non_exhaustive()
    }
}

impl Session {
    /// Takes over a control connection after the greeting.
    pub fn new(control: Control) -> Self {
        Self { control, settled: true, used: Instant::now(), machine: false, astray: false }
    }

    /// True if the last step completed, so that another one can follow.
    pub fn is_settled(&self) -> bool {
        self.settled && !self.astray
    }

    /// Time since the last command.
    pub fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Sends one command and waits for its reply, of any kind.
    pub async fn ask(&mut self, command: &str) -> Result<Answer, Failure> {
        self.response(command).await.map(|response| Answer::from(&response))
    }

    pub(super) async fn response(&mut self, command: &str) -> Result<Response, Failure> {
        self.settled = false;
        let verb = command.split(' ').next().unwrap_or_default();
        // With no expected code, the library returns every reply unchanged.
        let asked = timeout(COMMAND_TIMEOUT, self.control.custom_command(command, &[])).await;
        match asked.map_err(|_| Failure::timed_out(&format!("waiting for the answer to {verb}")))? {
            Ok(response) | Err(FtpError::UnexpectedResponse(response)) => {
                self.settled = response.status != Status::NotAvailable;
                self.used = Instant::now();
                Ok(response)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Sends one command that must succeed.
    pub async fn demand(&mut self, command: &str) -> Result<Answer, Failure> {
        let answer = self.ask(command).await?;
        if answer.is_done() { Ok(answer) } else { Err(answer.refusal()) }
    }

    /// Queries the server's features and sets the transfer mode: binary, passive, to the address of the control
    /// connection. The address in a PASV reply is useless behind NAT, and useful to an attacker.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        let features = self.features().await?;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        self.machine = has("MLST") || has("MLSD");
        let peer = self.control.get_ref().await.peer_addr().map_err(|e| Failure::io(&e))?;
        // Some servers announce EPSV and refuse it.
        let extended = peer.is_ipv6() || (has("EPSV") && self.ask("EPSV").await?.code == 229);
        self.control.set_passive_nat_workaround(true);
        self.control.set_mode(if extended { Mode::ExtendedPassive } else { Mode::Passive });
        self.demand("TYPE I").await.map(drop)
    }

    /// The features the server announces; none if it does not know FEAT.
    async fn features(&mut self) -> Result<Vec<String>, Failure> {
        let response = self.response("FEAT").await?;
        let body = String::from_utf8_lossy(&response.body).to_ascii_uppercase();
        let names = body.lines().filter_map(|line| line.strip_prefix(' ')?.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }
}
