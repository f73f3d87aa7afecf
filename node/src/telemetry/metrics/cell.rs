//! The cells that numbers live in.
//!
//! Each data thread has its own, so that no two threads write one cache line; a scrape adds them up. Orderings are
//! relaxed: a scrape may see one cell of a request and not yet the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::names::BOUNDS_MS;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// How many there are.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something counted by a gauge for as long as this lives.
#[derive(Debug)]
#[must_use = "it is counted only for as long as this is held"]
pub struct Present(Arc<Gauge>);

impl Present {
    pub(super) fn enter(gauge: &Arc<Gauge>) -> Self {
        gauge.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Durations counted by size.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Not cumulative: one write per observation; the last is beyond every bound.
    buckets: [Counter; BOUNDS_MS.len() + 1],
    sum_nanos: Counter,
}

impl Histogram {
    /// Counts one.
    pub(super) fn observe(&self, duration: Duration) {
        let at = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < duration);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.inc();
        }
        // 584 years of waiting fit.
        self.sum_nanos.add(u64::try_from(duration.as_nanos()).unwrap_or(0));
    }
}

/// The sum of histograms of several threads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) buckets: [u64; BOUNDS_MS.len() + 1],
    pub(super) sum_nanos: u64,
}

impl Totals {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total = total.saturating_add(bucket.get());
        }
        self.sum_nanos = self.sum_nanos.saturating_add(histogram.sum_nanos.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_it_ends() {
        let histogram = Histogram::default();
        for millis in [0, 10, 11, 655_360, 655_361] {
            histogram.observe(Duration::from_millis(millis));
        }

        let mut totals = Totals::default();
        totals.add(&histogram);

        assert_eq!(totals.buckets[0], 2);
        assert_eq!(totals.buckets[1], 1);
        assert_eq!(totals.buckets[16], 1);
        assert_eq!(totals.buckets[17], 1);
        assert_eq!(totals.sum_nanos, 1_310_742_000_000);
    }

    #[test]
    fn what_is_present_is_counted_until_it_is_gone() {
        let gauge = Arc::new(Gauge::default());

        let one = Present::enter(&gauge);
        let two = Present::enter(&gauge);
        drop(one);

        assert_eq!(gauge.get(), 1);
        drop(two);
        assert_eq!(gauge.get(), 0);
    }
}
