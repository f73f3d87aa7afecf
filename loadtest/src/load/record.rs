//! What a run brought so far: histograms, faults by their words, and slices of time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::{CreationError, Histogram};

use super::client::Reply;
use super::units::micros;

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Kinds of fault that are told apart; later ones count as others.
const FAULTS_MAX: usize = 32;
/// Slices of a run; what comes later falls into the last.
const SLICES_MAX: usize = 600;
/// Length of a slice.
pub const SLICE: Duration = Duration::from_millis(500);

/// The tally of one run.
#[derive(Debug)]
pub struct Record {
    begin: Instant,
    counts_from: Instant,
    /// Replies that were good, warm-up excluded.
    pub done: u64,
    /// Requests that failed, those of the warm-up and those never sent included.
    pub failed: u64,
    /// Of these: requests for which there was no room.
    pub not_sent: u64,
    /// Everything that has ended, one way or the other, warm-up included.
    pub settled: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<String, u64>,
    /// Content events of good streams.
    pub events: u64,
    /// Bytes of good replies.
    pub bytes: u64,
    /// Microseconds from the time a request was due to the last byte of its reply.
    pub latency: Histogram<u64>,
    /// Microseconds to the first content event of a stream.
    pub first_event: Histogram<u64>,
    /// Microseconds between two content events of a stream.
    pub gap: Histogram<u64>,
    /// The run in slices of [`SLICE`] by the time requests were due, warm-up included.
    pub slices: Vec<Slice>,
    /// When the last reply ended.
    pub last: Instant,
}

/// One slice of a run.
#[derive(Debug)]
pub struct Slice {
    /// Good replies.
    pub done: u64,
    /// Failed requests.
    pub failed: u64,
    /// As in the record.
    pub latency: Histogram<u64>,
}

fn histogram(digits: u8) -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, digits)
}

/// Gives whole microseconds, within the bounds of every histogram here.
pub fn bounded_us(time: Duration) -> u64 {
    micros(time).clamp(1, LATENCY_MAX_US)
}

impl Record {
    /// Begins an empty record; latencies count from `begin + warm_up` on.
    ///
    /// # Errors
    /// The histogram refused its own settings; never in practice.
    pub fn new(begin: Instant, warm_up: Duration) -> Result<Self, CreationError> {
        Ok(Self {
            begin,
            counts_from: begin + warm_up,
            done: 0,
            failed: 0,
            not_sent: 0,
            settled: 0,
            faults: BTreeMap::new(),
            events: 0,
            bytes: 0,
            latency: histogram(3)?,
            first_event: histogram(3)?,
            gap: histogram(3)?,
            slices: Vec::new(),
            last: begin,
        })
    }

    /// Takes a good reply to a request that was due at `due`.
    pub fn good(&mut self, due: Instant, reply: &Reply) {
        self.settled += 1;
        self.last = self.last.max(reply.ended);
        let took = bounded_us(reply.ended.saturating_duration_since(due));
        if let Some(slice) = self.slice(due) {
            slice.done += 1;
            slice.latency.saturating_record(took);
        }
        if due < self.counts_from {
            return;
        }
        self.done += 1;
        self.bytes += reply.bytes;
        self.latency.saturating_record(took);
        if let Some(first) = reply.first_event {
            self.events += 1;
            self.first_event.saturating_record(bounded_us(first.saturating_duration_since(due)));
        }
        for gap in &reply.gaps {
            self.events += 1;
            self.gap.saturating_record(bounded_us(*gap));
        }
    }

    /// Takes a request that failed. One that was given up stands among the latencies with the time it had waited:
    /// leaving the slowest out would flatter the tail.
    pub fn bad(&mut self, due: Instant, fault: String, waited: Option<Duration>) {
        self.settled += 1;
        self.failed += 1;
        if let Some(slice) = self.slice(due) {
            slice.failed += 1;
            if let Some(waited) = waited {
                slice.latency.saturating_record(bounded_us(waited));
            }
        }
        if let Some(waited) = waited.filter(|_| due >= self.counts_from) {
            self.latency.saturating_record(bounded_us(waited));
        }
        let known = self.faults.len() < FAULTS_MAX || self.faults.contains_key(&fault);
        let name = if known { fault } else { "(others)".to_owned() };
        *self.faults.entry(name).or_default() += 1;
    }

    /// Takes a request for which there was no room.
    pub fn not_sent(&mut self, due: Instant) {
        self.not_sent += 1;
        self.bad(due, "not sent: every connection was busy and the backlog full".to_owned(), None);
    }

    /// Gives the time over which good replies were counted.
    pub fn counted_time(&self) -> Duration {
        self.last.saturating_duration_since(self.counts_from)
    }

    fn slice(&mut self, due: Instant) -> Option<&mut Slice> {
        let since = due.saturating_duration_since(self.begin).as_millis() / SLICE.as_millis();
        let index = usize::try_from(since).unwrap_or(usize::MAX).min(SLICES_MAX - 1);
        while self.slices.len() <= index {
            // Two digits do for a plot and keep a slice at 22 KiB.
            let Ok(latency) = histogram(2) else { break };
            self.slices.push(Slice { done: 0, failed: 0, latency });
        }
        self.slices.get_mut(index)
    }
}

/// A record that the workers of a run write and its progress line reads.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Record>>);

impl Shared {
    /// Shares a record.
    pub fn new(record: Record) -> Self {
        Self(Arc::new(Mutex::new(record)))
    }

    /// Locks the record for one short look or entry.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn reply(ended: Instant) -> Reply {
        Reply { ended, first_event: None, gaps: Vec::new(), bytes: 10 }
    }

    #[test]
    fn a_warm_up_counts_for_nothing_but_its_errors() {
        let begin = clock::now();
        let mut record = Record::new(begin, Duration::from_secs(1)).unwrap();

        record.good(begin, &reply(begin + Duration::from_secs(3)));
        record.bad(begin, "status 503".to_owned(), None);
        record.good(begin + Duration::from_secs(1), &reply(begin + Duration::from_millis(1250)));

        assert_eq!((record.done, record.failed, record.settled, record.bytes), (1, 1, 3, 10));
        assert_eq!(record.latency.len(), 1);
        assert!((249_000..251_000).contains(&record.latency.max()));
        assert_eq!(record.slices.iter().map(|slice| slice.done).collect::<Vec<_>>(), [1, 0, 1]);
    }

    #[test]
    fn a_request_that_was_given_up_stays_in_the_tail() {
        let begin = clock::now();
        let mut record = Record::new(begin, Duration::ZERO).unwrap();

        record.bad(begin, "no reply in time".to_owned(), Some(Duration::from_secs(10)));

        assert_eq!((record.done, record.failed, record.latency.len()), (0, 1, 1));
        assert!(record.latency.max() >= 9_900_000);
    }

    #[test]
    fn kinds_of_fault_are_bounded() {
        let begin = clock::now();
        let mut record = Record::new(begin, Duration::ZERO).unwrap();

        for kind in 0..100 {
            record.bad(begin, format!("fault {kind}"), None);
        }

        assert_eq!(record.faults.len(), FAULTS_MAX + 1);
        assert_eq!(record.faults["(others)"], 100 - 32);
    }
}
