//! `hfl serve`: a plain static server for tests.

mod live;
mod site;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use hfl::Error;
use hfl::repo::survey::TrustPolicy;

use self::live::Live;
pub use self::site::Site;
use crate::exit;

/// Serve a directory over HTTP, for tests on this machine.
///
/// Its front page also tells how the mirrors of the images stand at that moment, as far as their keys are known here.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  hfl serve public --listen 127.0.0.1:8080
  hfl serve public --key RWQ... --json 2>access.log

A line is logged on standard error for each request, in the common log format.")]
pub struct Args {
    /// Directory to serve
    directory: PathBuf,
    /// Address and port to listen on, or a port of 127.0.0.1; port 0 takes any free one
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// Public key of the images whose mirrors are asked: its base64 line, or a file that contains it [default: the keys
    /// known here]
    #[arg(long, value_name = "PUBKEY")]
    key: Option<String>,
    /// Ask the mirrors of unsigned images too
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
    /// Print the address as JSON, in one line
    #[arg(long)]
    pub json: bool,
    /// Log no requests, and do not print the address
    #[arg(short, long)]
    quiet: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|_| text.parse()).map_err(|_| "expected a port, as in 8080, or an address, as in 0.0.0.0:8080".into())
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.directory.is_dir() {
        return Err(Error::local(format!("{}: not a directory", args.directory.display())).into());
    }
    let live = Live::new(&args.directory, args.policy()?)?;
    let cancel = super::cancel_on_signal()?;
    super::runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
            Error::local(format!("cannot listen on {}: {e}", args.listen)).hint("choose another one with --listen")
        })?;
        args.tell(listener.local_addr()?)?;
        let stopped = async move {
            while !cancel.load(Ordering::Relaxed) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let site = Site { live: Some(live), is_logged: !args.quiet, ..Site::of(args.directory.clone()) };
        tokio::select! {
            served = site.serve(listener) => served?,
            () = stopped => {}
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn policy(&self) -> anyhow::Result<TrustPolicy> {
        Ok(match &self.key {
            _ if self.unsigned => TrustPolicy::Anyone,
            Some(given) => TrustPolicy::Key(hfl::repo::given_key(given)?),
            None => TrustPolicy::Known(super::keyring(None).known_keys()),
        })
    }

    fn tell(&self, address: SocketAddr) -> anyhow::Result<()> {
        let (directory, url) = (self.directory.display(), format!("http://{address}/"));
        match (self.json, self.quiet) {
            (true, _) => exit::print_json_line(
                &serde_json::json!({ "directory": directory.to_string(), "address": address.to_string(), "url": url }),
            ),
            (false, false) => exit::print(&format!("serving {directory} at {url}\n")),
            (false, true) => Ok(()),
        }
    }
}
