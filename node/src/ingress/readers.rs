//! The replies of one h2 connection, and how long they wait for somebody to read them.
//!
//! On HTTP/1.1 a reader who stops is met in the socket (see [`super::guard`]). An h2 connection goes on while one of
//! its streams is left lying: hyper then asks that stream's body for nothing more, so the body itself cannot notice. It
//! is watched from beside: a piece that was handed out, and nothing asked for since.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::ReplyBody;
use super::body::{Broken, Held};
use super::guard::BusyGuard;
use crate::clock;

/// The largest piece handed over at once: a slow reader who takes at least this much within the patience is no stalled
/// one.
const PIECE_BYTES: usize = 32 << 10;

/// The replies under way.
#[derive(Default)]
pub(super) struct Readers(Mutex<Replies>);

#[derive(Default)]
struct Replies {
    next: u64,
    open: BTreeMap<u64, Arc<Mutex<Reply>>>,
}

struct Reply {
    /// `None` once it was cut.
    body: Option<Held<BusyGuard>>,
    /// What is left of a piece too large to be handed over at once.
    left: Bytes,
    /// Since when the connection has not asked for more; `None` while it waits for us.
    unread: Option<Instant>,
}

/// A reply's body that is cut when nobody reads it.
pub(super) struct Watched {
    id: u64,
    reply: Arc<Mutex<Reply>>,
    readers: Arc<Readers>,
}

impl Readers {
    /// Watches over a reply from now on.
    pub(super) fn watch(self: &Arc<Self>, body: Held<BusyGuard>) -> Watched {
        let reply = Reply { body: Some(body), left: Bytes::new(), unread: Some(clock::now()) };
        let reply = Arc::new(Mutex::new(reply));
        let mut replies = lock(&self.0);
        let id = replies.next;
        replies.next += 1;
        replies.open.insert(id, reply.clone());
        Watched { id, reply, readers: self.clone() }
    }

    /// Cuts what nobody reads, for ever.
    pub(super) async fn run(&self, patience: Duration) -> Infallible {
        loop {
            tokio::time::sleep(patience / 2).await;
            let now = clock::now();
            let open: Vec<_> = lock(&self.0).open.values().cloned().collect();
            for reply in open {
                let unread = cut(&mut lock(&reply), now, patience);
                // Dropped without the lock: with it goes the call to the provider.
                drop(unread);
            }
        }
    }
}

fn cut(reply: &mut Reply, now: Instant, patience: Duration) -> Option<Held<BusyGuard>> {
    let is_stalled = reply.unread.is_some_and(|since| now.saturating_duration_since(since) >= patience);
    if !is_stalled {
        return None;
    }
    reply.left = Bytes::new();
    reply.body.take()
}

/// A panic in a body is caught inside it, so what the lock guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.readers.0).open.remove(&self.id);
    }
}

impl Reply {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.left.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(Some(Err(Broken))) };
            let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
            match frame {
                None => return Poll::Ready(None),
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                // Our bodies have no trailers.
                Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
            }
        }
        Poll::Ready(Some(Ok(self.left.split_to(self.left.len().min(PIECE_BYTES)))))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut reply = lock(&self.reply);
        reply.unread = None;
        let piece = reply.poll(cx);
        if piece.is_ready() {
            reply.unread = Some(clock::now());
        }
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let reply = lock(&self.reply);
        reply.left.is_empty() && reply.body.as_ref().is_some_and(|held| held.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let reply = lock(&self.reply);
        let left = u64::try_from(reply.left.len()).unwrap_or(u64::MAX);
        match reply.body.as_ref().map(|held| &held.body) {
            Some(body @ ReplyBody::Whole(_)) => {
                SizeHint::with_exact(left.saturating_add(body.size_hint().exact().unwrap_or(0)))
            }
            Some(ReplyBody::Fed(_)) | None => SizeHint::default(),
        }
    }
}
