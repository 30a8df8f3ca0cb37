//! The handshake: negotiates the export and its features.
//!
//! The length of an option is checked before its data is read as a whole. Any protocol violation ends the connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::wire::{self, OptionHead, answer, info, option};
use super::{Export, READ_MAX_BYTES};

/// The most data of an option, in bytes: the longest name has 4096, and there may be many queries.
const DATA_MAX_BYTES: u32 = 64 << 10;
/// Options per handshake: more than any client sends.
const OPTIONS_MAX: usize = 128;
/// The preferred read size: whole blocks, if they are cut at fixed offsets.
const BEST_BYTES: u32 = 256 << 10;

/// What was negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Structured replies.
    pub structured: bool,
    /// The client may query holes (`base:allocation`).
    pub allocation: bool,
}

/// What follows an option.
enum Next {
    Option,
    Transmission,
    End,
}

struct Handshake<'a, S> {
    stream: &'a mut S,
    export: &'a Export,
    agreed: Agreed,
    no_zeroes: bool,
}

/// Performs the handshake; `None` if the client ended it properly.
///
/// # Errors
/// A client that violates the protocol; errors of the connection.
pub async fn shake<S>(stream: &mut S, export: &Export) -> io::Result<Option<Agreed>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&wire::GREETING).await?;
    let flags = stream.read_u32().await?;
    if flags & !(wire::CLIENT_FIXED_NEWSTYLE | wire::CLIENT_NO_ZEROES) != 0 {
        return Err(foreign());
    }
    let no_zeroes = flags & wire::CLIENT_NO_ZEROES != 0;
    let mut handshake = Handshake { stream, export, agreed: Agreed::default(), no_zeroes };
    for _ in 0..OPTIONS_MAX {
        match handshake.option().await? {
            Next::Option => {}
            Next::Transmission => return Ok(Some(handshake.agreed)),
            Next::End => return Ok(None),
        }
    }
    Err(foreign())
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it does not speak the NBD protocol")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<'_, S> {
    async fn option(&mut self) -> io::Result<Next> {
        let mut head = [0; OptionHead::BYTES];
        self.stream.read_exact(&mut head).await?;
        let OptionHead { option, bytes } = OptionHead::parse(&head).ok_or_else(foreign)?;
        if bytes > DATA_MAX_BYTES {
            self.reply(option, answer::ERR_TOO_BIG, b"").await?;
            return Err(foreign());
        }
        let mut data = vec![0; bytes as usize];
        self.stream.read_exact(&mut data).await?;
        match option {
            option::EXPORT_NAME => return self.export_name(&data).await,
            option::ABORT => {
                self.reply(option, answer::ACK, b"").await?;
                return Ok(Next::End);
            }
            option::LIST if data.is_empty() => {
                self.reply(option, answer::SERVER, &wire::listed(self.export.name.as_str().as_bytes())).await?;
                self.reply(option, answer::ACK, b"").await?;
            }
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.agreed.structured = true;
                self.reply(option, answer::ACK, b"").await?;
            }
            option::LIST | option::STRUCTURED_REPLY => self.reply(option, answer::ERR_INVALID, b"").await?,
            option::INFO | option::GO => return self.info(option, &data).await,
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, &data).await?,
            _ => self.reply(option, answer::ERR_UNSUP, b"").await?,
        }
        Ok(Next::Option)
    }

    async fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        self.stream.write_all(&wire::option_reply(option, kind, data)).await
    }

    fn flags(&self) -> u16 {
        wire::TRANSMISSION_FLAGS | if self.agreed.structured { wire::SEND_DF } else { 0 }
    }

    /// This option has no error reply, so an unknown name ends the connection.
    async fn export_name(&mut self, name: &[u8]) -> io::Result<Next> {
        if !self.export.is_called(name) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it asked for an export that is not here"));
        }
        let mut reply = wire::export(self.export.size(), self.flags()).to_vec();
        if !self.no_zeroes {
            reply.extend_from_slice(&wire::ZEROES);
        }
        self.stream.write_all(&reply).await?;
        Ok(Next::Transmission)
    }

    async fn info(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let error = match wire::parse_info(data) {
            None => answer::ERR_INVALID,
            Some(name) if !self.export.is_called(name) => answer::ERR_UNKNOWN,
            Some(_) => 0,
        };
        if error != 0 {
            self.reply(option, error, b"").await?;
            return Ok(Next::Option);
        }
        let sizes = wire::block_sizes(1, BEST_BYTES, READ_MAX_BYTES);
        let infos = [
            wire::info_of(info::EXPORT, &wire::export(self.export.size(), self.flags())),
            wire::info_of(info::NAME, self.export.name.as_str().as_bytes()),
            wire::info_of(info::DESCRIPTION, self.export.description.as_bytes()),
            wire::info_of(info::BLOCK_SIZE, &sizes),
        ];
        for info in infos {
            self.reply(option, answer::INFO, &info).await?;
        }
        self.reply(option, answer::ACK, b"").await?;
        Ok(if option == option::GO { Next::Transmission } else { Next::Option })
    }

    /// Lists the only context, or selects it.
    async fn contexts(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let choosing = option == option::SET_META_CONTEXT;
        if choosing {
            self.agreed.allocation = false;
        }
        let (name, queries) = match wire::parse_contexts(data) {
            Some(asked) if self.agreed.structured => asked,
            _ => return self.reply(option, answer::ERR_INVALID, b"").await,
        };
        if !self.export.is_called(name) {
            return self.reply(option, answer::ERR_UNKNOWN, b"").await;
        }
        let all = !choosing && (queries.is_empty() || queries.contains(&&b"base:"[..]));
        if all || queries.contains(&wire::ALLOCATION) {
            self.agreed.allocation |= choosing;
            self.reply(option, answer::META_CONTEXT, &wire::allocation_context()).await?;
        }
        self.reply(option, answer::ACK, b"").await
    }
}
