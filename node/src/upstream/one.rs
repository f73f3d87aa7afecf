use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use tokio::task::AbortHandle;

use super::client::AGE_MAX;

/// An HTTP/1.1 connection: one call at a time.
///
/// Dropped between calls it ends in good order; dropped amid one it ends at once, so that nobody goes on writing to a
/// provider that does not read.
pub(super) struct One {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    task: AbortHandle,
    opened: Instant,
}

impl One {
    pub(super) const fn new(sender: http1::SendRequest<Full<Bytes>>, task: AbortHandle, opened: Instant) -> Self {
        Self { sender, task, opened }
    }

    /// Whether new calls may use it: it is open and not too old.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        !self.sender.is_closed() && now.saturating_duration_since(self.opened) < AGE_MAX
    }

    pub(super) const fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether it can take a call now, or as soon as its task had a turn: right after the end of a reply the task may
    /// not have seen that end. Whatever takes longer is a request still being written, because the provider answered
    /// before it had read it all: it may never read the rest, so no call waits for that.
    pub(super) async fn is_ready_soon(&self) -> bool {
        if !self.sender.is_ready() {
            tokio::task::yield_now().await;
        }
        self.sender.is_ready()
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if !self.sender.is_ready() {
            self.task.abort();
        }
    }
}
