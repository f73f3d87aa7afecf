//! What the transport counts. Plain numbers; the node gives them their names as metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use troupe_proto::id::NodeId;

use super::{CallError, Class, Rejected};
use crate::clock;

/// Upper bounds of the buckets of [`LinkCounts::round_trips`]; the last bucket has none.
pub const ROUND_TRIP_BOUNDS: [Duration; 12] = [
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How often one reason may be logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Who opened the connection in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// A peer.
    In,
    /// This node.
    Out,
}

/// The transport's numbers at one moment. Those that are not said to be of the moment only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections and calls refused on connections that peers opened, by reason.
    pub rejected_in: BTreeMap<Rejected, u64>,
    /// The same on connections that this node opened, whichever side refused.
    pub rejected_out: BTreeMap<Rejected, u64>,
    /// Connections that peers have open at the moment.
    pub connections_in: u64,
    /// Connections that peers opened, past their handshake.
    pub accepted: u64,
    /// Connections that peers opened and that were refused in their handshake, or before it for want of room, by reason.
    pub refused: BTreeMap<Rejected, u64>,
    /// How long the handshakes of these took until they were let in, and until they were refused.
    pub shook: [Shook; 2],
    /// Calls being served at the moment.
    pub serving: u64,
    /// Calls served.
    pub served: u64,
    /// What each peer was asked, by class.
    pub links: BTreeMap<(NodeId, Class), LinkCounts>,
}

/// How long handshakes took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shook {
    /// By the first of [`ROUND_TRIP_BOUNDS`] that is not below.
    pub buckets: [u64; ROUND_TRIP_BOUNDS.len() + 1],
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Shook {
    fn add(&mut self, took: Duration) {
        let bucket = ROUND_TRIP_BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// What one peer was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Whether there is a connection at the moment.
    pub is_connected: bool,
    /// Attempts to connect.
    pub dials: u64,
    /// Those that failed or were refused.
    pub dials_failed: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not.
    pub failed: u64,
    /// Round trips of answered calls by the first of [`ROUND_TRIP_BOUNDS`] that is not below them.
    pub round_trips: [u64; ROUND_TRIP_BOUNDS.len() + 1],
    /// Their sum.
    pub round_trip_sum: Duration,
}

/// Where they are kept.
#[derive(Debug, Default)]
pub(super) struct Book {
    inner: Mutex<Counts>,
    warned: Mutex<BTreeMap<(Direction, Rejected), Instant>>,
    /// Whether another node said that a later process of this one is at work.
    pub(super) superseded: watch::Sender<bool>,
    pub(super) serving: AtomicU64,
    pub(super) connections_in: AtomicU64,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Counts {
        let mut counts = self.lock().clone();
        counts.serving = self.serving.load(Ordering::Relaxed);
        counts.connections_in = self.connections_in.load(Ordering::Relaxed);
        counts
    }

    /// Counts a refusal, and logs it unless that reason was logged a moment ago.
    pub(super) fn rejected(&self, direction: Direction, reason: Rejected, peer: &str) {
        if (direction, reason) == (Direction::Out, Rejected::Superseded) {
            self.superseded.send_replace(true);
        }
        let mut counts = self.lock();
        let by_reason = match direction {
            Direction::In => &mut counts.rejected_in,
            Direction::Out => &mut counts.rejected_out,
        };
        *by_reason.entry(reason).or_default() += 1;
        drop(counts);
        let now = clock::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let last = warned.get(&(direction, reason));
        if last.is_none_or(|last| now.duration_since(*last) >= WARN_EVERY) {
            warned.insert((direction, reason), now);
            match direction {
                Direction::In => tracing::warn!(peer, reason = reason.word(), "a node was refused: {reason}"),
                Direction::Out => tracing::warn!(peer, reason = reason.word(), "no connection to a node: {reason}"),
            }
        }
    }

    /// Counts the end of a handshake, and how long it took.
    pub(super) fn shook(&self, outcome: Result<(), Rejected>, took: Duration) {
        let mut counts = self.lock();
        let [accepted, refused] = &mut counts.shook;
        match outcome {
            Ok(()) => {
                accepted.add(took);
                counts.accepted += 1;
            }
            Err(reason) => {
                refused.add(took);
                *counts.refused.entry(reason).or_default() += 1;
            }
        }
    }

    pub(super) fn served(&self) {
        self.lock().served += 1;
    }

    pub(super) fn dialled(&self, node: NodeId, class: Class, is_connected: bool) {
        let mut counts = self.lock();
        let link = counts.links.entry((node, class)).or_default();
        link.dials += 1;
        link.dials_failed += u64::from(!is_connected);
        link.is_connected = is_connected;
    }

    pub(super) fn disconnected(&self, node: NodeId, class: Class) {
        self.lock().links.entry((node, class)).or_default().is_connected = false;
    }

    pub(super) fn called(&self, node: NodeId, class: Class, outcome: Result<Duration, CallError>) {
        let mut counts = self.lock();
        let link = counts.links.entry((node, class)).or_default();
        match outcome {
            Ok(took) => {
                let bucket = ROUND_TRIP_BOUNDS.partition_point(|bound| *bound < took);
                if let Some(count) = link.round_trips.get_mut(bucket) {
                    *count += 1;
                }
                link.round_trip_sum = link.round_trip_sum.saturating_add(took);
                link.answered += 1;
            }
            Err(_) => link.failed += 1,
        }
    }

    /// Drops the numbers of a node that is no member any more.
    pub(super) fn forget(&self, node: NodeId) {
        self.lock().links.retain(|(known, _), _| *known != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_count_by_how_they_ended_and_how_long_that_took() {
        let book = Book::default();

        book.shook(Ok(()), Duration::from_millis(3));
        book.shook(Err(Rejected::Slow), Duration::from_secs(10));
        book.shook(Err(Rejected::Busy), Duration::ZERO);

        let Counts { accepted, refused, shook: [well, ill], .. } = book.read();
        assert_eq!((accepted, refused), (1, BTreeMap::from([(Rejected::Slow, 1), (Rejected::Busy, 1)])));
        assert_eq!((well.count, well.buckets[4], well.sum), (1, 1, Duration::from_millis(3)));
        assert_eq!((ill.count, ill.buckets[0], ill.buckets[12]), (2, 1, 1));
    }

    #[tokio::test]
    async fn round_trips_fall_into_the_first_bucket_that_holds_them() {
        let book = Book::default();
        for micros in [1, 200, 201, 6_000_000] {
            book.called(NodeId(1), Class::Vote, Ok(Duration::from_micros(micros)));
        }
        book.called(NodeId(1), Class::Vote, Err(CallError::Lost));

        let link = book.read().links[&(NodeId(1), Class::Vote)].clone();

        assert_eq!((link.answered, link.failed), (4, 1));
        assert_eq!((link.round_trips[0], link.round_trips[1], link.round_trips[12]), (2, 1, 1));
        assert_eq!(link.round_trip_sum, Duration::from_micros(6_000_402));

        book.forget(NodeId(1));
        assert!(book.read().links.is_empty());
    }
}
