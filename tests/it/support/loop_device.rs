//! Loop devices over files.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::lab::skipped;

/// A loop device, detached on drop.
pub struct LoopDevice(pub String);

impl LoopDevice {
    /// A device over a new file of zeros. `None`, with a skip message, if none can be had.
    pub fn new(file: &Path, bytes: u64) -> Option<Self> {
        fs::File::create(file).unwrap().set_len(bytes).unwrap();
        Self::over(file)
    }

    /// A device over a file, with its partitions. `None`, with a skip message, if none can be had.
    pub fn over(file: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(file).output();
        match made {
            Ok(made) if made.status.success() => {
                Some(Self(String::from_utf8(made.stdout).unwrap().trim_end().to_owned()))
            }
            _ => {
                skipped("no loop devices can be had here");
                None
            }
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
