//! `hfl-mount nbd`: the image as a read-only NBD export, for QEMU and other clients that read it without FUSE.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgGroup, ArgMatches, CommandFactory as _, FromArgMatches as _, value_parser};
use hfl::Error;
use hfl::client::serve::nbd::listen::Listener;
use hfl::client::serve::nbd::{Export, Hints};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::exit::CODES;
use crate::run::Ready;
use crate::signals::Signals;

const ABOUT: &str = "Export an image over NBD, read-only, until Ctrl-C. There is no authentication.";
const EXAMPLES: &str = "\
Examples:
  hfl-mount nbd --key RWQ... https://mirror.example/hfl/debian --socket /run/hfl.sock
  qemu-img map -f raw 'nbd+unix:///debian?socket=/run/hfl.sock'
  qemu-system-x86_64 -drive file='nbd+unix:///debian?socket=/run/hfl.sock',format=raw,snapshot=on
  hfl-mount nbd --key RWQ... https://mirror.example/hfl/debian --listen 127.0.0.1:10809";

/// Listening address.
#[derive(Debug)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A TCP address.
    Address(SocketAddr),
}

/// Arguments of an export.
#[derive(Debug)]
pub struct NbdArgs {
    /// Options shared with a mount.
    pub args: Args,
    /// Listening address.
    pub place: Place,
}

/// The command line of a mount, with a listening address instead of a mount point.
pub fn command() -> clap::Command {
    let socket = Arg::new("socket").long("socket").value_name("PATH").value_parser(value_parser!(PathBuf));
    let listen = Arg::new("listen").long("listen").value_name("ADDRESS:PORT").value_parser(value_parser!(SocketAddr));
    Args::command()
        .name("nbd")
        .about(ABOUT)
        .after_help(format!("{EXAMPLES}\n\n{CODES}"))
        .mut_arg("mountpoint", |arg| arg.long("mountpoint").required(false).hide(true).default_value("."))
        .mut_arg("contents", |arg| arg.hide(true))
        .mut_arg("partition", |arg| arg.hide(true))
        .mut_arg("fstype", |arg| arg.hide(true))
        .mut_arg("foreground", |arg| arg.hide(true))
        .mut_arg("daemon", |arg| arg.help("Go into the background once the export works"))
        .arg(socket.help("Unix socket to listen on; created, and removed at the end"))
        .arg(listen.help("TCP address to listen on; port 0 takes any free port"))
        .group(ArgGroup::new("place").args(["socket", "listen"]).required(true))
}

impl NbdArgs {
    /// From the matches of [`command`].
    pub fn from_matches(mut matches: ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Args::from_arg_matches(&matches)?.check()?;
        args.foreground = !args.daemon;
        Ok(Self { args, place: place(&mut matches)? })
    }
}

fn place(matches: &mut ArgMatches) -> Result<Place, clap::Error> {
    let socket = matches.remove_one("socket").map(Place::Socket);
    let place = socket.or_else(|| matches.remove_one("listen").map(Place::Address));
    place.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingRequiredArgument))
}

/// Exports until a signal arrives.
pub fn run(args: &Args, place: &Place, daemon: &mut Daemon) -> Result<(), Error> {
    let ready = Ready::new(args)?;
    let client = &ready.client;
    let mut signals = ready.runtime.block_on(async { Signals::new(args.root) })?;
    let listener = ready.runtime.block_on(async { listen(place) })?;
    let mut export = Export {
        name: client.opened.head.image.clone(),
        description: format!("version {} of {}", client.opened.row.version, args.origin.sources[0]),
        image: Arc::clone(&client.image),
        prefetch: None,
        status: Arc::clone(&client.status),
        observer: Arc::clone(&ready.log) as _,
        hints: Hints::default(),
    };
    export.read_ahead(client.readahead_bytes, ready.runtime.handle());
    let uri = listener.uri(&export);
    if !args.origin.json {
        // For scripts: the one line on the standard output.
        let _ = writeln!(std::io::stdout(), "{uri}");
    }
    ready.report("uri", &uri, args);
    ready.announce(&ready.announcement(&export.name, args), args, daemon);
    ready.runtime.block_on(async {
        tokio::select! {
            () = listener.serve(Arc::new(export)) => {}
            () = signals.any() => {}
        }
        drop(listener);
    });
    ready.end();
    Ok(())
}

fn listen(place: &Place) -> Result<Listener, Error> {
    let (listener, name) = match place {
        Place::Socket(path) => (Listener::unix(path), path.display().to_string()),
        Place::Address(address) => (Listener::tcp(*address), address.to_string()),
    };
    listener.map_err(|e| Error::local(format!("cannot listen at {name}: {e}")))
}
