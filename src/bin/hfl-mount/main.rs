//! `hfl-mount`: mounts an image from its mirrors, fetches it ahead of time, and reports the status of a mount.

mod args;
mod command;
mod contents;
mod daemon;
mod device;
mod exit;
mod fetch;
mod helper;
mod log;
mod nbd;
mod notify;
mod origin;
mod profile;
mod root;
mod run;
mod settings;
mod signals;
mod status;
#[cfg(feature = "manual")]
mod texts;

use std::process::ExitCode;

use command::Command;
use daemon::Daemon;

/// Mark by which `hfl publish` recognizes a client and its version, for any machine.
const MARK: &str = concat!("hfl-mount version mark:", env!("CARGO_PKG_VERSION"), ";");

fn main() -> ExitCode {
    // The linker would remove an unused constant.
    std::hint::black_box(MARK);
    let (args, place) = match Command::read() {
        Ok(Command::Mount(args)) => (*args, None),
        Ok(Command::Nbd(nbd)) => (nbd.args, Some(nbd.place)),
        Ok(Command::Status(args)) => return exit::report(status::run(&args), args.json),
        Ok(Command::Device(args)) => return exit::report(device::run(&args), false),
        Ok(Command::Fetch(args)) => {
            daemon::limit_heap();
            return exit::report(fetch::run(&args), args.origin.json);
        }
        #[cfg(feature = "manual")]
        Ok(Command::Texts(args)) => return exit::report(texts::run(&args, &command::tree()), false),
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
        None if args.contents => contents::run(&args, &mut daemon),
        None => run::run(&args, &mut daemon),
        Some(place) => nbd::run(&args, place, &mut daemon),
    };
    let mut code = ended.as_ref().err().map_or(0, |error| error.kind().exit_code());
    if code != 0 && helper::is_called() {
        code = helper::FAILED;
    }
    // Print the error before the parent that the user waits for exits.
    let _ = exit::report(ended, args.origin.json);
    daemon.ended(code);
    ExitCode::from(code)
}
