use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;

use super::client::Lease;
use crate::clock;

/// Pieces that follow each other faster than this come from what has been read already: they are gathered.
const BURST: Duration = Duration::from_millis(1);
/// The most that is gathered; a larger piece is handed on as it is.
const GATHER_BYTES: usize = 16 << 10;

type Piece = Result<Bytes, Arc<hyper::Error>>;

/// A provider's reply as it arrives. Dropping it before its end cancels the call at once: an HTTP/1.1 connection is
/// closed, an h2 stream is reset.
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    is_over: bool,
    /// When the last piece was handed out.
    last: Option<Instant>,
    /// Pieces of a burst that have come so far.
    gathered: BytesMut,
    /// Whether the connection's task had a turn since the last of them.
    has_yielded: bool,
    /// What came behind them and does not go with them.
    held: Option<Piece>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
            is_over: false,
            last: None,
            gathered: BytesMut::new(),
            has_yielded: false,
            held: None,
        };
        body.note_end();
        body
    }

    /// The next piece, `None` at the end. After the end the connection serves other calls. Safe to cancel.
    ///
    /// An event that comes alone is handed on at once. Where a provider sent many, they come out together: a write for
    /// each of them costs ten times what the gateway does with it.
    ///
    /// # Errors
    /// What broke the connection, its source kept.
    pub async fn chunk(&mut self) -> Option<Piece> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if self.gathered.is_empty()
            && let Some(held) = self.held.take()
        {
            return Poll::Ready(Some(held));
        }
        while self.held.is_none() && !self.is_over {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers say nothing that any dialect reads.
                    let Ok(data) = frame.into_data() else { continue };
                    self.note_end();
                    if data.is_empty() {
                        continue;
                    }
                    if self.gathered.is_empty() && !self.is_burst(&data) {
                        return Poll::Ready(Some(Ok(data)));
                    }
                    if self.gathered.len() + data.len() > GATHER_BYTES {
                        self.held = Some(Ok(data));
                    } else {
                        if self.gathered.is_empty() {
                            self.gathered.reserve(GATHER_BYTES / 4);
                        }
                        self.gathered.extend_from_slice(&data);
                        self.has_yielded = false;
                    }
                }
                Poll::Ready(Some(Err(error))) => self.held = Some(Err(Arc::new(error))),
                Poll::Ready(None) => self.end(),
                // The connection's task is awake, for a piece was taken from it; behind it in the queue, we see what it
                // had left.
                Poll::Pending if !self.gathered.is_empty() && !self.has_yielded => {
                    self.has_yielded = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if self.gathered.is_empty() {
            return Poll::Ready(self.held.take());
        }
        self.last = Some(clock::now());
        Poll::Ready(Some(Ok(self.gathered.split().freeze())))
    }

    /// Whether `data`, which has come, is worth waiting a turn for more of its kind.
    fn is_burst(&mut self, data: &Bytes) -> bool {
        if self.is_over || data.len() >= GATHER_BYTES / 4 {
            return false;
        }
        let now = clock::now();
        let last = self.last.replace(now);
        last.is_some_and(|last| now.saturating_duration_since(last) < BURST)
    }

    /// Gives the connection back as soon as the last byte is known to have come: with a length announced that is before
    /// the end itself is told.
    fn note_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// The length the reply announced, if it did.
    pub fn announced_bytes(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }
}
