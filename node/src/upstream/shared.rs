use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;

use super::client::{AGE_MAX, IDLE_FOR};
use crate::clock;

/// Streams one h2 connection carries before another is opened, so that one stall is not everyone's.
const STREAMS_MAX: usize = 64;

/// An h2 connection: many calls at once. It closes when the pool has forgotten it and its last stream has ended.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Full<Bytes>>,
    opened: Instant,
    load: Arc<Mutex<Load>>,
}

struct Load {
    streams: usize,
    /// When the last stream ended.
    quiet_since: Instant,
}

/// One stream's place on an h2 connection.
pub(super) struct Place(Arc<Mutex<Load>>);

impl Shared {
    pub(super) fn new(sender: http2::SendRequest<Full<Bytes>>, opened: Instant) -> Self {
        Self { sender, opened, load: Arc::new(Mutex::new(Load { streams: 0, quiet_since: opened })) }
    }

    /// A place for a call, unless the connection is full.
    pub(super) fn place(&self) -> Option<Place> {
        let mut load = lock(&self.load);
        if load.streams >= STREAMS_MAX {
            return None;
        }
        load.streams += 1;
        Some(Place(self.load.clone()))
    }

    /// Whether new calls may use it: it is open, not too old, and was not idle too long.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        let load = lock(&self.load);
        let is_idle = load.streams == 0 && now.saturating_duration_since(load.quiet_since) >= IDLE_FOR;
        !self.sender.is_closed() && !is_idle && now.saturating_duration_since(self.opened) < AGE_MAX
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut load = lock(&self.0);
        load.streams = load.streams.saturating_sub(1);
        load.quiet_since = clock::now();
    }
}

fn lock(load: &Mutex<Load>) -> MutexGuard<'_, Load> {
    // Nothing panics while it is held.
    load.lock().unwrap_or_else(PoisonError::into_inner)
}
