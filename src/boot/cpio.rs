//! An initramfs: a cpio archive in the format "newc".
//!
//! Source: the kernel's documentation "initramfs buffer format", and cpio(5). Every entry belongs to root and has no
//! time; entries are in the order in which they were added.

/// Alignment of a header with its name, and of data, in bytes.
const ALIGN: usize = 4;
/// Alignment of the whole archive in bytes, as in other programs.
const BLOCK: usize = 512;

/// Mode bits for the type of an entry.
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file with the permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device with its major and minor number.
    pub fn device(&mut self, path: &str, mode: u32, number: (u32, u32)) {
        self.entry(path, CHARACTER | mode, number, &[]);
    }

    /// Returns the whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        self.write(path.trim_start_matches('/'), self.entries, mode, device, data);
    }

    /// Writes an entry; names have no leading slash. Files are far smaller than the 4 GiB limit of the size field.
    fn write(&mut self, name: &str, inode: u32, mode: u32, device: (u32, u32), data: &[u8]) {
        let links = if mode & KIND == DIRECTORY { 2 } else { 1 };
        let (name_bytes, data_bytes) = (name.len() as u32 + 1, data.len() as u32);
        let fields = [inode, mode, 0, 0, links, 0, data_bytes, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        fields.iter().for_each(|field| self.bytes.extend_from_slice(format!("{field:08x}").as_bytes()));
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}
