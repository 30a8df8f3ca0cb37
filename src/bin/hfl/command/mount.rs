//! `hfl mount`: runs the client, which is a separate program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use hfl::Error;
use hfl::system::{child, installed};

/// Mount an image: run hfl-mount with the same arguments.
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Example:
  hfl mount --key RWQ... https://mirror.example/hfl/debian-ps3 /mnt"
)]
pub struct Args {
    /// Arguments of hfl-mount; see hfl-mount --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let program = installed::clients().into_iter().next().unwrap_or_else(|| "hfl-mount".into());
    let own = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HFL_MOUNT_"));
    let error = child::command(&program).envs(own).args(args.arguments).exec();
    Err(Error::io(&program, &error).hint("hfl-mount belongs beside hfl or into the PATH").into())
}
