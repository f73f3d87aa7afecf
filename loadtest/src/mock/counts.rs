//! What arrived at the mock and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use crate::clock;

/// Requests kept for [`Counts::received`].
const RECEIVED_MAX: usize = 256;
/// Early departures kept with their time; the count itself goes on.
const CLOSED_EARLY_MAX: usize = 4096;
/// Names a table may hold before new ones are counted together.
const NAMES_MAX: usize = 256;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Method, `POST`.
    pub method: String,
    /// Path with its query, not decoded.
    pub path: String,
    /// HTTP version, `HTTP/1.1`.
    pub version: String,
    /// Names in lower case, in order of arrival per name.
    pub headers: Vec<(String, String)>,
    /// The body; bytes that are no UTF-8 are replaced.
    pub body: String,
}

impl Received {
    /// Gives the first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

/// One client that left before its reply was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedEarly {
    /// The whole model name, knobs included.
    pub model: String,
    /// The path without its query.
    pub path: String,
    /// When the mock noticed.
    pub at: Instant,
    /// Content events handed to the connection before that.
    pub events: u64,
}

/// The same for readers in other processes, which do not share our clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Departure {
    model: String,
    path: String,
    ms_ago: u64,
    events: u64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Requests that arrived whole.
    pub requests: u64,
    /// The same by path without query.
    pub by_path: BTreeMap<String, u64>,
    /// The same by model name, knobs included.
    pub by_model: BTreeMap<String, u64>,
    /// Replies begun, by status; hung and reset requests never get one.
    pub by_status: BTreeMap<u16, u64>,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests being answered now, streams included.
    pub in_flight: u64,
    /// Streams begun.
    pub streams: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// Most streams open at once.
    pub streams_open_max: u64,
    /// Content events handed to connections.
    pub events: u64,
    /// Replies whose client left before the end.
    pub closed_early: u64,
}

/// Shared counters of one mock.
#[derive(Debug, Default)]
pub struct Counts {
    held: Mutex<Held>,
    serial: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    snapshot: Snapshot,
    received: VecDeque<Raw>,
    closed_early: VecDeque<ClosedEarly>,
}

#[derive(Debug)]
struct Raw {
    head: http::request::Parts,
    body: Bytes,
}

impl Counts {
    fn held(&self) -> MutexGuard<'_, Held> {
        // The counters are plain numbers: a panic elsewhere cannot have left them half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the counts as they stand.
    pub fn snapshot(&self) -> Snapshot {
        self.held().snapshot.clone()
    }

    /// Gives the last 256 requests, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.held().received.iter().map(readable).collect()
    }

    /// Gives the last 4096 clients that left early, oldest first.
    pub fn closed_early(&self) -> Vec<ClosedEarly> {
        self.held().closed_early.iter().cloned().collect()
    }

    pub(super) fn departures(&self) -> Vec<Departure> {
        let now = clock::now();
        let ago = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let all = self.closed_early().into_iter();
        all.map(|left| Departure { ms_ago: ago(left.at), model: left.model, path: left.path, events: left.events })
            .collect()
    }

    /// Starts all sums at zero; what is open stays counted.
    pub fn reset(&self) {
        let mut held = self.held();
        let old = std::mem::take(&mut *held).snapshot;
        held.snapshot.connections_open = old.connections_open;
        held.snapshot.in_flight = old.in_flight;
        held.snapshot.streams_open = old.streams_open;
        held.snapshot.streams_open_max = old.streams_open;
    }

    /// Gives the next number of a reply, for its ids.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn connection_opened(self: &Arc<Self>) -> Connection {
        let mut held = self.held();
        held.snapshot.connections += 1;
        held.snapshot.connections_open += 1;
        drop(held);
        Connection { counts: Arc::clone(self) }
    }

    pub(super) fn arrived(&self, head: http::request::Parts, body: Bytes, model: Option<&str>) {
        let mut held = self.held();
        held.snapshot.requests += 1;
        add(&mut held.snapshot.by_path, head.uri.path());
        if let Some(model) = model {
            add(&mut held.snapshot.by_model, model);
        }
        if held.received.len() == RECEIVED_MAX {
            held.received.pop_front();
        }
        held.received.push_back(Raw { head, body });
    }

    /// Watches one reply from the moment its request is known until it is dropped.
    pub(super) fn watch(self: &Arc<Self>, path: &str, model: &str) -> Watch {
        self.held().snapshot.in_flight += 1;
        Watch {
            counts: Arc::clone(self),
            path: path.to_owned(),
            model: model.to_owned(),
            events: 0,
            is_stream: false,
            is_over: false,
        }
    }
}

fn add(table: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = table.get_mut(name) {
        *count += 1;
        return;
    }
    let name = if table.len() < NAMES_MAX { name } else { "(others)" };
    *table.entry(name.to_owned()).or_default() += 1;
}

fn readable(raw: &Raw) -> Received {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Received {
        method: raw.head.method.to_string(),
        path: raw.head.uri.path_and_query().map_or_else(|| raw.head.uri.to_string(), ToString::to_string),
        version: format!("{:?}", raw.head.version),
        headers: raw.head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: text(&raw.body),
    }
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    counts: Arc<Counts>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counts.held().snapshot.connections_open -= 1;
    }
}

/// Follows one reply. Dropped before [`Watch::over`], it counts a client that left.
#[derive(Debug)]
pub(super) struct Watch {
    counts: Arc<Counts>,
    path: String,
    model: String,
    events: u64,
    is_stream: bool,
    is_over: bool,
}

impl Watch {
    pub(super) fn begun(&mut self, status: http::StatusCode, is_stream: bool) {
        let mut held = self.counts.held();
        *held.snapshot.by_status.entry(status.as_u16()).or_default() += 1;
        if is_stream && !self.is_stream {
            self.is_stream = true;
            held.snapshot.streams += 1;
            held.snapshot.streams_open += 1;
            held.snapshot.streams_open_max = held.snapshot.streams_open_max.max(held.snapshot.streams_open);
        }
    }

    pub(super) fn sent(&mut self, events: u64) {
        if events > 0 {
            self.events += events;
            self.counts.held().snapshot.events += events;
        }
    }

    /// The reply ended as the mock meant it to.
    pub(super) fn over(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut held = self.counts.held();
        held.snapshot.in_flight -= 1;
        if self.is_stream {
            held.snapshot.streams_open -= 1;
        }
        if self.is_over {
            return;
        }
        held.snapshot.closed_early += 1;
        if held.closed_early.len() == CLOSED_EARLY_MAX {
            held.closed_early.pop_front();
        }
        held.closed_early.push_back(ClosedEarly {
            model: std::mem::take(&mut self.model),
            path: std::mem::take(&mut self.path),
            at: clock::now(),
            events: self.events,
        });
    }
}
