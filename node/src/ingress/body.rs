//! The bodies of replies: whole, or fed by the future that relays a stream.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};

/// A reply's body.
pub enum ReplyBody {
    /// All of it at once; `None` once it was taken.
    Whole(Option<Bytes>),
    /// Piece by piece, as the future feeds it. Dropping the body drops the future, and with it the upstream call.
    Fed(Fed),
}

/// A body and the future behind it.
pub struct Fed {
    work: Option<Work>,
    slot: Slot,
}

/// Says that a body ends before its time: the connection (or h2 stream) is cut, so that nobody takes it for whole.
#[derive(Debug, Clone, Copy)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply broke off")
    }
}

impl std::error::Error for Broken {}

type Slot = Arc<Mutex<Option<Bytes>>>;

/// Where the future behind a body puts its pieces.
pub struct Feed(Slot);

impl Feed {
    /// Hands a piece over and waits until the connection took it: that is all the buffering there is.
    pub async fn send(&self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        *lock(&self.0) = Some(piece);
        // No waker is needed: who takes the piece polls the future again.
        poll_fn(|_| if lock(&self.0).is_some() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

fn lock(slot: &Slot) -> std::sync::MutexGuard<'_, Option<Bytes>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReplyBody {
    /// A whole body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// A body that `work` feeds. An error cuts the connection.
    pub fn fed<F>(work: impl FnOnce(Feed) -> F) -> Self
    where
        F: Future<Output = Result<(), Broken>> + Send + 'static,
    {
        let slot = Slot::default();
        let work: Work = Box::pin(work(Feed(slot.clone())));
        Self::Fed(Fed { work: Some(work), slot })
    }

    /// The same body with a panic of its future turned into a cut, after `on_panic` was told.
    #[must_use]
    pub fn caught(self, on_panic: impl FnOnce() + Send + 'static) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes),
            Self::Fed(Fed { work, slot }) => {
                let work = work.map(|work| {
                    let caught = async move {
                        let end = AssertUnwindSafe(work).catch_unwind().await;
                        end.unwrap_or_else(|_panic| {
                            on_panic();
                            Err(Broken)
                        })
                    };
                    Box::pin(caught) as Work
                });
                Self::Fed(Fed { work, slot })
            }
        }
    }
}

type Work = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

impl Fed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        let state = work.as_mut().poll(cx);
        let piece = lock(&self.slot).take();
        match (state, piece) {
            (Poll::Pending, Some(piece)) => Poll::Ready(Some(Ok(piece))),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Ready(end), piece) => {
                self.work = None;
                // `send` waits until its piece was taken, so none is left when the future ends.
                debug_assert!(piece.is_none());
                Poll::Ready(end.err().map(Err))
            }
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Fed(fed) => fed.poll(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Fed(fed) => fed.work.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX)))
            }
            Self::Fed(_) => SizeHint::default(),
        }
    }
}

/// A body that holds something until it is gone.
pub(super) struct Held<G> {
    pub(super) body: ReplyBody,
    pub(super) _guard: G,
}

impl<G: Unpin> Body for Held<G> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_one_by_one_and_in_order() {
        let body = ReplyBody::fed(|feed| async move {
            for piece in ["a", "", "b", "c"] {
                feed.send(Bytes::from_static(piece.as_bytes())).await;
            }
            Ok(())
        });

        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }

    #[tokio::test]
    async fn a_broken_body_ends_in_an_error_behind_its_pieces() {
        let mut body = ReplyBody::fed(|feed| async move {
            feed.send(Bytes::from_static(b"a")).await;
            Err(Broken)
        });

        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_panic_behind_a_body_cuts_it_and_is_told_once() {
        let told = Arc::new(Mutex::new(0));
        let telling = told.clone();
        let body = ReplyBody::fed(|feed| async move {
            feed.send(Bytes::from_static(b"a")).await;
            panic!("planted")
        });
        let mut body = body.caught(move || *telling.lock().unwrap() += 1);

        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
        assert_eq!(*told.lock().unwrap(), 1);
    }
}
