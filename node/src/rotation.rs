//! Whether balancers send clients here: how an operator takes a node out of rotation, and puts it back.
//!
//! ```text
//! unready, serving on | drain_delay | connections close behind their requests, the door stays open | all gone: may stop
//!   └──────────────────────────── undrain: as if nothing had been ────────────────────────────┘
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::admin::Health;
use crate::clock;
use crate::flow::Flow;
use crate::house::Elders;
use crate::telemetry::metrics::By;

/// What becomes of a node once those who were there when it left rotation are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays, out of rotation, until it is told otherwise.
    Stay,
    /// It stops.
    Stop,
}

/// A node's place in the rotation of its balancers.
pub struct Rotation {
    health: Arc<Health>,
    elders: Arc<Elders>,
    flow: watch::Sender<Flow>,
    delay: Duration,
    at_most: Duration,
    stop: Notify,
    /// The way out, while it is under way. Aborted by whoever comes back.
    leaving: Mutex<Option<JoinHandle<()>>>,
    /// Since when it drains, for as long as it does.
    since: Mutex<Option<Instant>>,
}

impl Rotation {
    /// A node that is in rotation. `delay` is how long it says so before connections close, `at_most` how long it then
    /// waits before it stops.
    pub fn new(health: Arc<Health>, elders: Arc<Elders>, (delay, at_most): (Duration, Duration)) -> Arc<Self> {
        let (stop, leaving, since) = (Notify::new(), Mutex::default(), Mutex::default());
        Arc::new(Self { health, elders, flow: watch::channel(Flow::Serving).0, delay, at_most, stop, leaving, since })
    }

    /// Where the node is on its way out.
    pub fn flow(&self) -> watch::Receiver<Flow> {
        self.flow.subscribe()
    }

    /// Takes the node further on its way out.
    pub(crate) fn advance(&self, stage: Flow) {
        self.flow.send_if_modified(|flow| {
            let is_further = stage > *flow;
            *flow = stage.max(*flow);
            // Before anybody sees it: a connection that ends because of it finds it.
            self.elders.drains().reached(*flow);
            is_further
        });
    }

    /// Counts a drain that begins now, unless one is under way: a process that ends may have been drained before.
    pub(crate) fn begun(&self, by: By) {
        let mut since = lock(&self.since);
        if since.is_none() {
            *since = Some(clock::now());
            self.elders.drains().begun(by);
        }
    }

    /// Counts how long the drain took, and gives it, unless it is counted already.
    pub(crate) fn over(&self) -> Option<Duration> {
        let took = clock::now().saturating_duration_since(lock(&self.since).take()?);
        self.elders.drains().over(took);
        Some(took)
    }

    /// Connections that were there when it left rotation, or are there now.
    pub fn elders(&self) -> usize {
        self.elders.count()
    }

    /// Whether it is out of rotation, and nobody is left who was there before.
    pub fn is_drained(&self) -> bool {
        *self.flow.borrow() >= Flow::Draining && self.elders.count() == 0
    }

    /// Leaves rotation. Said again, it counts from anew only if what follows is another.
    pub fn leave(self: &Arc<Self>, then: Then) {
        self.health.hold(true);
        self.begun(By::Operator);
        tracing::info!(delay = ?self.delay, ?then, "unready: an operator takes this node out of rotation");
        let rotation = self.clone();
        let way = tokio::spawn(async move {
            if *rotation.flow.borrow() == Flow::Serving {
                sleep(rotation.delay).await;
            }
            rotation.advance(Flow::Draining);
            let is_over = timeout(rotation.at_most, rotation.elders.gone()).await.is_ok();
            if is_over {
                rotation.over();
            }
            match then {
                Then::Stay if is_over => tracing::info!("nobody is left who was here before"),
                Then::Stay => tracing::warn!(elders = rotation.elders.count(), "somebody is still here, who may stay"),
                Then::Stop => rotation.stop.notify_one(),
            }
        });
        self.replace(Some(way));
    }

    /// Comes back into rotation, unless the process is ending already.
    pub fn come_back(&self) {
        self.replace(None);
        self.health.hold(false);
        if !self.health.is_ending() {
            self.over();
        }
        self.flow.send_if_modified(|flow| {
            let is_back = *flow == Flow::Draining && !self.health.is_ending();
            if is_back {
                *flow = Flow::Serving;
                self.elders.drains().reached(*flow);
            }
            is_back
        });
        tracing::info!("an operator puts this node back into rotation");
    }

    /// Waits until an operator who took the node out of rotation wants it to stop, and nobody is left.
    pub async fn told_to_stop(&self) {
        self.stop.notified().await;
    }

    fn replace(&self, way: Option<JoinHandle<()>>) {
        let before = std::mem::replace(&mut *lock(&self.leaving), way);
        if let Some(before) = before {
            before.abort();
        }
    }
}

/// What these hold is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Phase;
    use crate::freshness::Freshness;

    use crate::flow::reached;

    const LONG: Duration = Duration::from_secs(10);
    const MOMENT: Duration = Duration::from_millis(30);

    fn serving(delay: Duration) -> (Arc<Health>, Arc<Elders>, Arc<Rotation>) {
        let health = Arc::new(Health::new(Arc::new(Freshness::new(clock::now(), None)), 1));
        health.set(Phase::Serving);
        let elders = Arc::<Elders>::default();
        let rotation = Rotation::new(health.clone(), elders.clone(), (delay, LONG));
        (health, elders, rotation)
    }

    #[tokio::test]
    async fn a_node_that_leaves_is_unready_first_and_stops_when_the_last_elder_is_gone() {
        let (health, elders, rotation) = serving(MOMENT);
        let elder = elders.enter();
        rotation.leave(Then::Stop);
        assert_eq!((health.phase(), *rotation.flow().borrow()), (Phase::Draining, Flow::Serving));

        timeout(LONG, reached(&mut rotation.flow(), Flow::Draining)).await.unwrap();
        assert!(timeout(MOMENT, rotation.told_to_stop()).await.is_err(), "somebody is still here");
        assert!(!rotation.is_drained());

        drop(elder);
        timeout(LONG, rotation.told_to_stop()).await.unwrap();
        assert!(rotation.is_drained());
    }

    #[tokio::test]
    async fn who_comes_back_is_ready_again_and_does_not_stop() {
        let (health, elders, rotation) = serving(Duration::ZERO);
        let elder = elders.enter();
        rotation.leave(Then::Stop);
        timeout(LONG, reached(&mut rotation.flow(), Flow::Draining)).await.unwrap();

        rotation.come_back();
        drop(elder);

        assert_eq!((health.phase(), *rotation.flow().borrow()), (Phase::Serving, Flow::Serving));
        assert!(timeout(MOMENT, rotation.told_to_stop()).await.is_err());
    }

    #[tokio::test]
    async fn a_process_that_ends_does_not_come_back() {
        let (health, _, rotation) = serving(Duration::ZERO);
        health.set(Phase::Draining);
        rotation.advance(Flow::Draining);

        rotation.come_back();

        assert_eq!((health.phase(), *rotation.flow().borrow()), (Phase::Draining, Flow::Draining));
    }
}
