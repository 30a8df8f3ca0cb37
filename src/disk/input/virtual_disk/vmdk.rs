//! The files that a VMDK names, extents and a parent: `qemu-img` would open any, and read zeros behind the end of one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::outside;
use crate::error::Error;

/// Longest descriptor that is read, in bytes.
const DESCRIPTOR_MAX_BYTES: u64 = 1 << 20;
/// Sector size of the format.
const SECTOR_BYTES: u64 = 512;
/// Size of the descriptor that QEMU reads behind the header, in bytes.
const USUAL_BYTES: u64 = 20 * SECTOR_BYTES;
/// Magic number of a file with data; one without is a descriptor alone.
const SPARSE: &[u8] = b"KDMV";

/// Checks that all files that the disk consists of are in its directory, and flat ones as long as stated.
///
/// # Errors
/// One is not; the descriptor is too long.
pub fn check_files(file: &File, path: &Path) -> Result<(), Error> {
    for descriptor in descriptors(file).map_err(|e| Error::io(path, &e))? {
        let text = String::from_utf8_lossy(&descriptor);
        if let Some(name) = names(&text).find(|name| name.contains(['/', '\\', ':'])) {
            return Err(outside(path, name));
        }
        text.split(['\n', '\r']).filter_map(Flat::of).try_for_each(|extent| extent.check(path))?;
    }
    Ok(())
}

/// The texts that describe the disk: where the header says, and where QEMU looks for the parent.
fn descriptors(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let size = file.metadata()?.len();
    let mut header = [0; 44];
    file.read_exact_at(&mut header, 0)?;
    if !header.starts_with(SPARSE) {
        return Ok(vec![part(file, 0, size)?]);
    }
    let number = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
    let stated = part(file, number(28).saturating_mul(SECTOR_BYTES), number(36).saturating_mul(SECTOR_BYTES))?;
    let usual = part(file, SECTOR_BYTES, USUAL_BYTES.min(size.saturating_sub(SECTOR_BYTES)))?;
    Ok(vec![stated, usual])
}

/// A flat extent: a file of raw data.
struct Flat<'a> {
    name: &'a str,
    /// Offset behind its last byte.
    end: u64,
}

impl<'a> Flat<'a> {
    /// The extent that a line such as `RW 49152 FLAT "disk-flat.vmdk" 0` names; sizes and offsets are in sectors.
    fn of(line: &'a str) -> Option<Self> {
        let mut parts = line.split('"');
        let (access, name, offset) = (parts.next()?, parts.next()?, parts.next()?);
        let mut words = access.split_whitespace().skip(1);
        let (sectors, kind): (u64, &str) = (words.next()?.parse().ok()?, words.next()?);
        let offset: u64 = offset.trim().parse().unwrap_or(0);
        let end = sectors.saturating_add(offset).saturating_mul(SECTOR_BYTES);
        ["FLAT", "VMFS"].contains(&kind).then_some(Self { name, end })
    }

    fn check(&self, disk: &Path) -> Result<(), Error> {
        let extent = disk.with_file_name(self.name);
        let size = std::fs::metadata(&extent).map_err(|e| Error::io(&extent, &e))?.len();
        if size >= self.end {
            return Ok(());
        }
        let (disk, extent, end) = (disk.display(), extent.display(), self.end);
        Err(Error::local(format!("{disk}: {extent} has {size} bytes, {end} are stated: was it cut off?")))
    }
}

fn part(file: &File, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    if bytes > DESCRIPTOR_MAX_BYTES {
        return Err(io::Error::other("VMDK: its descriptor is too long"));
    }
    let mut text = vec![0; bytes as usize];
    file.read_exact_at(&mut text, at).map(|()| text)
}

/// The files that a descriptor names.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let quoted = |text: &'_ str| -> Option<std::ops::Range<usize>> {
        let start = text.find('"')? + 1;
        Some(start..start + text[start..].find('"').unwrap_or(text.len() - start))
    };
    let is_extent = |line: &&str| matches!(line.split_whitespace().next(), Some("RW" | "RDONLY" | "NOACCESS"));
    let extents = text.split(['\n', '\r']).filter(is_extent);
    let parents = text.split("parentFileNameHint").skip(1);
    extents.chain(parents).filter_map(move |text| quoted(text).map(|name| &text[name]))
}
