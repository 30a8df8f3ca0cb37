//! `hfl serve`: a plain static server for tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use axum::Router;
use hfl::Error;
use tower_http::services::ServeDir;

use crate::exit;

/// Serve a directory over HTTP, for tests on this machine.
#[derive(clap::Args)]
#[command(after_help = "Example:
  hfl serve public --listen 127.0.0.1:8080")]
pub struct Args {
    /// Directory to serve
    directory: PathBuf,
    /// Address and port to listen on; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.directory.is_dir() {
        return Err(Error::local(format!("{}: not a directory", args.directory.display())).into());
    }
    let cancel = super::cancel_on_signal()?;
    super::runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
            Error::local(format!("cannot listen on {}: {e}", args.listen)).hint("choose another one with --listen")
        })?;
        exit::print(&format!("serving {} at http://{}/\n", args.directory.display(), listener.local_addr()?))?;
        let stopped = async move {
            while !cancel.load(Ordering::Relaxed) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            served = serve(listener, args.directory.clone()) => served?,
            () = stopped => {}
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Serves `directory` until the future is dropped.
pub async fn serve(listener: tokio::net::TcpListener, directory: PathBuf) -> std::io::Result<()> {
    axum::serve(listener, Router::new().fallback_service(ServeDir::new(directory))).await
}
