//! `hfl-mount`: mounts an image from its mirrors.

mod args;
mod daemon;
mod failure;
mod log;
mod run;

use std::process::ExitCode;

use args::Args;
use daemon::Daemon;

/// By which `hfl publish` knows a client, and its version, whatever machine it was built for.
#[used]
static MARK: &str = concat!("hfl-mount version mark:", env!("CARGO_PKG_VERSION"), ";");

fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(code) => return code,
    };
    daemon::limit_heap();
    let mut daemon = match if args.foreground { Ok(Daemon::none()) } else { Daemon::fork() } {
        Ok(daemon) => daemon,
        Err(e) => {
            eprintln!("hfl-mount: error: cannot go into the background: {e}");
            return ExitCode::FAILURE;
        }
    };
    match run::run(&args, &mut daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(args.json);
            daemon.failed(failure.code());
            ExitCode::from(failure.code())
        }
    }
}
