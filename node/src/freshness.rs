//! How old what this node knows may be: KEY-1.
//!
//! A node's freshness is the age of the last moment at which a quorum confirmed that it knew all there was. Past its
//! bound the node admits nobody: a key that was revoked elsewhere must not go on working here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds, or this: for ever.
const FOR_EVER: u64 = u64::MAX;

/// The age of what this node knows, and how old it may be. Requests read it without waiting.
#[derive(Debug)]
pub struct Freshness {
    began: Instant,
    /// When it was confirmed last, in milliseconds after `began`, plus one; 0 before the first time.
    confirmed: AtomicU64,
    /// How old it may be.
    bound: AtomicU64,
}

impl Freshness {
    /// Nothing is confirmed yet, so it is stale, whatever the bound but for ever.
    pub fn new(began: Instant, bound: Option<Duration>) -> Self {
        let freshness = Self { began, confirmed: AtomicU64::new(0), bound: AtomicU64::new(FOR_EVER) };
        freshness.set_bound(bound);
        freshness
    }

    /// How old what is known may be; `None`: for ever.
    pub fn set_bound(&self, bound: Option<Duration>) {
        self.bound.store(bound.map_or(FOR_EVER, millis), Ordering::Relaxed);
    }

    /// Says that a quorum confirmed what was known at `at`. Moments told late do not go back.
    pub fn confirm(&self, at: Instant) {
        self.confirmed.fetch_max(millis(at.saturating_duration_since(self.began)).saturating_add(1), Ordering::Release);
    }

    /// How long ago that was; `None` if never.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let confirmed = self.confirmed.load(Ordering::Acquire).checked_sub(1)?;
        let now = millis(now.saturating_duration_since(self.began));
        Some(Duration::from_millis(now.saturating_sub(confirmed)))
    }

    /// Whether clients may be admitted by what is known.
    pub fn is_fresh(&self, now: Instant) -> bool {
        match self.bound.load(Ordering::Relaxed) {
            FOR_EVER => true,
            bound => self.age(now).is_some_and(|age| millis(age) <= bound),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(FOR_EVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_never_confirmed_is_stale_and_what_was_stays_fresh_up_to_the_bound() {
        let began = clock::now();
        let freshness = Freshness::new(began, Some(5 * SECOND));
        assert!(!freshness.is_fresh(began));

        freshness.confirm(began + SECOND);

        assert!(freshness.is_fresh(began + 6 * SECOND));
        assert!(!freshness.is_fresh(began + 6 * SECOND + Duration::from_millis(1)));
        assert_eq!(freshness.age(began + 3 * SECOND), Some(2 * SECOND));
    }

    #[test]
    fn a_moment_told_late_does_not_make_it_older_and_no_bound_is_for_ever() {
        let began = clock::now();
        let freshness = Freshness::new(began, None);
        assert!(freshness.is_fresh(began + 1000 * SECOND));

        freshness.confirm(began + 5 * SECOND);
        freshness.confirm(began + SECOND);
        freshness.set_bound(Some(SECOND));

        assert!(freshness.is_fresh(began + 6 * SECOND));
    }
}
