//! Frames over a connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::frame::{Decoder, Frame, HELLO_LIMIT};
use super::{BoxedIo, Class, Rejected};

const PIECE_BYTES: usize = 64 << 10;

/// How a stream of frames ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Between two frames, by the other side.
    Closed,
    /// By the connection.
    Broken(io::Error),
    /// Nothing came for as long as a connection may be idle.
    Idle,
    /// What came is not acceptable.
    Rejected(Rejected),
}

/// Splits a connection into what reads and what writes frames. Both know strangers only, until they are told the class.
pub(super) fn frames(io: BoxedIo) -> (Reader, Writer) {
    let (from, to) = tokio::io::split(io);
    let decoder = Decoder::new(HELLO_LIMIT);
    let reader = Reader { from, decoder, buffer: Vec::new(), at: 0 };
    (reader, Writer { to: BufWriter::with_capacity(16 << 10, to) })
}

/// Reads frames.
pub(super) struct Reader {
    from: ReadHalf<BoxedIo>,
    decoder: Decoder,
    /// What was read; a frame begins or goes on at `at`.
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// From now on frames may be as large as the class allows.
    pub(super) fn admit(&mut self, class: Class) {
        self.decoder = Decoder::new(class.limit());
    }

    /// The next frame. `idle` bounds the wait for its beginning, `stall` each pause within it. Dropping the future loses
    /// nothing.
    pub(super) async fn next(&mut self, idle: Duration, stall: Duration) -> Result<Frame, Ended> {
        loop {
            let mut rest = self.buffer.get(self.at..).unwrap_or_default();
            let frame = self.decoder.take(&mut rest).map_err(Ended::Rejected)?;
            self.at = self.buffer.len() - rest.len();
            if let Some(frame) = frame {
                return Ok(frame);
            }
            self.buffer.clear();
            self.at = 0;
            self.buffer.reserve(PIECE_BYTES);
            let is_inside = self.decoder.is_inside();
            let patience = if is_inside { stall } else { idle };
            match timeout(patience, self.from.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) if is_inside => return Err(Ended::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(0)) => return Err(Ended::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Ended::Broken(error)),
                Err(_) if is_inside => return Err(Ended::Rejected(Rejected::Slow)),
                Err(_) => return Err(Ended::Idle),
            }
        }
    }
}

/// Writes frames.
pub(super) struct Writer {
    to: BufWriter<WriteHalf<BoxedIo>>,
}

impl Writer {
    /// Writes a frame; it may stay in a buffer until [`Self::flush`]. `stall` bounds the wait for each piece to be taken.
    pub(super) async fn put(&mut self, frame: &Frame, stall: Duration) -> Result<(), Ended> {
        let head = frame.head().ok_or(Ended::Rejected(Rejected::TooLarge))?;
        in_time(stall, self.to.write_all(&head)).await?;
        for piece in frame.body.chunks(PIECE_BYTES) {
            in_time(stall, self.to.write_all(piece)).await?;
        }
        Ok(())
    }

    /// Sends what is in the buffer.
    pub(super) async fn flush(&mut self, stall: Duration) -> Result<(), Ended> {
        in_time(stall, self.to.flush()).await
    }

    /// Writes what is left and says that nothing more comes, as far as the connection still takes it.
    pub(super) async fn close(&mut self, within: Duration) {
        match timeout(within, self.to.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "connection was gone before it was closed"),
            Err(_) => tracing::trace!("connection took no goodbye"),
        }
    }
}

async fn in_time(stall: Duration, write: impl Future<Output = io::Result<()>>) -> Result<(), Ended> {
    match timeout(stall, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Broken(error)),
        Err(_) => Err(Ended::Rejected(Rejected::Slow)),
    }
}
