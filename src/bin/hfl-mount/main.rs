//! `hfl-mount`: mounts an image from its mirrors or fetches it ahead of time, and tells how a mount is doing.

mod args;
mod boot;
mod cache;
mod daemon;
mod device;
mod failure;
mod fetch;
mod log;
mod nbd;
mod notify;
mod opening;
mod origin;
mod root;
mod run;
mod status;

use std::process::ExitCode;

use args::Command;
use daemon::Daemon;
use failure::Failure;

/// By which `hfl publish` knows a client, and its version, whatever machine it was built for.
const MARK: &str = concat!("hfl-mount version mark:", env!("CARGO_PKG_VERSION"), ";");

fn main() -> ExitCode {
    // A linker leaves out what nobody uses.
    std::hint::black_box(MARK);
    let (args, place) = match Command::read() {
        Ok(Command::Mount(args)) => (*args, None),
        Ok(Command::Nbd(nbd)) => (nbd.args, Some(nbd.place)),
        Ok(Command::Status(args)) => return told(status::run(&args), args.json),
        Ok(Command::Device(args)) => return told(device::run(&args), false),
        Ok(Command::Fetch(args)) => {
            daemon::limit_heap();
            return told(fetch::run(&args), args.origin.json);
        }
        Err(code) => return code,
    };
    if args.root {
        root::call_itself();
    }
    daemon::limit_heap();
    let mut daemon = match if args.foreground { Ok(Daemon::none()) } else { Daemon::fork() } {
        Ok(daemon) => daemon,
        Err(e) => {
            eprintln!("hfl-mount: error: cannot go into the background: {e}");
            return ExitCode::FAILURE;
        }
    };
    if args.root {
        root::hold();
    }
    let ended = match &place {
        None => run::run(&args, &mut daemon),
        Some(place) => nbd::run(&args, place, &mut daemon),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            daemon.failed(failure.code());
            told(Err(failure), args.origin.json)
        }
    }
}

/// Reports a failure, and gives the exit code.
fn told(outcome: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    failure.report(json);
    ExitCode::from(failure.code())
}
