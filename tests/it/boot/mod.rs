//! What a machine boots from, and that it does.

mod build;
mod cow;
mod cross;
mod hostile;
mod init;
mod kinds;
mod publish;
mod qemu;
mod trial;
mod update;
