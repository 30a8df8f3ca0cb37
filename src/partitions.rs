//! The partitions of a disk image: MBR with logical partitions, and GPT.
//!
//! Reads only the number, start and length of each partition, whether its type is a Linux one, and the length of the disk. The
//! table is untrusted: a bounded number of entries is read, and numbers that overflow end the reading. Backup tables
//! and checksums are ignored, because a wrong answer only costs bytes.

/// Reads bytes at an offset of the image; returns whether it succeeded.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> bool;

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as Linux counts: in a GPT the place in the table; in an MBR 1 to 4, and from 5 on for logical ones.
    pub number: u32,
    /// Offset in bytes.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Whether its type is one for Linux data: a file system, LVM, RAID or LUKS.
    pub linux: bool,
}

/// What the start of a disk states about its partitions.
#[derive(Debug, Default)]
pub struct Table {
    /// The partitions, in table order, without logical ones.
    pub partitions: Vec<Partition>,
    /// Offsets in bytes of the extended partitions, where the chains of logical partitions begin.
    pub extended: Vec<u64>,
}

/// A link of the chain in an extended partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The logical partition, if the link has one.
    pub partition: Option<Partition>,
    /// Offset of the next link in bytes.
    pub next: Option<u64>,
}

/// Maximum number of logical partitions in an extended one.
pub const LOGICAL_MAX: usize = 64;
/// Size of a sector in an MBR, in bytes.
pub const MBR_SECTOR_BYTES: usize = 512;
/// Number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;
const GPT_ENTRIES: u32 = 128;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const SECTOR: u64 = MBR_SECTOR_BYTES as u64;
const PROTECTIVE: u8 = 0xee;
const MBR_LINUX: [u8; 4] = [0x83, 0x8e, 0xe8, 0xfd];

/// Type GUIDs that Linux uses in a GPT, by their first four bytes.
const GPT_LINUX: [u32; 12] = [
    0x0fc6_3daf, // Linux data
    0x4f68_bce3, // root, x86-64
    0x4447_9540, // root, x86
    0xb921_b045, // root, arm64
    0x69da_d710, // root, arm
    0x72ec_70a6, // root, riscv64
    0x933a_c7e1, // /home
    0x3b8f_8425, // /srv
    0x4d21_b016, // /var
    0xe6d6_d379, // LVM
    0xa19d_880f, // RAID
    0xca7d_7ccb, // LUKS
];

/// All partitions in the image's table, logical ones last.
pub fn partitions(read_at: ReadAt) -> Vec<Partition> {
    let Table { mut partitions, extended } = table(read_at);
    let mut number = FIRST_LOGICAL;
    for first in extended {
        let mut at = Some(first);
        for _ in 0..LOGICAL_MAX {
            let Some(link) = at.and_then(|at| link(first, at, read_at)) else { break };
            if let Some(partition) = link.partition {
                partitions.push(Partition { number, ..partition });
                number += 1;
            }
            at = link.next;
        }
    }
    partitions
}

/// The table at the start of the image; empty if there is none.
pub fn table(read_at: ReadAt) -> Table {
    let Some(entries) = mbr(0, read_at) else { return Table::default() };
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        return Table { partitions: gpt(read_at).unwrap_or_default(), extended: Vec::new() };
    }
    let (extended, own): (Vec<Entry>, Vec<Entry>) = entries.iter().partition(|e| EXTENDED.contains(&e.kind));
    Table {
        partitions: own.iter().filter_map(|entry| entry.partition(0)).collect(),
        extended: extended.iter().map(|entry| entry.first * SECTOR).collect(),
    }
}

/// The link at byte `at` of the chain in the extended partition at byte `extended`.
pub fn link(extended: u64, at: u64, read_at: ReadAt) -> Option<Link> {
    let [entry, next, ..] = mbr(at, read_at)?;
    let next = EXTENDED.contains(&next.kind).then_some(extended + next.first * SECTOR);
    Some(Link { partition: entry.partition(at), next })
}

/// An MBR entry, in sectors of 512 bytes.
#[derive(Clone, Copy)]
struct Entry {
    /// 1 to 4.
    number: u32,
    kind: u8,
    first: u64,
    count: u64,
}

