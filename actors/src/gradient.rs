//! How many calls a target may have in flight, found by the time to its first token. Pure.
//!
//! After Netflix's Gradient2: while the first token comes as fast as it does in the long run, the limit grows by a
//! queue; when it comes later, the limit shrinks in proportion. Time to the *first* token, for the whole reply's time
//! is the length of the answer. A target that says it is full shrinks it at once.

use std::time::{Duration, Instant};

use crate::layout::Concurrency;
use crate::traffic::Tally;

/// Where a limit begins, within its bounds.
const INITIAL: u64 = 20;
/// The long run, in samples.
const LONG: u64 = 600;
/// How much slower than in the long run is no reason to shrink, in thousandths.
const TOLERANCE: u64 = 1_500;
/// A new limit counts this much, in thousandths; the old one the rest.
const SMOOTHING: u64 = 200;
/// A sample is at least this many calls, or this long.
const SAMPLE_CALLS: u64 = 10;
const SAMPLE_TIME: Duration = Duration::from_secs(1);
/// Limits are kept in thousandths of a call, or small ones would never move.
const FINE: u64 = 1_000;

/// The adaptive limit of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gradient {
    bounds: Concurrency,
    limit_fine: u64,
    /// The long run's mean in nanoseconds; 0 before the first sample.
    long_ns: u64,
    samples: u64,
    pending: Tally,
    since: Instant,
}

impl Gradient {
    /// Begins where `limit` is, if one is in force: a restarted actor goes on.
    pub(crate) fn new(bounds: Concurrency, limit: Option<u32>, now: Instant) -> Self {
        let limit = limit.map_or(INITIAL, u64::from);
        let mut gradient = Self {
            bounds,
            limit_fine: limit.saturating_mul(FINE),
            long_ns: 0,
            samples: 0,
            pending: Tally::default(),
            since: now,
        };
        gradient.set(gradient.limit_fine);
        gradient
    }

    pub(crate) fn bounds(&self) -> Concurrency {
        self.bounds
    }

    fn set(&mut self, fine: u64) {
        let (min, max) = (u64::from(self.bounds.min.max(1)), u64::from(self.bounds.max.max(self.bounds.min).max(1)));
        self.limit_fine = fine.clamp(min.saturating_mul(FINE), max.saturating_mul(FINE));
    }

    pub(crate) fn limit(&self) -> u32 {
        u32::try_from(self.limit_fine / FINE).unwrap_or(u32::MAX)
    }

    /// Takes in what happened since the last time, with `in_flight` calls running now.
    pub(crate) fn observe(&mut self, news: Tally, in_flight: u32, now: Instant) {
        self.pending.succeeded = self.pending.succeeded.saturating_add(news.succeeded);
        self.pending.timed = self.pending.timed.saturating_add(news.timed);
        self.pending.failed = self.pending.failed.saturating_add(news.failed);
        self.pending.first_token_us = self.pending.first_token_us.saturating_add(news.first_token_us);
        let is_time = now.saturating_duration_since(self.since) >= SAMPLE_TIME;
        let ended = self.pending.succeeded.saturating_add(self.pending.failed);
        if ended == 0 || !(is_time || ended >= SAMPLE_CALLS) {
            return;
        }
        let sample = std::mem::take(&mut self.pending);
        self.since = now;
        if sample.failed > sample.succeeded {
            self.set(self.limit_fine - self.limit_fine / 10);
            return;
        }
        // Whole replies do not tell when their first token was made.
        let Some(short_us) = sample.first_token_us.checked_div(sample.timed) else { return };
        let short_ns = short_us.saturating_mul(1_000).max(1);
        self.learn(short_ns);
        // An idle target says nothing about how many it could bear.
        if u64::from(in_flight).saturating_mul(2 * FINE) < self.limit_fine {
            return;
        }
        let tolerated = self.long_ns.saturating_mul(TOLERANCE) / 1000;
        let gradient = (u128::from(tolerated) * 1000 / u128::from(short_ns)).clamp(500, 1000);
        let gradient = u64::try_from(gradient).unwrap_or(1000);
        let queue = (self.limit_fine / FINE).isqrt().saturating_mul(FINE);
        let next = (self.limit_fine.saturating_mul(gradient) / 1000).saturating_add(queue);
        let smooth = self.limit_fine.saturating_mul(1000 - SMOOTHING).saturating_add(next.saturating_mul(SMOOTHING));
        self.set(smooth / 1000);
    }

    /// The long run follows slowly upwards, and comes down when it is far above what is seen now.
    fn learn(&mut self, short_ns: u64) {
        self.samples = self.samples.saturating_add(1).min(LONG);
        let (old, new, weight) = (u128::from(self.long_ns), u128::from(short_ns), u128::from(self.samples));
        let mean = (old * (weight - 1) + new) / weight;
        self.long_ns = u64::try_from(mean).unwrap_or(u64::MAX);
        if self.long_ns / 2 > short_ns {
            self.long_ns = self.long_ns / 20 * 19;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Concurrency = Concurrency { min: 4, max: 200 };

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn calls(count: u64, first_token_ms: u64) -> Tally {
        Tally {
            answered: count,
            succeeded: count,
            timed: count,
            failed: 0,
            first_token_us: count * first_token_ms * 1000,
        }
    }

    #[test]
    fn a_busy_target_that_stays_fast_is_given_more() {
        let mut gradient = Gradient::new(BOUNDS, None, start());

        for _ in 0..200 {
            gradient.observe(calls(10, 100), gradient.limit(), start());
        }

        assert_eq!(gradient.limit(), 200);
    }

    #[test]
    fn a_target_that_slows_down_is_given_less() {
        let mut gradient = Gradient::new(BOUNDS, Some(100), start());
        for _ in 0..50 {
            gradient.observe(calls(10, 100), 1, start());
        }

        for _ in 0..20 {
            gradient.observe(calls(10, 1_000), gradient.limit(), start());
        }

        assert!(gradient.limit() < 60, "{}", gradient.limit());
    }

    #[test]
    fn an_idle_target_keeps_its_limit() {
        let mut gradient = Gradient::new(BOUNDS, None, start());

        for _ in 0..100 {
            gradient.observe(calls(10, 100), 2, start());
        }

        assert_eq!(gradient.limit(), 20);
    }

    #[test]
    fn a_target_that_refuses_is_given_less_at_once() {
        let mut gradient = Gradient::new(BOUNDS, Some(100), start());

        gradient.observe(Tally { failed: 10, ..Tally::default() }, 100, start());

        assert_eq!(gradient.limit(), 90);
    }

    proptest! {
        #[test]
        fn whatever_happens_the_limit_keeps_its_bounds(
            steps in proptest::collection::vec((0u64..50, 0u64..50, 0u64..100_000_000, 0u32..1000), 1..200),
            min in 1u32..50,
            more in 0u32..100,
        ) {
            let bounds = Concurrency { min, max: min + more };
            let mut gradient = Gradient::new(bounds, None, start());

            for (succeeded, failed, us, in_flight) in steps {
                let news =
                    Tally { answered: succeeded + failed, succeeded, timed: succeeded, failed, first_token_us: us * succeeded };
                gradient.observe(news, in_flight, start());

                prop_assert!(gradient.limit() >= bounds.min && gradient.limit() <= bounds.max);
            }
        }
    }
}
