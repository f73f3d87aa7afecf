use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::consensus::{WRITE_BUCKETS_US, Writes};

/// Counts how long writes took, from any thread.
#[derive(Debug, Default)]
pub struct WriteTimes {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; WRITE_BUCKETS_US.len()],
}

impl WriteTimes {
    /// One write took this long.
    pub fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took, Ordering::Relaxed);
        let bucket = WRITE_BUCKETS_US.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn read(&self) -> Writes {
        let mut writes = Writes {
            count: self.count.load(Ordering::Relaxed),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
            ..Writes::default()
        };
        for (to, from) in writes.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_falls_into_the_first_bucket_whose_bound_it_keeps() {
        let times = WriteTimes::default();

        for us in [250, 251, 500, 3_000_000] {
            times.add(Duration::from_micros(us));
        }

        let writes = times.read();
        assert_eq!((writes.count, writes.sum), (4, Duration::from_micros(3_001_001)));
        assert_eq!(writes.buckets[..3], [1, 2, 0]);
        assert_eq!(writes.buckets.iter().sum::<u64>(), 3);
    }
}
