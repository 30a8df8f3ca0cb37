//! Inputs that are not raw disk images: recognised by their first bytes and refused with the command that unpacks them.

use crate::error::Error;

/// Length of the input prefix that suffices to recognise all of these.
pub const PREFIX_BYTES: usize = 512;

struct Foreign {
    magic: &'static [u8],
    what: &'static str,
    command: &'static str,
}

const FOREIGN: [Foreign; 11] = [
    Foreign { magic: b"QFI\xfb", what: "a qcow2 image", command: "qemu-img convert -O raw IN OUT.img" },
    Foreign { magic: b"KDMV", what: "a VMDK image", command: "qemu-img convert -O raw IN OUT.img" },
    Foreign {
        magic: b"# Disk DescriptorFile",
        what: "a VMDK descriptor",
        command: "qemu-img convert -O raw IN OUT.img",
    },
    Foreign { magic: b"vhdxfile", what: "a VHDX image", command: "qemu-img convert -O raw IN OUT.img" },
    Foreign { magic: b"conectix", what: "a VHD image", command: "qemu-img convert -O raw IN OUT.img" },
    Foreign { magic: b"<<< Oracle", what: "a VDI image", command: "qemu-img convert -O raw IN OUT.img" },
    Foreign { magic: b"\x1f\x8b", what: "gzip", command: "gzip -dc IN > OUT.img" },
    Foreign { magic: b"\xfd7zXZ\0", what: "xz", command: "xz -dc IN > OUT.img" },
    Foreign { magic: b"\x28\xb5\x2f\xfd", what: "zstd", command: "zstd -dc IN > OUT.img" },
    Foreign { magic: b"BZh", what: "bzip2", command: "bzip2 -dc IN > OUT.img" },
    Foreign { magic: b"\x04\x22\x4d\x18", what: "lz4", command: "lz4 -dc IN > OUT.img" },
];

/// Refuses the input `name` if its first bytes identify a format other than a raw image.
///
/// # Errors
/// Names the format, and the command that converts it to a raw image.
pub fn refuse(name: &str, prefix: &[u8]) -> Result<(), Error> {
    let Some(found) = FOREIGN.iter().find(|f| prefix.starts_with(f.magic)) else { return Ok(()) };
    let command = found.command.replace("IN", if name == "-" { "FILE" } else { name });
    Err(Error::local(format!("{name}: {}, not a raw image; its blocks would share nothing", found.what))
        .hint(format!("unpack it first: {}", command.replace("OUT.img", &out_name(name)))))
}

/// File name to suggest for the unpacked image.
fn out_name(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.split_once('.').map_or(stem, |(stem, _)| stem);
    format!("{}.img", if stem == "-" { "image" } else { stem })
}