impl Entry {
    /// The partition, whose first sector counts from byte `base`.
    fn partition(self, base: u64) -> Option<Partition> {
        let used = self.kind != 0 && self.count > 0;
        used.then_some(Partition {
            number: self.number,
            start: base + self.first * SECTOR,
            len: self.count * SECTOR,
            linux: MBR_LINUX.contains(&self.kind),
        })
    }
}

/// The four entries of the sector at byte `at` if it is an MBR: it has the signature, and no flag but "active" is set.
fn mbr(at: u64, read_at: ReadAt) -> Option<[Entry; 4]> {
    let mut bytes = [0; MBR_SECTOR_BYTES];
    let table = read_at(at, &mut bytes) && bytes[510..] == [0x55, 0xaa] && !is_boot_sector(&bytes);
    let flags = (0..4).all(|index| bytes[446 + 16 * index] & 0x7f == 0);
    (table && flags).then(|| {
        std::array::from_fn(|index| {
            let entry = &bytes[446 + 16 * index..];
            Entry {
                number: index as u32 + 1,
                kind: entry[4],
                first: number(&entry[8..12]),
                count: number(&entry[12..16]),
            }
        })
    })
}

/// Whether this is the boot sector of FAT, exFAT or NTFS: it ends like an MBR, but has code in place of the table.
fn is_boot_sector(bytes: &[u8; MBR_SECTOR_BYTES]) -> bool {
    let names: [(usize, &[u8]); 4] = [(3, b"NTFS    "), (3, b"EXFAT   "), (54, b"FAT1"), (82, b"FAT32")];
    names.iter().any(|(at, name)| bytes[*at..].starts_with(name))
}

/// Minimum size in bytes of a disk with this table: to the end of its last partition, extended ones included; for a
/// GPT, also to the end of its backup.
#[cfg(feature = "publish")]
pub fn table_bytes(read_at: ReadAt) -> Option<u64> {
    let entries = mbr(0, read_at)?;
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        let (sector, header) = gpt_header(read_at)?;
        let backup = number(&header[32..40]).checked_add(1).and_then(|sectors| sectors.checked_mul(sector));
        let ends = gpt(read_at).into_iter().flatten().filter_map(|part| part.start.checked_add(part.len));
        return ends.chain(backup).max();
    }
    entries.into_iter().filter_map(|entry| entry.partition(0)).map(|part| part.start + part.len).max()
}

/// The primary GPT header, and the sector size in bytes: 512 or 4096.
fn gpt_header(read_at: ReadAt) -> Option<(u64, [u8; 92])> {
    let mut header = [0; 92];
    let sector = [512, 4096].into_iter().find(|&at| read_at(at, &mut header) && header.starts_with(b"EFI PART"))?;
    Some((sector, header))
}

/// The partitions of a GPT.
fn gpt(read_at: ReadAt) -> Option<Vec<Partition>> {
    let (sector, header) = gpt_header(read_at)?;
    let table = number(&header[72..80]).checked_mul(sector)?;
    let entries = (number(&header[80..84]) as u32).min(GPT_ENTRIES);
    let entry_bytes = Some(number(&header[84..88])).filter(|bytes| (128..=4096).contains(bytes))?;
    let places = (0..entries).map_while(|index| Some((index + 1, table.checked_add(u64::from(index) * entry_bytes)?)));
    Some(places.filter_map(|(number, at)| gpt_partition(number, at, sector, read_at)).collect())
}

fn gpt_partition(number_in_table: u32, at: u64, sector: u64, read_at: ReadAt) -> Option<Partition> {
    let mut entry = [0; 48];
    if !read_at(at, &mut entry) || entry[..16] == [0; 16] {
        return None;
    }
    let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let linux = GPT_LINUX.contains(&(number(&entry[..4]) as u32));
    Some(Partition {
        number: number_in_table,
        start: first.checked_mul(sector)?,
        len: sectors.checked_mul(sector)?,
        linux,
    })
}

/// A little-endian number of at most 8 bytes.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
