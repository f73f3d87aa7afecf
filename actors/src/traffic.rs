//! Counters that requests write and actors read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Measures instants from one beginning, so that they fit into atomics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    pub(crate) fn new(begin: Instant) -> Self {
        Self(begin)
    }

    /// Whole milliseconds since the beginning.
    pub(crate) fn millis(self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0).as_millis()).unwrap_or(u64::MAX)
    }

    /// The first millisecond that is not before `at`: a rest never ends early by rounding.
    pub(crate) fn millis_rounded_up(self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0).saturating_add(Duration::from_nanos(999_999));
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The instant `millis` after the beginning.
    pub(crate) fn instant(self, millis: u64) -> Instant {
        self.0.checked_add(Duration::from_millis(millis)).unwrap_or(self.0)
    }
}

/// What the calls of one data thread added up to.
///
/// A lane is written by its own thread, so its cache line stays there: an addition costs a few nanoseconds. It is an
/// atomic addition all the same, for a pass may end on another thread (a body handed to a blocking pool), and a lost
/// count would never be found again.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    answered: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Successes of which the time to the first token is known.
    timed: AtomicU64,
    first_token_us: AtomicU64,
}

/// The sums over all lanes at one moment; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Calls that got an answer of any kind.
    pub(crate) answered: u64,
    /// Calls that went well.
    pub(crate) succeeded: u64,
    /// Those of which the time to the first token is known.
    pub(crate) timed: u64,
    /// Calls that failed, the client's own faults left out.
    pub(crate) failed: u64,
    /// All times to the first token together.
    pub(crate) first_token_us: u64,
}

impl Tally {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(earlier.answered),
            succeeded: self.succeeded.saturating_sub(earlier.succeeded),
            timed: self.timed.saturating_sub(earlier.timed),
            failed: self.failed.saturating_sub(earlier.failed),
            first_token_us: self.first_token_us.saturating_sub(earlier.first_token_us),
        }
    }
}

/// The calls of one target: how they ended, how many run, how many may.
#[derive(Debug)]
pub(crate) struct Traffic {
    lanes: Box<[Lane]>,
    // One shared count, not one a lane: routing reads it for each candidate, and the limit must be exact.
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// Which pool moves the limit, and when it last did. For actors only; requests never come here.
    mover: Mutex<Option<(u64, Instant)>>,
}

/// Who moved a limit longer ago than this has left it.
const MOVER_AGE_MAX: Duration = Duration::from_secs(15);

impl Traffic {
    pub(crate) fn new(lanes: usize) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self { lanes, in_flight: AtomicU32::new(0), limit: AtomicU32::new(0), mover: Mutex::default() }
    }

    fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane % self.lanes.len().max(1))
    }

    /// Counts a call that went well; a whole reply does not tell when its first token was made.
    pub(crate) fn succeeded(&self, lane: usize, first_token: Option<Duration>) {
        let Some(lane) = self.lane(lane) else { return };
        lane.answered.fetch_add(1, Relaxed);
        lane.succeeded.fetch_add(1, Relaxed);
        if let Some(first_token) = first_token {
            lane.timed.fetch_add(1, Relaxed);
            lane.first_token_us.fetch_add(u64::try_from(first_token.as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    pub(crate) fn failed(&self, lane: usize) {
        let Some(lane) = self.lane(lane) else { return };
        lane.answered.fetch_add(1, Relaxed);
        lane.failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn answered(&self, lane: usize) {
        let Some(lane) = self.lane(lane) else { return };
        lane.answered.fetch_add(1, Relaxed);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.lanes.iter().fold(Tally::default(), |sum, lane| Tally {
            answered: sum.answered.saturating_add(lane.answered.load(Relaxed)),
            succeeded: sum.succeeded.saturating_add(lane.succeeded.load(Relaxed)),
            timed: sum.timed.saturating_add(lane.timed.load(Relaxed)),
            failed: sum.failed.saturating_add(lane.failed.load(Relaxed)),
            first_token_us: sum.first_token_us.saturating_add(lane.first_token_us.load(Relaxed)),
        })
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The adaptive limit, if one is set.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit > 0)
    }

    pub(crate) fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(0), Relaxed);
    }

    /// Whether the pool `serial` moves the limit: it does already, or nobody does.
    pub(crate) fn may_move_limit(&self, serial: u64, now: Instant) -> bool {
        let mut mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        let is_others = mover.is_some_and(|(who, at)| who != serial && !Self::has_left(at, now));
        if !is_others {
            *mover = Some((serial, now));
        }
        !is_others
    }

    /// Takes the limit away if nobody moves it any more.
    pub(crate) fn abandon_limit(&self, now: Instant) {
        let mut mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        if mover.is_some_and(|(_, at)| Self::has_left(at, now)) {
            *mover = None;
            self.set_limit(None);
        }
    }

    fn has_left(at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) > MOVER_AGE_MAX
    }

    /// Begins a call. Where `is_limited`, one beyond the limit is refused, exactly.
    ///
    /// # Errors
    /// The limit, when as many calls run; nothing is counted then.
    pub(crate) fn begin(&self, is_limited: bool) -> Result<(), u32> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        match self.limit().filter(|limit| is_limited && before >= *limit) {
            Some(limit) => {
                self.end();
                Err(limit)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}
