//! What this process counts.
//!
//! A data thread counts in cells of its own ([`ThreadMetrics`]): a request costs one look-up and some twenty additions
//! that no other thread contends for. A scrape adds the threads up, on the control runtime.

mod agreed;
mod cell;
mod drains;
mod gossip;
mod learned;
pub(crate) mod names;
mod process;
mod render;
mod text;
mod thread;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::Handle;
use troupe_proto::id::{ModelId, ProviderId, Revision};

use super::record::Lost;
use crate::clock;
pub use agreed::Agreed;
pub use cell::{Counter, Gauge, Present};
pub use drains::{By, Drains};
pub use learned::{Learned, TargetNow};
pub use names::{ALL, BOUNDS_MS, Kind, Metric, reference};
pub use process::Process;
pub use text::CONTENT_TYPE;
pub use thread::ThreadMetrics;

/// Models that have series of their own; the rest share `other`.
pub const MODELS_MAX: usize = 4096;
/// Providers that have series of their own.
pub const PROVIDERS_MAX: usize = 1024;
/// Names of lost fields that have series of their own, per direction.
pub const LOST_FIELDS_MAX: usize = 256;
/// The label of whatever came after a limit.
const OTHER: &str = "other";

/// What became of reading the spec again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It differed and is in force.
    Applied,
    /// It said the same.
    Unchanged,
    /// It could not be read or was not valid; the one before stays in force.
    Refused,
}

/// What became of opening a connection to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// It is open.
    Connected,
    /// Nobody listens there.
    Refused,
    /// It took too long.
    TimedOut,
    /// The peer's certificate or handshake was no good.
    Tls,
    /// Anything else: name resolution, routes, resets.
    Failed,
}

const RELOADS: [&str; 3] = ["applied", "unchanged", "refused"];
const CONNECTS: [&str; 5] = ["connected", "refused", "timed_out", "tls", "failed"];

/// Connections to one provider, of all threads.
#[derive(Debug, Default)]
struct Upstream {
    open: Arc<Gauge>,
    connects: [Counter; CONNECTS.len()],
}

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    started_unix: i64,
    shards: Mutex<Vec<Arc<thread::Shard>>>,
    models: Mutex<BTreeSet<ModelId>>,
    upstreams: Mutex<BTreeMap<ProviderId, Arc<Upstream>>>,
    lost: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    connections: Counter,
    connections_open: Arc<Gauge>,
    access_log_lines: Counter,
    access_log_dropped: Counter,
    panics: Counter,
    drains: Arc<Drains>,
    reloads: [Counter; RELOADS.len()],
    revision: AtomicU64,
    runtimes: Mutex<Vec<(&'static str, Handle)>>,
}

impl Metrics {
    /// Metrics that have counted nothing.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: clock::now(),
            started_unix: clock::unix_seconds(),
            shards: Mutex::default(),
            models: Mutex::default(),
            upstreams: Mutex::default(),
            lost: Mutex::default(),
            connections: Counter::default(),
            connections_open: Arc::default(),
            access_log_lines: Counter::default(),
            access_log_dropped: Counter::default(),
            panics: Counter::default(),
            drains: Arc::default(),
            reloads: Default::default(),
            revision: AtomicU64::new(0),
            runtimes: Mutex::default(),
        })
    }

    /// The part that one data thread writes. Called once per thread; its cells live as long as the node.
    pub fn for_thread(self: &Arc<Self>) -> ThreadMetrics {
        let shard = Arc::<thread::Shard>::default();
        lock(&self.shards).push(Arc::clone(&shard));
        ThreadMetrics::new(Arc::clone(self), shard)
    }

    /// Counts the tasks of a runtime from now on, together with those of others of that name.
    pub fn watch_runtime(&self, name: &'static str, runtime: &Handle) {
        lock(&self.runtimes).push((name, runtime.clone()));
    }

    /// Counts a client's connection, which is open until the guard is dropped.
    pub fn connection_opened(&self) -> Present {
        self.connections.inc();
        Present::enter(&self.connections_open)
    }

    /// Connections of clients that are open.
    pub fn connections_open(&self) -> u64 {
        u64::try_from(self.connections_open.get()).unwrap_or(0)
    }

    /// Counts a try to connect to a provider; on success the connection is open until the guard is dropped.
    pub fn upstream_connect(&self, provider: &ProviderId, outcome: Connect) -> Option<Present> {
        let upstream = self.upstream(provider);
        if let Some(counter) = upstream.connects.get(outcome as usize) {
            counter.inc();
        }
        (outcome == Connect::Connected).then(|| Present::enter(&upstream.open))
    }

    /// Counts lines the access log wrote.
    pub fn access_log_wrote(&self, lines: u64) {
        self.access_log_lines.add(lines);
    }

    /// Counts lines the access log lost.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.add(lines);
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// What is counted of drains.
    pub fn drains(&self) -> &Arc<Drains> {
        &self.drains
    }

    /// Counts a reading of the spec.
    pub fn reloaded(&self, outcome: Reload) {
        if let Some(counter) = self.reloads.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Says which revision requests are served by.
    pub fn serves_revision(&self, revision: Revision) {
        self.revision.store(revision.0, Ordering::Relaxed);
    }

    /// Requests in flight, on all threads.
    pub fn in_flight(&self) -> u64 {
        let sum: i64 = lock(&self.shards).iter().map(|shard| shard.in_flight.get()).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// Replies that are being streamed, on all threads.
    pub fn streams_open(&self) -> u64 {
        let sum: i64 = lock(&self.shards).iter().map(|shard| shard.streams.get()).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// Seconds since these metrics were made.
    pub fn uptime_seconds(&self) -> u64 {
        clock::now().saturating_duration_since(self.started).as_secs()
    }

    /// Counts what a translation dropped. Rare, so one lock serves all threads.
    fn lost(&self, lost: &Lost) {
        let mut fields = lock(&self.lost);
        for (direction, names) in [("request", &lost.request), ("reply", &lost.reply)] {
            for name in names {
                let mut key = (direction, if let Cow::Borrowed(name) = name { name } else { OTHER });
                if fields.len() >= 2 * LOST_FIELDS_MAX && !fields.contains_key(&key) {
                    key.1 = OTHER;
                }
                let count = fields.entry(key).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    /// The label of a model: its own name while there is room for it.
    fn admit_model(&self, model: &ModelId) -> ModelId {
        let mut models = lock(&self.models);
        if models.contains(model) {
            return model.clone();
        }
        if models.len() >= MODELS_MAX {
            return ModelId::new(OTHER);
        }
        models.insert(model.clone());
        model.clone()
    }

    fn upstream(&self, provider: &ProviderId) -> Arc<Upstream> {
        let mut upstreams = lock(&self.upstreams);
        if let Some(upstream) = upstreams.get(provider) {
            return Arc::clone(upstream);
        }
        let label = if upstreams.len() < PROVIDERS_MAX { provider.clone() } else { ProviderId::new(OTHER) };
        Arc::clone(upstreams.entry(label).or_default())
    }
}

/// A panic under one of these locks leaves counts that are still counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
