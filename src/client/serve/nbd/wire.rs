//! Encodes and decodes the NBD protocol. Pure: no sockets, no image.
//!
//! Source: "The NBD protocol", `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>; constants are named as
//! there. All numbers are big-endian. Only what a read-only export needs is here, and no allocation depends on a length
//! that a client sent.

/// `NBDMAGIC`, `IHAVEOPT` and the handshake flags `NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES`: the server's
/// greeting.
pub const GREETING: [u8; 18] = *b"NBDMAGICIHAVEOPT\x00\x03";
/// `NBD_FLAG_C_FIXED_NEWSTYLE`.
pub const CLIENT_FIXED_NEWSTYLE: u32 = 1;
/// `NBD_FLAG_C_NO_ZEROES`.
pub const CLIENT_NO_ZEROES: u32 = 2;
/// Padding after the reply to `NBD_OPT_EXPORT_NAME`, unless the client set [`CLIENT_NO_ZEROES`].
pub const ZEROES: [u8; 124] = [0; 124];

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Options of the handshake, `NBD_OPT_...`.
pub mod option {
    #![allow(missing_docs, reason = "the names are the document's")]
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options, `NBD_REP_...`.
pub mod answer {
    #![allow(missing_docs, reason = "the names are the document's")]
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    pub const ERR_INVALID: u32 = 0x8000_0003;
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Kinds of information, `NBD_INFO_...`.
pub mod info {
    #![allow(missing_docs, reason = "the names are the document's")]
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Commands, `NBD_CMD_...`.
pub mod command {
    #![allow(missing_docs, reason = "the names are the document's")]
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
    pub const RESIZE: u16 = 8;
    /// `NBD_CMD_FLAG_DF`: the reply to a read must not be fragmented.
    pub const FLAG_DF: u16 = 4;
    /// `NBD_CMD_FLAG_REQ_ONE`: one extent is enough.
    pub const FLAG_REQ_ONE: u16 = 8;
}

/// Errors of the transmission phase, `NBD_E...`.
pub mod error {
    #![allow(missing_docs, reason = "the names are the document's")]
    pub const PERM: u32 = 1;
    pub const IO: u32 = 5;
    pub const INVAL: u32 = 22;
}

/// Features of the export, `NBD_FLAG_...`: read-only, identical on any number of connections, prefetch on request.
pub const TRANSMISSION_FLAGS: u16 = HAS_FLAGS | READ_ONLY | CAN_MULTI_CONN | SEND_CACHE;
/// `NBD_FLAG_SEND_DF`, set with structured replies.
pub const SEND_DF: u16 = 1 << 7;
const HAS_FLAGS: u16 = 1;
const READ_ONLY: u16 = 1 << 1;
const CAN_MULTI_CONN: u16 = 1 << 8;
const SEND_CACHE: u16 = 1 << 10;

/// The only metadata context: which parts of the image are holes.
pub const ALLOCATION: &[u8] = b"base:allocation";
/// The number of that context after the handshake.
pub const ALLOCATION_ID: u32 = 1;
/// `NBD_STATE_HOLE | NBD_STATE_ZERO`.
const STATE_HOLE: u32 = 3;

/// The header of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHead {
    /// `NBD_OPT_...`.
    pub option: u32,
    /// Size of the data that follows, in bytes.
    pub bytes: u32,
}

impl OptionHead {
    /// Size on the wire, in bytes.
    pub const BYTES: usize = 16;

    /// Parses a header; `None` if invalid.
    pub fn parse(head: &[u8; Self::BYTES]) -> Option<Self> {
        let mut rest = Rest(head);
        (rest.take(8)? == OPTION_MAGIC).then_some(())?;
        Some(Self { option: rest.u32()?, bytes: rest.u32()? })
    }
}

/// Parses the data of `NBD_OPT_INFO` and `NBD_OPT_GO`: an export name. The requested kinds of information are ignored:
/// all are sent.
pub fn parse_info(data: &[u8]) -> Option<&[u8]> {
    let mut rest = Rest(data);
    let name = rest.string()?;
    let kinds = usize::from(rest.u16()?);
    (rest.0.len() == 2 * kinds).then_some(name)
}

/// Parses the data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`: an export name and queries.
pub fn parse_contexts(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut rest = Rest(data);
    let name = rest.string()?;
    let (count, mut queries) = (rest.u32()?, Vec::new());
    for _ in 0..count {
        queries.push(rest.string()?);
    }
    rest.0.is_empty().then_some((name, queries))
}

/// Encodes a reply to an option.
pub fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend_from_slice(data);
    reply
}

/// The data of `NBD_REP_SERVER`: an export name.
pub fn listed(name: &[u8]) -> Vec<u8> {
    [&(name.len() as u32).to_be_bytes(), name].concat()
}

/// Size and flags of an export, as in the reply to `NBD_OPT_EXPORT_NAME` and in `NBD_INFO_EXPORT`.
pub fn export(size: u64, flags: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&size.to_be_bytes());
    bytes[8..].copy_from_slice(&flags.to_be_bytes());
    bytes
}

