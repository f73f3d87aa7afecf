//! The cutter: where one event ends and the next begins.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::Frame;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a stream cannot be cut any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// One event is larger than the framer was told to hold; nothing comes out after this.
    #[error("a stream event is larger than {limit} bytes")]
    TooLarge {
        /// The most bytes one event may have.
        limit: usize,
    },
}

/// Where the scan stands between two bytes of the event being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line: a line end here is the blank line.
    LineStart,
    /// Within a line.
    Inside,
    /// After a CR that ended a line with something in it: an LF would belong to it.
    LineCr,
    /// After a CR that ended the blank line: an LF would belong to it.
    BlankCr,
}

/// Cuts a byte stream into complete events, however it was chunked.
///
/// An event that lies whole within one chunk is a slice of that chunk; one that spans chunks is copied once. Lines end
/// in LF, CRLF or CR. A byte order mark at the start of the stream is taken off, because one official SDK loses its
/// first event to it.
#[derive(Debug)]
pub struct Framer {
    /// Bytes that came and were not given out.
    chunk: Bytes,
    /// The scanned head of an event that spans chunks.
    carry: BytesMut,
    at: At,
    limit: usize,
    first: bool,
    finished: bool,
    failed: bool,
}

impl Framer {
    /// A framer for one stream; an event of more than `limit` bytes ends it with an error.
    pub fn new(limit: usize) -> Self {
        Self {
            chunk: Bytes::new(),
            carry: BytesMut::new(),
            at: At::LineStart,
            limit,
            first: true,
            finished: false,
            failed: false,
        }
    }

    /// Takes the next bytes of the stream. Call [`next`](Self::next) until it gives `None` before pushing more; bytes
    /// pushed earlier are kept, at the cost of a copy.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// Says that no more bytes will come.
    ///
    /// It completes an event whose blank line is a lone CR, which could otherwise still be half of a CRLF. All else
    /// that is incomplete stays so: see [`has_partial`](Self::has_partial).
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next complete event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], once; `None` from then on.
    #[expect(clippy::should_implement_trait, reason = "an iterator would promise that `None` is the end")]
    pub fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.failed {
            return None;
        }
        let end = find_end(&self.chunk, &mut self.at);
        let bytes = self.carry.len().saturating_add(end.unwrap_or(self.chunk.len()));
        if bytes > self.limit {
            self.failed = true;
            self.chunk = Bytes::new();
            self.carry = BytesMut::new();
            return Some(Err(FrameError::TooLarge { limit: self.limit }));
        }
        let raw = match end {
            Some(end) if self.carry.is_empty() => self.chunk.split_to(end),
            Some(end) => {
                self.carry.extend_from_slice(self.chunk.get(..end).unwrap_or_default());
                self.chunk.advance(end);
                self.carry.split().freeze()
            }
            None => {
                self.carry.extend_from_slice(&self.chunk);
                self.chunk = Bytes::new();
                if !(self.finished && self.at == At::BlankCr) {
                    return None;
                }
                self.carry.split().freeze()
            }
        };
        self.at = At::LineStart;
        Some(Ok(Frame::parse(self.without_mark(raw))))
    }

    /// Whether bytes of an event came whose blank line did not: at the end of a stream, it was cut.
    pub fn has_partial(&self) -> bool {
        !self.carry.is_empty() || !self.chunk.is_empty()
    }

    fn without_mark(&mut self, mut raw: Bytes) -> Bytes {
        if std::mem::take(&mut self.first) && raw.starts_with(BOM) {
            raw.advance(BOM.len());
        }
        raw
    }
}

/// The length of the rest of the current event, its blank line included, if `bytes` holds the end of it.
///
/// A blank line may end in a CR whose LF has not come yet. Where the line before it ended in LF or CRLF, the next byte
/// decides; after a bare CR nothing is waited for, because a stream that ends its lines in CR would then be one event
/// late all the way. (A stray LF after that is one more blank line, which means nothing.)
fn find_end(bytes: &[u8], at: &mut At) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let next = *rest.first()?;
        match (*at, next) {
            (At::LineStart | At::BlankCr, b'\n') | (At::LineCr, b'\r') => return Some(from + 1),
            (At::BlankCr, _) => return Some(from),
            (At::LineCr, b'\n') => {
                *at = At::LineStart;
                from += 1;
            }
            (At::LineStart, b'\r') => {
                *at = At::BlankCr;
                from += 1;
            }
            (At::LineStart | At::LineCr | At::Inside, _) => {
                let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                    *at = At::Inside;
                    return None;
                };
                *at = if rest.get(end) == Some(&b'\n') { At::LineStart } else { At::LineCr };
                from += end + 1;
            }
        }
    }
}
