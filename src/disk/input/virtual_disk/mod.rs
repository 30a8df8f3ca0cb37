//! Images in the files of virtual machines: qcow2 is read directly, the other formats through `qemu-img`.
//!
//! Such a file may name others: a backing file, extents. A publisher may have got it from elsewhere, so only files in
//! its own directory are read.

mod convert;
mod qcow2;
mod vdi;
mod vmdk;

use std::fs::File;
use std::path::Path;

use crate::error::Error;
pub(super) use qcow2::Qcow2;

/// A format of virtual disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Vdi,
}

/// Magic numbers and their offsets, from the formats' specifications; VDI's is the same whoever wrote the file.
const MAGIC: [(usize, &[u8], Format); 6] = [
    (0, b"QFI\xfb", Format::Qcow2),
    (0, b"KDMV", Format::Vmdk),
    (0, b"# Disk DescriptorFile", Format::Vmdk),
    (0, b"vhdxfile", Format::Vhdx),
    (0, b"conectix", Format::Vhd),
    (64, b"\x7f\x10\xda\xbe", Format::Vdi),
];

impl Format {
    /// Recognises a format by the first bytes of a file.
    pub fn of(prefix: &[u8]) -> Option<Self> {
        let is = |&&(at, magic, _): &&(usize, &[u8], _)| prefix.get(at..).is_some_and(|rest| rest.starts_with(magic));
        MAGIC.iter().find(is).map(|&(.., format)| format)
    }

    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "VMDK",
            Format::Vhd => "VHD",
            Format::Vhdx => "VHDX",
            Format::Vdi => "VDI",
        }
    }

    /// Name for `qemu-img -f`.
    fn of_qemu(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vhd => "vpc",
            Format::Vhdx => "vhdx",
            Format::Vdi => "vdi",
        }
    }
}

/// An opened virtual disk.
pub enum Opened {
    /// It can be read as it is.
    Qcow2(Box<Qcow2>),
    /// Its contents, in a temporary file without a name, and their size in bytes.
    Raw(File, u64),
}

/// Opens the virtual disk `file`.
///
/// # Errors
/// It is damaged, names a file outside its directory, or needs a `qemu-img` that is not there.
pub fn open(format: Format, file: File, path: &Path) -> Result<Opened, Error> {
    let failure = match format {
        Format::Qcow2 => match Qcow2::open(&file, path)? {
            Ok(disk) => return Ok(Opened::Qcow2(Box::new(disk))),
            Err(failure) => Some(failure),
        },
        Format::Vmdk => {
            vmdk::check_files(&file, path)?;
            None
        }
        Format::Vdi => {
            vdi::check_size(&file, path)?;
            None
        }
        Format::Vhd | Format::Vhdx => None,
    };
    convert::to_raw(format, &file, path, failure).map(|(file, bytes)| Opened::Raw(file, bytes))
}

/// The error for a virtual disk that names another file.
fn outside(path: &Path, other: &str) -> Error {
    Error::local(format!("{}: it refers to {other}, outside its own directory", path.display()))
        .hint(format!("if you trust it, convert it: qemu-img convert -O raw {} OUT.img", path.display()))
}