/// The data of `NBD_REP_INFO`.
pub fn info_of(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), data].concat()
}

/// The content of `NBD_INFO_BLOCK_SIZE`: minimum, preferred and maximum read size, in bytes.
pub fn block_sizes(least: u32, best: u32, largest: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (place, size) in bytes.chunks_exact_mut(4).zip([least, best, largest]) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    bytes
}

/// The data of `NBD_REP_META_CONTEXT` for [`ALLOCATION`].
pub fn allocation_context() -> Vec<u8> {
    [&ALLOCATION_ID.to_be_bytes(), ALLOCATION].concat()
}

/// A request of the transmission phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// `NBD_CMD_FLAG_...`.
    pub flags: u16,
    /// `NBD_CMD_...`.
    pub command: u16,
    /// Identifies the reply for the client.
    pub cookie: u64,
    /// Offset in the image, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u32,
}

impl Request {
    /// Size on the wire, in bytes.
    pub const BYTES: usize = 28;

    /// Parses a request; `None` if invalid.
    pub fn parse(head: &[u8; Self::BYTES]) -> Option<Self> {
        let mut rest = Rest(head);
        (rest.u32()? == REQUEST_MAGIC).then_some(())?;
        let (flags, command) = (rest.u16()?, rest.u16()?);
        Some(Self { flags, command, cookie: rest.u64()?, offset: rest.u64()?, bytes: rest.u32()? })
    }
}

