//! Files that are not images: recognised by their magic numbers, and refused with a way out.
//!
//! Sources: the formats' specifications, and for disk formats the headers that QEMU 10 writes.

use super::virtual_disk::Format;
use crate::error::Error;

/// Length of the input prefix that suffices to recognise all of these.
pub const PREFIX_BYTES: usize = 512;

/// What a user can do about a file.
#[derive(Clone, Copy)]
enum Way {
    /// A virtual disk, which qemu-img converts.
    Convert,
    /// Files without a file system: one must be made.
    Tree(&'static str),
    /// An archive or a compressed file with an image in it; the command that takes it out.
    Unpack(&'static str),
}

struct Foreign {
    at: usize,
    magic: &'static [u8],
    what: &'static str,
    way: Way,
}

const fn foreign(at: usize, magic: &'static [u8], what: &'static str, way: Way) -> Foreign {
    Foreign { at, magic, what, way }
}

const FOREIGN: [Foreign; 13] = [
    foreign(0, b"QED\0", "a QED image", Way::Convert),
    foreign(0, b"WithoutFreeSpace", "a Parallels image", Way::Convert),
    foreign(0, b"WithouFreSpacExt", "a Parallels image", Way::Convert),
    foreign(0, b"PK\x03\x04", "a zip archive", Way::Unpack("unzip -p IN > OUT.img")),
    foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", Way::Unpack("7z x -so IN > OUT.img")),
    foreign(0, b"Rar!\x1a\x07", "a RAR archive", Way::Unpack("unrar p -inul IN > OUT.img")),
    foreign(0, b"LZIP", "lzip", Way::Unpack("lzip -dc IN > OUT.img")),
    foreign(0, b"\x5d\0\0\x80\0", "lzma", Way::Unpack("xz --format=lzma -dc IN > OUT.img")),
    foreign(0, b"\x5d\0\0\0\x04", "lzma", Way::Unpack("xz --format=lzma -dc IN > OUT.img")),
    foreign(257, b"ustar", "a tar archive", Way::Tree("tar -xf IN -C TREE")),
    foreign(0, b"070701", "a cpio archive", Way::Tree("cpio -id -D TREE < IN")),
    foreign(0, b"070702", "a cpio archive", Way::Tree("cpio -id -D TREE < IN")),
    foreign(0, b"070707", "a cpio archive", Way::Tree("cpio -id -D TREE < IN")),
];

/// Refuses the input `name` if its first bytes identify something that is no image. `packed` names the compression
/// that it was taken out of.
///
/// # Errors
/// Names the format, and the commands that make an image of it.
pub fn refuse(name: &str, prefix: &[u8], packed: Option<&str>) -> Result<(), Error> {
    let is = |f: &&Foreign| prefix.get(f.at..).is_some_and(|rest| rest.starts_with(f.magic));
    let (what, way) = match (Format::of(prefix), FOREIGN.iter().find(is)) {
        (Some(format), _) => (format!("a {} image", format.name()), Way::Convert),
        (None, Some(found)) => (found.what.to_owned(), found.way),
        (None, None) => return Ok(()),
    };
    let out = out_name(name);
    let (command, next) = match way {
        Way::Convert => ("qemu-img convert -O raw IN OUT.img".to_owned(), String::new()),
        Way::Unpack(command) => (command.to_owned(), String::new()),
        Way::Tree(command) => (format!("mkdir TREE && {command}"), format!(" && mke2fs -t ext4 -d TREE {out} 2G")),
    };
    let input = if name == "-" || packed.is_some() { "FILE" } else { name };
    let command = command.replace("IN", input).replace("OUT.img", &out);
    let within = packed.map_or(String::new(), |packed| format!(" within {packed}"));
    let (message, hint) = match way {
        Way::Tree(_) => ("it holds files, and nothing that could be mounted", "make an image of them"),
        Way::Convert | Way::Unpack(_) => ("not a raw image; its blocks would share nothing", "unpack it first"),
    };
    Err(Error::local(format!("{name}: {what}{within}: {message}")).hint(format!("{hint}: {command}{next}")))
}

/// File name to suggest for the image.
fn out_name(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.split_once('.').map_or(stem, |(stem, _)| stem);
    format!("{}.img", if stem == "-" { "image" } else { stem })
}
