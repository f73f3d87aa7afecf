//! What arrived at the mock and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::quota::{Quota, Reading, Windows};
use super::switch::Switch;
use crate::clock;

/// Requests kept for [`Counts::received`].
const RECEIVED_MAX: usize = 256;
/// Early departures kept with their time; the count itself goes on.
const CLOSED_EARLY_MAX: usize = 4096;
/// Bills kept; older ones are forgotten.
const BILLS_MAX: usize = 4096;
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
    /// The same without lists of models.
    pub calls: u64,
    /// Lists of models alone, which is how a gateway asks whether its provider is there.
    pub probes: u64,
    /// The same by path without query.
    pub by_path: BTreeMap<String, u64>,
    /// The same by model name, knobs included.
    pub by_model: BTreeMap<String, u64>,
    /// Requests by the credential they showed, and by path without query.
    pub by_credential: BTreeMap<String, BTreeMap<String, u64>>,
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

impl Snapshot {
    /// Requests but lists of models that showed this credential.
    pub fn calls_by(&self, credential: &str) -> u64 {
        let paths = self.by_credential.get(credential).into_iter().flatten();
        paths.filter(|(path, _)| !is_list(path)).map(|(_, count)| count).sum()
    }

    /// Lists of models that showed this credential.
    pub fn probes_by(&self, credential: &str) -> u64 {
        let paths = self.by_credential.get(credential).into_iter().flatten();
        paths.filter(|(path, _)| is_list(path)).map(|(_, count)| count).sum()
    }

    /// Requests for models whose name begins so.
    pub fn calls_of(&self, prefix: &str) -> u64 {
        self.by_model.iter().filter(|(model, _)| model.starts_with(prefix)).map(|(_, count)| count).sum()
    }
}

fn is_list(path: &str) -> bool {
    path.ends_with("/models")
}

/// One reply and what it would cost: kept when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// The number in the reply's ids.
    pub serial: u64,
    /// The whole model name, knobs included.
    pub model: String,
    /// The path without its query.
    pub path: String,
    /// The credential that came with the call.
    pub credential: String,
    /// Status of the reply, if one was begun.
    pub status: Option<u16>,
    /// Content events handed to the connection.
    pub events: u64,
    /// Words that the conversation had already and that were not said again.
    pub resumed: u64,
    /// Whether the client left before the end.
    pub has_left: bool,
}

/// Shared counters of one mock.
#[derive(Debug, Default)]
pub struct Counts {
    held: Mutex<Held>,
    serial: AtomicU64,
    /// Faults that are switched on.
    pub(super) switch: Switch,
    quotas: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Held {
    snapshot: Snapshot,
    received: VecDeque<Raw>,
    closed_early: VecDeque<ClosedEarly>,
    bills: VecDeque<Bill>,
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

    /// Gives the bills of the last 4096 replies that are over, oldest first.
    pub fn bills(&self) -> Vec<Bill> {
        self.held().bills.iter().cloned().collect()
    }

    /// Takes one call from what a credential has left.
    pub(super) fn take(&self, credential: &str, quota: Quota) -> Reading {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner).take(credential, quota, clock::now())
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

    pub(super) fn connection_opened(self: &Arc<Self>) -> Connection {
        let mut held = self.held();
        held.snapshot.connections += 1;
        held.snapshot.connections_open += 1;
        drop(held);
        Connection { counts: Arc::clone(self) }
    }

    /// Counts one request, and tells which one of its model's it is.
    pub(super) fn arrived(
        &self,
        head: http::request::Parts,
        body: Bytes,
        model: Option<&str>,
        credential: &str,
    ) -> u64 {
        let mut held = self.held();
        let snapshot = &mut held.snapshot;
        let path = head.uri.path();
        snapshot.requests += 1;
        if is_list(path) {
            snapshot.probes += 1;
        } else {
            snapshot.calls += 1;
        }
        add(&mut snapshot.by_path, path);
        if let Some(paths) = snapshot.by_credential.get_mut(credential) {
            add(paths, path);
        } else {
            let name = if snapshot.by_credential.len() < NAMES_MAX { credential } else { OTHERS };
            add(snapshot.by_credential.entry(name.to_owned()).or_default(), path);
        }
        let call = model.map_or(0, |model| add(&mut snapshot.by_model, model));
        if held.received.len() == RECEIVED_MAX {
            held.received.pop_front();
        }
        held.received.push_back(Raw { head, body });
        call
    }

    /// Watches one reply from the moment its request is known until it is dropped.
    pub(super) fn watch(self: &Arc<Self>, path: &str, model: &str, credential: &str) -> Watch {
        self.held().snapshot.in_flight += 1;
        let bill = Bill {
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            model: model.to_owned(),
            path: path.to_owned(),
            credential: credential.to_owned(),
            status: None,
            events: 0,
            resumed: 0,
            has_left: true,
        };
        Watch { counts: Arc::clone(self), bill, is_stream: false }
    }
}

/// The name under which a full table counts the rest.
const OTHERS: &str = "(others)";

fn add(table: &mut BTreeMap<String, u64>, name: &str) -> u64 {
    if let Some(count) = table.get_mut(name) {
        *count += 1;
        return *count;
    }
    let name = if table.len() < NAMES_MAX { name } else { OTHERS };
    let count = table.entry(name.to_owned()).or_default();
    *count += 1;
    *count
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
    bill: Bill,
    is_stream: bool,
}

impl Watch {
    /// The number of this reply, for its ids.
    pub(super) fn serial(&self) -> u64 {
        self.bill.serial
    }

    /// The credential that came with the call.
    pub(super) fn credential(&self) -> &str {
        &self.bill.credential
    }

    pub(super) fn begun(&mut self, status: http::StatusCode, is_stream: bool) {
        self.bill.status = Some(status.as_u16());
        let mut held = self.counts.held();
        *held.snapshot.by_status.entry(status.as_u16()).or_default() += 1;
        if is_stream && !self.is_stream {
            self.is_stream = true;
            held.snapshot.streams += 1;
            held.snapshot.streams_open += 1;
            held.snapshot.streams_open_max = held.snapshot.streams_open_max.max(held.snapshot.streams_open);
        }
    }

    pub(super) fn resumed(&mut self, words: u64) {
        self.bill.resumed = words;
    }

    pub(super) fn sent(&mut self, events: u64) {
        if events > 0 {
            self.bill.events += events;
            self.counts.held().snapshot.events += events;
        }
    }

    /// The reply ended as the mock meant it to.
    pub(super) fn over(&mut self) {
        self.bill.has_left = false;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut held = self.counts.held();
        held.snapshot.in_flight -= 1;
        if self.is_stream {
            held.snapshot.streams_open -= 1;
        }
        if self.bill.has_left {
            held.snapshot.closed_early += 1;
            if held.closed_early.len() == CLOSED_EARLY_MAX {
                held.closed_early.pop_front();
            }
            held.closed_early.push_back(ClosedEarly {
                model: self.bill.model.clone(),
                path: self.bill.path.clone(),
                at: clock::now(),
                events: self.bill.events,
            });
        }
        if is_list(&self.bill.path) {
            return;
        }
        if held.bills.len() == BILLS_MAX {
            held.bills.pop_front();
        }
        held.bills.push_back(Bill {
            model: std::mem::take(&mut self.bill.model),
            path: std::mem::take(&mut self.bill.path),
            credential: std::mem::take(&mut self.bill.credential),
            ..self.bill
        });
    }
}
