use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::consensus::{TIMES_BUCKETS_US, Times};

/// Counts how long things took, from any thread.
#[derive(Debug, Default)]
pub(super) struct Timer {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; TIMES_BUCKETS_US.len()],
}

impl Timer {
    /// One took this long.
    pub(super) fn add(&self, took: Duration) {
        self.add_many(1, micros(took), micros(took));
    }

    /// `count` of them took `each`, and all together `sum`.
    fn add_many(&self, count: u64, each: u64, sum: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(sum, Ordering::Relaxed);
        let bucket = TIMES_BUCKETS_US.partition_point(|bound| *bound < each);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> Times {
        let mut times = Times {
            count: self.count.load(Ordering::Relaxed),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
            ..Times::default()
        };
        for (to, from) in times.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        times
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Makes single times of a count and a sum that only grow, by looking often: what grew by one between two looks took what the
/// sum grew by, and of several each is taken for their mean.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The count and the sum, in microseconds, that were seen last.
    seen: Mutex<(u64, u64)>,
    timer: Timer,
}

impl Running {
    /// Counts what came since the last look.
    pub(super) fn look(&self, count: u64, sum_us: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (more, took) = (count.saturating_sub(seen.0), sum_us.saturating_sub(seen.1));
        if let Some(each) = took.checked_div(more) {
            self.timer.add_many(more, each, took);
            *seen = (count, sum_us);
        }
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> Times {
        self.timer.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_whose_bound_it_keeps() {
        let timer = Timer::default();

        for us in [250, 251, 500, 3_000_000] {
            timer.add(Duration::from_micros(us));
        }

        let times = timer.read();
        assert_eq!((times.count, times.sum), (4, Duration::from_micros(3_001_001)));
        assert_eq!(times.buckets[..3], [1, 2, 0]);
        assert_eq!(times.buckets.iter().sum::<u64>(), 3);
    }

    #[test]
    fn what_a_running_sum_grew_by_is_counted_once() {
        let running = Running::default();

        // One of 200 us, nothing, then three that took 1,200 us together.
        for (count, sum_us) in [(1, 200), (1, 200), (4, 1_400), (4, 1_400)] {
            running.look(count, sum_us);
        }

        let times = running.read();
        assert_eq!((times.count, times.sum), (4, Duration::from_micros(1_400)));
        assert_eq!(times.buckets[..3], [1, 3, 0]);
    }
}
