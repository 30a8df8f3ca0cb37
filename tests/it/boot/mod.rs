//! Building, publishing and booting what a machine boots from.

mod build;
mod cow;
mod cross;
mod hostile;
mod init;
mod initrd;
mod kinds;
mod publish;
mod qemu;
mod trial;
mod units;
mod update;