/// The header of a simple reply; the data follows if there is no error.
pub fn simple_reply(cookie: u64, error: u32) -> [u8; 16] {
    let mut reply = [0; 16];
    reply[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    reply[4..8].copy_from_slice(&error.to_be_bytes());
    reply[8..].copy_from_slice(&cookie.to_be_bytes());
    reply
}

/// A chunk of a structured reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// No data: ends the reply.
    None,
    /// Header of data: offset in the image and size in bytes; the data follows.
    Data(u64, u32),
    /// A hole: offset and size in bytes.
    Hole(u64, u32),
    /// Runs: size in bytes, and whether it is a hole.
    Status(&'a [(u32, bool)]),
    /// An error code and a message.
    Error(u32, &'a str),
}

impl Chunk<'_> {
    /// Appends the chunk to `reply`; `last` marks the end of the reply.
    pub fn write(self, cookie: u64, last: bool, reply: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Chunk::None => (0, 0),
            Chunk::Data(_, bytes) => (1, 8 + bytes),
            Chunk::Hole(..) => (2, 12),
            Chunk::Status(runs) => (5, 4 + 8 * runs.len() as u32),
            Chunk::Error(_, words) => (0x8001_u16, 6 + words.len() as u32),
        };
        reply.extend(STRUCTURED_REPLY_MAGIC.to_be_bytes());
        reply.extend(u16::from(last).to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.extend(bytes.to_be_bytes());
        match self {
            Chunk::None => {}
            Chunk::Data(offset, _) => reply.extend(offset.to_be_bytes()),
            Chunk::Hole(offset, bytes) => {
                reply.extend(offset.to_be_bytes());
                reply.extend(bytes.to_be_bytes());
            }
            Chunk::Status(runs) => {
                reply.extend(ALLOCATION_ID.to_be_bytes());
                for &(bytes, hole) in runs {
                    reply.extend(bytes.to_be_bytes());
                    reply.extend(if hole { STATE_HOLE } else { 0 }.to_be_bytes());
                }
            }
            Chunk::Error(error, words) => {
                reply.extend(error.to_be_bytes());
                reply.extend((words.len() as u16).to_be_bytes());
                reply.extend_from_slice(words.as_bytes());
            }
        }
    }
}

/// Bytes still to be parsed.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A length, and that many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let bytes = self.u32()?;
        self.take(bytes as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(chunk: Chunk<'_>, last: bool) -> Vec<u8> {
        let mut reply = Vec::new();
        chunk.write(0x0102_0304_0506_0708, last, &mut reply);
        reply
    }

    #[test]
    fn heads_are_read_and_others_refused() {
        let head = b"IHAVEOPT\x00\x00\x00\x07\x00\x00\x01\x02";
        assert_eq!(OptionHead::parse(head), Some(OptionHead { option: option::GO, bytes: 258 }));
        assert_eq!(OptionHead::parse(b"IHAVEOPS\x00\x00\x00\x07\x00\x00\x01\x02"), None);
        let request = b"\x25\x60\x95\x13\x00\x04\x00\x00ABCDEFGH\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x02\x00";
        let cookie = u64::from_be_bytes(*b"ABCDEFGH");
        let read = Request { flags: command::FLAG_DF, command: command::READ, cookie, offset: 4096, bytes: 512 };
        assert_eq!(Request::parse(request), Some(read));
        assert_eq!(Request::parse(&[0x25; 28]), None);
    }

    #[test]
    fn option_data_is_read_to_its_end_and_no_further() {
        assert_eq!(parse_info(b"\x00\x00\x00\x02ab\x00\x01\x00\x03"), Some(&b"ab"[..]));
        assert_eq!(parse_info(b"\x00\x00\x00\x00\x00\x00"), Some(&b""[..]));
        let wrong: [&[u8]; 5] = [
            b"",
            b"\x00\x00\x00\x02a",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x00\x00\x02\x00\x03",
            b"\x00\x00\x00\x00\x00\x00\x00",
        ];
        wrong.iter().for_each(|data| assert_eq!(parse_info(data), None, "{data:?}"));
        let data = b"\x00\x00\x00\x01x\x00\x00\x00\x02\x00\x00\x00\x05base:\x00\x00\x00\x00";
        assert_eq!(parse_contexts(data), Some((&b"x"[..], vec![&b"base:"[..], b""])));
        let wrong: [&[u8]; 4] = [
            b"\x00\x00\x00\x01x",
            b"\x00\x00\x00\x00\xff\xff\xff\xff",
            b"\x00\x00\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xff",
            b"\x00\x00\x00\x00\x00\x00\x00\x00y",
        ];
        wrong.iter().for_each(|data| assert_eq!(parse_contexts(data), None, "{data:?}"));
    }

    #[test]
    fn answers_to_options() {
        let reply =
            b"\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00\x03\x00\x00\x00\x02\x00\x00\x00\x06\x00\x00\x00\x02ab";
        assert_eq!(option_reply(option::LIST, answer::SERVER, &listed(b"ab")), reply);
        assert_eq!(export(0x0102, TRANSMISSION_FLAGS), *b"\0\0\0\0\0\0\x01\x02\x05\x03");
        assert_eq!(info_of(info::NAME, b"x"), b"\x00\x01x");
        assert_eq!(block_sizes(1, 4096, 1 << 25), *b"\0\0\0\x01\0\0\x10\0\x02\0\0\0");
        assert_eq!(allocation_context(), b"\x00\x00\x00\x01base:allocation");
    }

    #[test]
    fn replies() {
        assert_eq!(simple_reply(0x4142, error::IO), *b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0AB");
        let head = |flags: u8, kind: [u8; 2], bytes: u8| {
            [b"\x66\x8e\x33\xef\x00", &[flags][..], &kind, b"\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0", &[bytes]].concat()
        };
        assert_eq!(chunk(Chunk::None, true), head(1, [0, 0], 0));
        assert_eq!(chunk(Chunk::Data(9, 7), false), [head(0, [0, 1], 15), b"\0\0\0\0\0\0\0\x09".to_vec()].concat());
        let hole = [head(1, [0, 2], 12), b"\0\0\0\0\0\0\0\x09\0\0\x01\0".to_vec()].concat();
        assert_eq!(chunk(Chunk::Hole(9, 256), true), hole);
        let status = b"\0\0\0\x01\0\0\x10\0\0\0\0\x03\0\0\x20\0\0\0\0\0";
        let runs = [(4096, true), (8192, false)];
        assert_eq!(chunk(Chunk::Status(&runs), true), [head(1, [0, 5], 20), status.to_vec()].concat());
        let error = [head(1, [0x80, 1], 9), b"\0\0\0\x16\0\x03why".to_vec()].concat();
        assert_eq!(chunk(Chunk::Error(error::INVAL, "why"), true), error);
    }
}
