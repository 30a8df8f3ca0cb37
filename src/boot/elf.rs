//! The header of an ELF file: the machine it is for, and whether it is static.
//!
//! Source: the System V ABI, "Object Files". Files are untrusted: every offset is checked.

/// The machine an ELF file is for, named as in `uname -m`.
pub fn machine(elf: &[u8]) -> Option<&'static str> {
    let (wide, little) = (is_wide(elf)?, elf.get(5) == Some(&1));
    match (field(elf, 18, 2)?, wide, little) {
        (62, true, _) => Some("x86_64"),
        (183, true, true) => Some("aarch64"),
        (20, false, false) => Some("ppc"),
        (21, true, true) => Some("ppc64le"),
        (21, true, false) => Some("ppc64"),
        (22, true, false) => Some("s390x"),
        (243, true, true) => Some("riscv64"),
        (258, true, true) => Some("loongarch64"),
        (40, false, true) => Some("armv7l"),
        (3, false, _) => Some("i686"),
        _ => None,
    }
}

/// Whether it needs a dynamic loader (a program header of type PT_INTERP).
pub fn is_dynamic(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let Some(wide) = is_wide(elf) else { return false };
    let (table, size, count) = if wide { ((32, 8), 54, 56) } else { ((28, 4), 42, 44) };
    let (Some(table), Some(size), Some(count)) =
        (field(elf, table.0, table.1), field(elf, size, 2), field(elf, count, 2))
    else {
        return false;
    };
    (0..count).any(|i| {
        let at = usize::try_from(table.saturating_add(i * size)).unwrap_or(usize::MAX - 4);
        field(elf, at, 4) == Some(PT_INTERP)
    })
}

/// Whether it is a 64-bit file; `None` if it is not an ELF file.
fn is_wide(elf: &[u8]) -> Option<bool> {
    match (elf.starts_with(b"\x7fELF"), elf.get(4)) {
        (true, Some(1)) => Some(false),
        (true, Some(2)) => Some(true),
        _ => None,
    }
}

/// A field of the file, in the file's byte order.
fn field(elf: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let field = elf.get(at..at.checked_add(bytes)?)?;
    let big_endian = elf.get(5) == Some(&2);
    let fold = |value, &byte: &u8| value << 8 | u64::from(byte);
    Some(if big_endian { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
}
