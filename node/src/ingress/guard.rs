//! A client's socket that does not wait for ever.
//!
//! hyper bounds how long a connection may idle between requests. Bounded here: how long a request's head may take (a
//! slow loris sends a byte a minute), and how long a reader may leave what is written. The pieces of a body are the
//! pipeline's to time, and the readers of single h2 streams are watched in [`super::readers`].

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::seat::Seat;

/// Requests of one connection: those being served, and all there ever were.
#[derive(Default)]
pub(super) struct Busy {
    seat: Seat,
    now: AtomicUsize,
    ever: AtomicUsize,
    /// Whether the last read gave bytes: nobody is waiting for more then, nor for the end.
    is_deaf: AtomicBool,
    /// Whether its time is up: the next reply says that it is the last.
    is_old: AtomicBool,
}

impl Busy {
    pub(super) fn new(seat: Seat) -> Self {
        Self { seat, ..Self::default() }
    }

    pub(super) fn enter(self: &Arc<Self>) -> BusyGuard {
        self.seat.wake();
        self.now.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.clone())
    }

    /// Whether a request is being served and nobody would notice that its client goes away.
    fn is_deaf(&self) -> bool {
        !self.is_idle() && self.is_deaf.load(Ordering::Relaxed)
    }

    /// Its time is up.
    pub(super) fn grow_old(&self) {
        self.is_old.store(true, Ordering::Relaxed);
    }

    /// Whether no request is being served.
    pub(super) fn is_idle(&self) -> bool {
        self.now.load(Ordering::Relaxed) == 0
    }
}

/// How often a connection is looked at that is in use.
const LOOK_WHILE_AWAKE_EVERY: Duration = Duration::from_secs(1);
/// And one that was seen to be of no use for that long.
const LOOK_WHILE_ASLEEP_EVERY: Duration = Duration::from_secs(60);

/// How often a new connection of a node that drains is looked at for its first request.
const LOOK_FOR_FIRST_EVERY: Duration = Duration::from_millis(5);

/// Resolves when a connection has had no request for `limit`, or soon after. One timer a second, a minute while there
/// are none, and nothing a request. A connection that has had none between two looks does not count as in use.
pub(super) async fn idle_for(busy: &Busy, limit: Duration) {
    let (mut seen, mut quiet, mut every) = (None, Duration::ZERO, Duration::ZERO);
    loop {
        let ever = busy.ever.load(Ordering::Relaxed);
        if busy.is_idle() && seen == Some(ever) {
            busy.seat.sleep();
            quiet = quiet.saturating_add(every);
            if quiet >= limit {
                return;
            }
            every = LOOK_WHILE_ASLEEP_EVERY.min(limit);
        } else {
            quiet = Duration::ZERO;
            every = LOOK_WHILE_AWAKE_EVERY.min(limit);
        }
        seen = Some(ever);
        tokio::time::sleep(every).await;
    }
}

/// Resolves when a connection has had its first request, or has taken too long to bring one.
pub(super) async fn begun(busy: &Busy, limit: Duration) {
    let begins = async {
        while busy.ever.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(LOOK_FOR_FIRST_EVERY).await;
        }
    };
    // Either way it is over.
    tokio::time::timeout(limit, begins).await.ok();
}

/// A request in service on a connection.
pub(super) struct BusyGuard(Arc<Busy>);

impl BusyGuard {
    /// Whether its connection's time is up.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_old.load(Ordering::Relaxed)
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a connection is looked at while nobody reads from it.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Resolves when the client of a request in service has gone while nobody was reading.
///
/// It is polled whenever its connection is, and asks for a timer only while that is deaf: an ordinary request costs one
/// comparison.
pub(super) async fn left_unheard(busy: Arc<Busy>, has_left: impl Fn() -> bool) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        loop {
            if !busy.is_deaf() {
                timer = None;
                return Poll::Pending;
            }
            let waiting = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_EVERY)));
            std::task::ready!(waiting.as_mut().poll(cx));
            if has_left() {
                return Poll::Ready(());
            }
            timer = None;
        }
    })
    .await;
}

/// How long a client may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// To send a request's head; `None` for h2, whose frames between requests are no heads.
    pub(super) head: Option<Duration>,
    /// To take what is written.
    pub(super) stall: Duration,
}

/// A head that cannot be read was refused in the middle. Closing on bytes nobody has read resets the connection, and a
/// client that writes all before it reads would lose the answer: so the rest is read and thrown away, this long and
/// this much.
const LINGER_FOR: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;

