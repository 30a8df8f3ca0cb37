//! The packets of SFTP version 3: encodes requests, decodes replies.
//!
//! Pure, and trusts no input: lengths and counts in a reply are checked against the bytes present. Handles stay bytes,
//! as they are opaque (draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Maximum packet accepted from a server, in bytes; OpenSSH sends none longer.
pub const PACKET_MAX_BYTES: usize = 256 << 10;
/// Maximum length of a server's message in an error.
const TEXT_MAX_CHARS: usize = 200;

pub const INIT: u8 = 1;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const LSTAT: u8 = 7;
pub const FSTAT: u8 = 8;
pub const SETSTAT: u8 = 9;
pub const FSETSTAT: u8 = 10;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const EXTENDED: u8 = 200;

pub const FLAG_READ: u32 = 0x01;
/// Create for writing a file that must not exist.
pub const FLAGS_NEW: u32 = 0x02 | 0x08 | 0x20;

/// A request without its number.
#[derive(Debug)]
pub struct Request(BytesMut);

impl Request {
    pub fn new(kind: u8) -> Self {
        let mut packet = BytesMut::with_capacity(128);
        packet.put_u32(0);
        packet.put_u8(kind);
        packet.put_u32(0);
        Self(packet)
    }

    pub fn extended(name: &str) -> Self {
        Self::new(EXTENDED).bytes(name.as_bytes())
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.put_u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn number(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    pub fn long(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    /// Appends file attributes with only the mode.
    pub fn mode(self, mode: u32) -> Self {
        self.number(4).number(mode)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The complete packet, with its length and number.
    pub fn finish(mut self, id: u32) -> Bytes {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0[5..9].copy_from_slice(&id.to_be_bytes());
        self.0.freeze()
    }
}

/// The first packet of a session: has no number, only the version.
pub fn hello() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 5, INIT, 0, 0, 0, 3])
}

/// A reply of the server.
#[derive(Debug)]
pub enum Reply {
    Status { code: u32, text: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Named>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// A name in a directory.
#[derive(Debug)]
pub struct Named {
    pub name: Bytes,
    pub attributes: Attributes,
}

/// Attributes of a file; a server may omit any of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    pub bytes: Option<u64>,
    pub mode: Option<u32>,
}

impl Attributes {
    const KIND: u32 = 0o170_000;

    /// A regular file, or a file of unreported type.
    pub fn is_file(self) -> bool {
        self.mode.is_none_or(|mode| matches!(mode & Self::KIND, 0 | 0o100_000))
    }

    pub fn is_directory(self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::KIND == 0o040_000)
    }
}

/// The error for a malformed packet.
#[derive(Debug)]
pub struct Malformed;

/// Decodes the reply to the first packet: the names of the server's extensions.
pub fn extensions(mut packet: Bytes) -> Result<Vec<String>, Malformed> {
    if byte(&mut packet)? != 2 || number(&mut packet)? < 3 {
        return Err(Malformed);
    }
    let mut names = Vec::new();
    while packet.has_remaining() {
        names.push(String::from_utf8_lossy(&string(&mut packet)?).into_owned());
        string(&mut packet)?;
    }
    Ok(names)
}

/// Decodes a reply and the number of its request.
pub fn reply(mut packet: Bytes) -> Result<(u32, Reply), Malformed> {
    let kind = byte(&mut packet)?;
    let id = number(&mut packet)?;
    let reply = match kind {
        101 => Reply::Status { code: number(&mut packet)?, text: text(&string(&mut packet).unwrap_or_default()) },
        102 => Reply::Handle(string(&mut packet)?),
        103 => Reply::Data(string(&mut packet)?),
        104 => Reply::Names(names(&mut packet)?),
        105 => Reply::Attributes(attributes(&mut packet)?),
        201 => Reply::Extended(packet),
        _ => return Err(Malformed),
    };
    Ok((id, reply))
}

fn names(packet: &mut Bytes) -> Result<Vec<Named>, Malformed> {
    let count = number(packet)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let (name, long) = (string(packet)?, string(packet)?);
        let mut attributes = attributes(packet)?;
        // Servers that omit the mode still give the type in the `ls -l` form.
        attributes.mode = attributes.mode.or_else(|| match long.first()? {
            b'd' => Some(0o040_000),
            b'-' => Some(0o100_000),
            _ => Some(0o120_000),
        });
        names.push(Named { name, attributes });
    }
    Ok(names)
}

fn attributes(packet: &mut Bytes) -> Result<Attributes, Malformed> {
    let mut found = Attributes::default();
    let flags = number(packet)?;
    if flags & 1 != 0 {
        found.bytes = Some(long(packet)?);
    }
    if flags & 2 != 0 {
        long(packet)?;
    }
    if flags & 4 != 0 {
        found.mode = Some(number(packet)?);
    }
    if flags & 8 != 0 {
        long(packet)?;
    }
    if flags & 0x8000_0000 != 0 {
        for _ in 0..number(packet)? {
            string(packet)?;
            string(packet)?;
        }
    }
    Ok(found)
}

fn byte(packet: &mut Bytes) -> Result<u8, Malformed> {
    packet.try_get_u8().map_err(|_| Malformed)
}

pub fn number(packet: &mut Bytes) -> Result<u32, Malformed> {
    packet.try_get_u32().map_err(|_| Malformed)
}

pub fn long(packet: &mut Bytes) -> Result<u64, Malformed> {
    packet.try_get_u64().map_err(|_| Malformed)
}

fn string(packet: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = number(packet)? as usize;
    if length > packet.len() {
        return Err(Malformed);
    }
    Ok(packet.split_to(length))
}

/// The server's message, fit for one line of an error.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_server_do_harm(kind in 99_u8..107, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = extensions(bytes.clone().into());
            let packet = [&[kind][..], &bytes].concat();
            if let Ok((_, Reply::Names(names))) = reply(packet.into()) {
                prop_assert!(names.len() * 12 <= bytes.len(), "no more is kept than was there");
            }
        }
    }

    #[test]
    fn a_listing_is_understood_with_and_without_modes() {
        let attributes = |mode: Option<u32>| match mode {
            Some(mode) => [&5_u32.to_be_bytes()[..], &77_u64.to_be_bytes(), &mode.to_be_bytes()].concat(),
            None => [&1_u32.to_be_bytes()[..], &77_u64.to_be_bytes()].concat(),
        };
        let text = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        let entry = |long: &str, mode| [text("x"), text(long), attributes(mode)].concat();
        let entries = [
            entry("", Some(0o100_644)),
            entry("", Some(0o040_755)),
            entry("-rw-r--r-- x", None),
            entry("drwxr-xr-x x", None),
            entry("lrwxrwxrwx x", None),
        ];
        let packet = [&[104, 0, 0, 0, 9, 0, 0, 0, 5][..], &entries.concat()].concat();
        let Ok((9, Reply::Names(names))) = reply(packet.into()) else { panic!("a listing") };
        let kinds: Vec<_> = names.iter().map(|n| (n.attributes.is_file(), n.attributes.is_directory())).collect();
        assert_eq!(kinds, [(true, false), (false, true), (true, false), (false, true), (false, false)]);
        assert!(names.iter().all(|n| n.attributes.bytes == Some(77)));
    }
}
