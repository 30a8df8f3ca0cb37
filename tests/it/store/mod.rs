//! The drivers on real servers.

mod directory;
mod ftp;
mod rsync;
mod s3;
mod s3_hostile;
mod sftp;
mod speed;
mod webdav;
