//! How often this node left rotation, and what became of those who were there.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::cell::{Counter, Histogram, Totals};
use super::names;
use super::text::Text;
use crate::flow::Flow;

/// Who took a node out of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An operator, who may put it back.
    Operator,
    /// The end of its process.
    End,
}

const BY: [&str; 2] = ["operator", "end"];
const ENDS: [&str; 2] = ["closed", "cut"];

/// The drains of one node.
#[derive(Debug, Default)]
pub struct Drains {
    begun: [Counter; BY.len()],
    took: Histogram,
    connections: [Counter; ENDS.len()],
    requests_cut: Counter,
    /// Where the node is on its way out, as a number: connections look at it when they end, on every data thread.
    stage: AtomicU8,
}

impl Drains {
    /// Counts a drain.
    pub fn begun(&self, by: By) {
        if let Some(counter) = self.begun.get(by as usize) {
            counter.inc();
        }
    }

    /// Counts how long it took until nobody was left, the rest was cut, or the node came back.
    pub fn over(&self, took: Duration) {
        self.took.observe(took);
    }

    /// Counts requests that were in flight when the rest was cut.
    pub fn requests_cut(&self, count: usize) {
        self.requests_cut.add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Notes how far the node is on its way out.
    pub fn reached(&self, stage: Flow) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Counts the end of a connection that was there before the drain, if there is one.
    pub fn connection_ended(&self) {
        let stage = self.stage.load(Ordering::Relaxed);
        if stage == Flow::Serving as u8 {
            return;
        }
        let [closed, cut] = &self.connections;
        if stage == Flow::Stopped as u8 { cut.inc() } else { closed.inc() }
    }

    /// How many connections ended by themselves, or behind their last request, and how many were cut.
    pub fn connections(&self) -> (u64, u64) {
        let [closed, cut] = &self.connections;
        (closed.get(), cut.get())
    }

    pub(super) fn render(&self, text: &mut Text) {
        text.head(&names::DRAINS);
        for (by, counter) in BY.iter().zip(&self.begun) {
            text.sample(&names::DRAINS, &[by], counter.get());
        }
        text.head(&names::DRAIN_DURATION);
        let mut took = Totals::default();
        took.add(&self.took);
        text.histogram(&names::DRAIN_DURATION, &[], &took);
        text.head(&names::DRAIN_CONNECTIONS);
        for (end, counter) in ENDS.iter().zip(&self.connections) {
            text.sample(&names::DRAIN_CONNECTIONS, &[end], counter.get());
        }
        text.single(&names::DRAIN_REQUESTS_CUT, self.requests_cut.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_by_the_stage_they_end_in() {
        let drains = Drains::default();

        for stage in [Flow::Serving, Flow::Draining, Flow::Closing, Flow::Stopped] {
            drains.reached(stage);
            drains.connection_ended();
        }

        assert_eq!(drains.connections(), (2, 1), "one ended while the node served");
    }
}
