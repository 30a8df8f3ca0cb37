//! The reader and writer tasks of a session's channel.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::pending::Ending;
use super::wire;

/// Interval of the check that the server still answers.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Dispatches the server's replies until the session ends.
pub async fn read<R: AsyncRead + Unpin>(mut input: R, session: Ending) {
    loop {
        let mut next = pin!(packet(&mut input));
        let packet = loop {
            match tokio::time::timeout(LOOK_INTERVAL, &mut next).await {
                Ok(Ok(packet)) => break packet,
                Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => return session.0.end(&e.to_string()),
                Ok(Err(_)) => return,
                Err(_) if session.0.is_silent() => return session.0.end("the server no longer responds"),
                Err(_) => {}
            }
        };
        match wire::reply(packet) {
            Ok((id, reply)) => session.0.answered(id, reply),
            Err(_) => return session.0.end("the server sent an invalid SFTP packet"),
        }
    }
}

/// Sends queued packets until the session ends.
pub async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut packets: mpsc::UnboundedReceiver<Bytes>,
    _session: Ending,
) {
    while let Some(packet) = packets.recv().await {
        if output.write_all(&packet).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

/// Reads one packet, without its length field.
pub async fn packet<R: AsyncRead + Unpin>(input: &mut R) -> io::Result<Bytes> {
    let length = input.read_u32().await? as usize;
    if length == 0 || length > wire::PACKET_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the server sent a packet of {length} bytes")));
    }
    let mut packet = BytesMut::zeroed(length);
    input.read_exact(&mut packet).await?;
    Ok(packet.freeze())
}
