//! What gossip counts. Plain numbers; the node gives them their names as metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use troupe_proto::id::NodeId;

use super::Refused;
use crate::clock;

/// Upper bounds of the buckets of [`Delays`]; the last bucket has none.
pub const DELAY_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How often one reason may be logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How long words took to get here, by the wall clocks of both sides: off by as much as these are apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// By the first of [`DELAY_BOUNDS`] that is not below.
    pub buckets: [u64; DELAY_BOUNDS.len() + 1],
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Delays {
    fn add(&mut self, delay: Duration) {
        let bucket = DELAY_BOUNDS.partition_point(|bound| *bound < delay);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(delay);
    }
}

/// Gossip's numbers at one moment. Those that are not said to be of the moment only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that could not be sent: the system refused, or it is not known where to.
    pub unsent: u64,
    /// Datagrams that were taken.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Those that were not, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Times that chitchat ended by a fault and was begun anew.
    pub restarts: u64,
    /// How long values took from being put to being seen here.
    pub values_took: Delays,
    /// How long pushed facts took to get here.
    pub pushes_took: Delays,
    /// Facts that this node pushed.
    pub pushed: u64,
    /// Facts that another node did not confirm, counted once for each such node; gossip repairs that.
    pub pushes_failed: u64,
    /// Facts of this node that were not pushed at all, because too many were under way.
    pub pushes_dropped: u64,
    /// Facts that others pushed here.
    pub facts: u64,
    /// Those that had come before.
    pub facts_repeated: u64,
    /// Those that nobody here had time for.
    pub facts_dropped: u64,
    /// The other members at the moment.
    pub peers: BTreeMap<NodeId, PeerStats>,
}

/// How one other member is, as far as gossip knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether it is alive; `None` for one that was never heard of.
    pub is_alive: Option<bool>,
    /// How long ago its heartbeat grew, as this node heard, itself or through others.
    pub seen_ago: Option<Duration>,
    /// How long ago a datagram of its own was taken here.
    pub heard_ago: Option<Duration>,
    /// How far its wall clock is ahead of ours, in milliseconds; late by the time on the way.
    pub clock_ahead_ms: Option<i64>,
}

/// Where they are kept.
#[derive(Debug, Default)]
pub(super) struct Book {
    inner: Mutex<Stats>,
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    warned: Mutex<BTreeMap<Refused, Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    ahead_ms: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// Changes the numbers.
    pub(super) fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.inner));
    }

    /// The numbers; who the peers are is for the caller to add.
    pub(super) fn read(&self) -> Stats {
        lock(&self.inner).clone()
    }

    pub(super) fn took(&self, datagram: usize, from: NodeId, ahead_ms: i64) {
        self.note(|stats| {
            stats.received += 1;
            stats.received_bytes += bytes(datagram);
        });
        let at = clock::now();
        let mut heard = lock(&self.heard);
        let heard = heard.entry(from).or_insert(Heard { at, ahead_ms });
        // Smoothed: one datagram that waited says nothing of a clock.
        *heard = Heard { at, ahead_ms: heard.ahead_ms + (ahead_ms - heard.ahead_ms) / 4 };
    }

    /// When a datagram of this node was taken last, and how far its clock is ahead.
    pub(super) fn heard(&self, node: NodeId) -> Option<(Duration, i64)> {
        let now = clock::now();
        lock(&self.heard).get(&node).map(|heard| (now.duration_since(heard.at), heard.ahead_ms))
    }

    pub(super) fn keep(&self, is_member: impl Fn(NodeId) -> bool) {
        lock(&self.heard).retain(|node, _| is_member(*node));
    }

    pub(super) fn sent(&self, datagram: usize) {
        self.note(|stats| {
            stats.sent += 1;
            stats.sent_bytes += bytes(datagram);
        });
    }

    /// Counts a refusal, and logs it unless that reason was logged a moment ago.
    pub(super) fn refused(&self, reason: Refused, peer: &dyn std::fmt::Display) {
        self.note(|stats| *stats.refused.entry(reason).or_default() += 1);
        let now = clock::now();
        let mut warned = lock(&self.warned);
        if warned.get(&reason).is_none_or(|last| now.duration_since(*last) >= WARN_EVERY) {
            warned.insert(reason, now);
            tracing::warn!(%peer, reason = reason.word(), "a datagram of gossip was refused");
        }
    }

    pub(super) fn value_took(&self, delay: Duration) {
        self.note(|stats| stats.values_took.add(delay));
    }

    pub(super) fn push_took(&self, delay: Duration) {
        self.note(|stats| stats.pushes_took.add(delay));
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The time from one moment to another, of wall clocks; none where they disagree about which came first.
pub(super) fn between(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fall_into_the_first_bucket_that_holds_them() {
        let mut delays = Delays::default();
        for millis in [0, 1, 2, 200, 201, 60_000] {
            delays.add(Duration::from_millis(millis));
        }

        assert_eq!((delays.buckets[0], delays.buckets[1], delays.buckets[7]), (2, 1, 1));
        assert_eq!((delays.buckets[8], delays.buckets[12]), (1, 1));
        assert_eq!((delays.count, delays.sum), (6, Duration::from_millis(60_404)));
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_delay_negative() {
        assert_eq!(between(1_500, 2_000), Duration::from_millis(500));
        assert_eq!(between(2_000, 1_500), Duration::ZERO);
        assert_eq!(between(i64::MIN, i64::MAX), Duration::from_millis(u64::try_from(i64::MAX).unwrap()));
    }
}