/// How hyper begins its answer to a head beyond its own bounds: no body, and no word of whose dialect.
const BARE_431: &[u8] = b"HTTP/1.1 431 ";
/// The bytes of a head that tell its path: enough to know a dialect by.
const FIRST_BYTES: usize = 64;

/// Words the answer to a head that cannot be read, by the first bytes of it.
pub(super) type TooLarge = Box<dyn Fn(&[u8]) -> Bytes + Send + Sync>;

/// The socket of one client.
pub(super) struct Guarded<S> {
    inner: S,
    too_large: Option<TooLarge>,
    /// An answer of ours that goes out in place of hyper's.
    ours: Bytes,
    busy: Arc<Busy>,
    patience: Patience,
    /// Set while a request's head is incomplete.
    head: Option<Head>,
    /// Runs while the client does not take what is written.
    stall: Option<Pin<Box<Sleep>>>,
    /// Set once the connection ends in the middle of a head.
    linger: Option<Linger>,
}

/// The last look at a client whose request cannot be read.
struct Linger {
    timer: Pin<Box<Sleep>>,
    left: usize,
}

/// A request's head of which the first bytes have come.
struct Head {
    /// Requests there had been when it began: once there are more, it was complete.
    after: usize,
    first: [u8; FIRST_BYTES],
    /// Made only when the rest of it keeps us waiting.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, busy: Arc<Busy>, patience: Patience, too_large: Option<TooLarge>) -> Self {
        Self { inner, too_large, ours: Bytes::new(), busy, patience, head: None, stall: None, linger: None }
    }

    /// The answer that goes out in place of hyper's, if `written` is hyper's to a head beyond its bounds. Nothing the
    /// pipeline says begins so while a head is incomplete: it always has a request's id.
    fn instead_of(&self, written: &[u8]) -> Option<Bytes> {
        let (head, words) = (self.head.as_ref()?, self.too_large.as_ref()?);
        let is_hypers = written.starts_with(BARE_431) && memchr::memmem::find(written, b"x-request-id").is_none();
        is_hypers.then(|| words(&head.first))
    }

    /// `Ready` when the client has stalled for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.patience.stall;
        let timer = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(result) => {
                self.stall = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_stalled(cx).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.busy.is_deaf.store(result.is_ready(), Ordering::Relaxed);
        let Some(limit) = this.patience.head else { return result };
        let ever = this.busy.ever.load(Ordering::Relaxed);
        if !this.busy.is_idle() || this.head.as_ref().is_some_and(|head| head.after != ever) {
            this.head = None;
        }
        match result {
            Poll::Ready(result) => {
                if this.busy.is_idle() && this.head.is_none() && buf.filled().len() > before {
                    let mut first = [0; FIRST_BYTES];
                    let seen = buf.filled().get(before..).unwrap_or_default();
                    first.iter_mut().zip(seen).for_each(|(to, from)| *to = *from);
                    this.head = Some(Head { after: ever, first, timer: None });
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let Some(head) = &mut this.head else { return Poll::Pending };
                let timer = head.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                timer.as_mut().poll(cx).map(|()| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too long to send a request's head"))
                })
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads and forgets what is still coming of a head that was refused.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.head.is_none() {
            return Poll::Ready(());
        }
        let linger = self
            .linger
            .get_or_insert_with(|| Linger { timer: Box::pin(tokio::time::sleep(LINGER_FOR)), left: LINGER_BYTES });
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Pending => return linger.timer.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => match linger.left.checked_sub(buf.filled().len()) {
                    Some(left) if !buf.filled().is_empty() => linger.left = left,
                    Some(_) | None => return Poll::Ready(()),
                },
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Writes what goes out in place of hyper's answer.
    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ours.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &self.ours))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ours.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(ours) = this.instead_of(buf) {
            this.ours = ours;
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(cx, result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = match this.poll_ours(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.inner).poll_flush(cx),
            other => other,
        };
        this.written(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        this.poll_linger(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_came_for_long_enough() {
        let busy = Arc::new(Busy::default());
        let limit = Duration::from_millis(5);
        let guard = busy.enter();

        assert!(tokio::time::timeout(limit * 10, idle_for(&busy, limit)).await.is_err());
        drop(guard);

        tokio::time::timeout(Duration::from_secs(10), idle_for(&busy, limit)).await.unwrap();
    }
}
