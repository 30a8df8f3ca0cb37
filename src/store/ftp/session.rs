//! One control connection: commands and their answers.
//!
//! Every step has a deadline. A step that did not come to its end, because it failed or because nobody waits for it
//! any longer, leaves the session unsettled: what the server says next may be the answer to something else, so such a
//! session is never used again.

use std::time::Duration;

use suppaftp::tokio::{AsyncRustlsStream, ImplAsyncFtpStream};
use suppaftp::types::{Mode, Response};
use suppaftp::{FtpError, Status};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Failure};

pub(super) type Control = ImplAsyncFtpStream<AsyncRustlsStream>;

/// The longest wait for an answer.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A control connection that has logged in.
pub(super) struct Session {
    pub(super) control: Control,
    pub(super) settled: bool,
    pub(super) used: Instant,
    /// The server knows MLSD and MLST.
    pub(super) machine: bool,
    /// Left in a directory where paths mean something else: of no use any more.
    pub(super) astray: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("settled", &self.settled).finish_non_exhaustive()
    }
}

impl Session {
    /// Takes over a control connection on which nothing was said but the greeting.
    pub fn new(control: Control) -> Self {
        Self { control, settled: true, used: Instant::now(), machine: false, astray: false }
    }

    /// True where the last step came to its end, so that another one can follow.
    pub fn is_settled(&self) -> bool {
        self.settled && !self.astray
    }

    /// How long nothing was asked.
    pub fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Sends one command and waits for its answer, whatever that is.
    pub async fn ask(&mut self, command: &str) -> Result<Answer, Failure> {
        self.response(command).await.map(|response| Answer::from(&response))
    }

    pub(super) async fn response(&mut self, command: &str) -> Result<Response, Failure> {
        self.settled = false;
        let verb = command.split(' ').next().unwrap_or_default();
        // No answer is the expected one, so that each comes back as it is.
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

    /// Sends one command that must be done.
    pub async fn demand(&mut self, command: &str) -> Result<Answer, Failure> {
        let answer = self.ask(command).await?;
        if answer.is_done() { Ok(answer) } else { Err(answer.refusal()) }
    }

    /// Asks what the server can do, and sets the ways of transfer: binary, passive, to the address that the control
    /// connection goes to. The address in the answer to PASV is of no use behind a router, and of use to an attacker.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        let features = self.features().await?;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        self.machine = has("MLST") || has("MLSD");
        let peer = self.control.get_ref().await.peer_addr().map_err(|e| Failure::io(&e))?;
        // Some say that they know EPSV and refuse it all the same.
        let extended = peer.is_ipv6() || (has("EPSV") && self.ask("EPSV").await?.code == 229);
        self.control.set_passive_nat_workaround(true);
        self.control.set_mode(if extended { Mode::ExtendedPassive } else { Mode::Passive });
        self.demand("TYPE I").await.map(drop)
    }

    /// The names of what the server says it can do; none where it does not understand the question.
    async fn features(&mut self) -> Result<Vec<String>, Failure> {
        let response = self.response("FEAT").await?;
        let body = String::from_utf8_lossy(&response.body).to_ascii_uppercase();
        let names = body.lines().filter_map(|line| line.strip_prefix(' ')?.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }
}
