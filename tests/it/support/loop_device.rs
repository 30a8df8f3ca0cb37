//! Loop devices over files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
                let device = Self(String::from_utf8(made.stdout).unwrap().trim_end().to_owned());
                if !device.partition(1).exists() {
                    // A kernel that knows no partition table takes the partitions from a program.
                    let _ = Command::new("partx").args(["--add", &device.0]).stderr(Stdio::null()).status();
                }
                Some(device)
            }
            _ => {
                skipped("no loop devices can be had here");
                None
            }
        }
    }
}

impl LoopDevice {
    /// The path of a partition, counted from 1.
    pub fn partition(&self, number: u32) -> PathBuf {
        format!("{}p{number}", self.0).into()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if self.partition(1).exists() {
            let _ = Command::new("partx").args(["--delete", &self.0]).stderr(Stdio::null()).status();
        }
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
