//! What every request of this node shares.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use troupe_actors::{Actors, Published};

use crate::admin::{Health, Phase};
use crate::agreement::Agreement;
use crate::clock;
use crate::flow::Flow;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{Drains, Metrics, Present, ThreadMetrics};
use crate::telemetry::record::RequestRecord;
use crate::troubles::Trouble;
use crate::upstream::Client;
use crate::view::View;

/// The node as its requests see it.
pub struct House {
    /// What the cluster agreed on.
    pub view: Arc<Published<View>>,
    /// This node's ties to it.
    pub agreement: Arc<Agreement>,
    /// Owners of what is learned of providers.
    pub actors: Actors,
    /// Whether the node serves, and whether it says so.
    pub health: Arc<Health>,
    /// What one request, and all of them together, may take.
    pub limits: Limits,
    /// Counters of the whole process.
    pub metrics: Arc<Metrics>,
    /// Where access lines go.
    pub access_log: Arc<AccessLog>,
    /// Where a test may step in.
    pub seams: Seams,
    /// Connections that were there before a drain.
    pub elders: Arc<Elders>,
}

/// Connections that were opened while the node took part: a drain ends with the last of them.
#[derive(Debug, Default)]
pub struct Elders {
    here: AtomicUsize,
    drains: Arc<Drains>,
}

/// One such connection, until it is dropped.
#[derive(Debug)]
pub struct Elder(Arc<Elders>);

impl Elders {
    /// None yet; those that end in a drain are counted by `drains`.
    pub fn new(drains: Arc<Drains>) -> Self {
        Self { here: AtomicUsize::new(0), drains }
    }

    /// What is counted of drains.
    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    /// Counts a connection until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Elder {
        self.here.fetch_add(1, Ordering::Relaxed);
        Elder(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.here.load(Ordering::Relaxed)
    }

    /// Resolves once there is none.
    pub async fn gone(&self) {
        while self.count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Elder {
    fn drop(&mut self) {
        // Counted before it is gone: who waits for the last one finds the counts whole.
        self.0.drains.connection_ended();
        self.0.here.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a drain looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The bounds of the data plane.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest request head.
    pub header_bytes: usize,
    /// The largest request body.
    pub body_bytes: usize,
    /// Requests served at the same time.
    pub in_flight: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may pause while it sends a body or reads a reply.
    pub body_timeout: Duration,
}

/// Doors for tests that run a node in their own process; closed in every other case.
#[derive(Clone, Default)]
pub struct Seams {
    /// Called with the model a request asks for, inside that request.
    pub on_call: Option<OnCall>,
}

/// What a test does inside a request.
pub type OnCall = Arc<dyn Fn(&str) + Send + Sync>;

impl House {
    /// A house that serves nothing yet.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the house, and this is where they meet")]
    pub fn new(
        limits: Limits,
        view: Arc<Published<View>>,
        agreement: Arc<Agreement>,
        actors: Actors,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        access_log: Arc<AccessLog>,
        seams: Seams,
    ) -> Self {
        let elders = Arc::new(Elders::new(metrics.drains().clone()));
        Self { view, agreement, actors, health, limits, metrics, access_log, seams, elders }
    }

    /// Publishes the agreed state as the view that requests read; whether they read all of it now.
    pub fn publish(&self) -> bool {
        let published = self.agreement.publish(&self.view, &self.actors, &self.metrics);
        let why_not = published.as_ref().err().cloned();
        self.health.troubles().set(Trouble::Unserved, why_not, clock::now());
        published.is_ok()
    }

    /// Requests being served now.
    pub fn in_flight(&self) -> usize {
        self.health.load().in_flight()
    }
}

/// One data thread: it answers each request on the thread that read it.
pub struct Thread {
    /// Its number among the data threads: the lane it counts in.
    pub lane: usize,
    /// The house it serves.
    pub house: Arc<House>,
    /// Where the node is on its way out.
    pub flow: watch::Receiver<Flow>,
    /// Its own connections to providers.
    pub client: Arc<Client>,
    /// Its own counters. Only its own thread locks them; the lock is there because futures must be `Send`.
    metrics: Mutex<ThreadMetrics>,
    in_flight: AtomicUsize,
}

impl Thread {
    /// A data thread of `house`.
    pub fn new(lane: usize, house: Arc<House>, flow: watch::Receiver<Flow>) -> Self {
        let metrics = Mutex::new(house.metrics.for_thread());
        let client = Arc::new(Client::new(house.metrics.clone()));
        Self { lane, house, flow, client, metrics, in_flight: AtomicUsize::new(0) }
    }

    /// Requests it serves now; new connections go to the thread with the fewest.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether connections are closed behind their requests. Asked for every reply: what is looked at first never changes
    /// while the node serves.
    pub fn is_leaving(&self) -> bool {
        self.house.health.phase() == Phase::Draining && *self.flow.borrow() >= Flow::Draining
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn request_started(&self) -> Present {
        self.metrics().request_started()
    }

    /// Counts a reply as being streamed until the guard is dropped.
    pub(crate) fn stream_began(&self) -> Present {
        self.metrics().stream_began()
    }

    fn metrics(&self) -> MutexGuard<'_, ThreadMetrics> {
        // A panic while counting leaves at worst one count missing.
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the one event of a request behind.
    pub(crate) fn record(&self, record: RequestRecord) {
        self.metrics().record(&record);
        self.house.access_log.push(record);
    }
}

/// A request's place among those in flight, given back when it is dropped.
pub(crate) struct Place(Arc<Thread>);

impl Place {
    /// Takes a place, unless the node is full.
    pub(crate) fn take(thread: &Arc<Thread>) -> Option<Self> {
        if !thread.house.health.load().enter() {
            return None;
        }
        thread.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Self(thread.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.house.health.load().leave();
    }
}
