//! What the connections of a data thread amount to, for the listener that hands out the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The connections of one data thread.
#[derive(Debug, Default)]
pub(super) struct Seats {
    open: AtomicUsize,
    /// Of these, how many are new or had a request not long ago.
    awake: AtomicUsize,
}

impl Seats {
    /// How much there is to do: connections that are in use, or requests where they are more (h2 carries many at once);
    /// then all connections.
    ///
    /// Requests alone would be the better measure if they lasted. Short ones come and go between two looks: counted,
    /// they send whoever connects to the thread that happens to be between two of them, and eight connections end up
    /// three to five.
    pub(super) fn load(&self, in_flight: usize) -> (usize, usize) {
        (self.awake.load(Ordering::Relaxed).max(in_flight), self.open.load(Ordering::Relaxed))
    }

    /// Takes a seat for a new connection.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.awake.fetch_add(1, Ordering::Relaxed);
        Seat { seats: self.clone(), is_awake: AtomicBool::new(true) }
    }
}

/// One connection's seat, given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    is_awake: AtomicBool,
}

impl Seat {
    /// A request came. Called by the connection's own task, as [`Seat::sleep`] is.
    pub(super) fn wake(&self) {
        if !self.is_awake.load(Ordering::Relaxed) {
            self.is_awake.store(true, Ordering::Relaxed);
            self.seats.awake.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing came for a while.
    pub(super) fn sleep(&self) {
        if self.is_awake.swap(false, Ordering::Relaxed) {
            self.seats.awake.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sleep();
        // A seat of no thread was never counted.
        let less = |open: usize| open.checked_sub(1);
        self.seats.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_while_they_are_in_use_and_break_ties_while_they_are_open() {
        let seats = Arc::<Seats>::default();
        let (busy, idle) = (seats.take(), seats.take());
        idle.sleep();
        idle.sleep();
        assert_eq!((seats.load(0), seats.load(100)), ((1, 2), (100, 2)));

        idle.wake();
        idle.wake();
        assert_eq!(seats.load(0), (2, 2));

        drop(busy);
        assert_eq!(seats.load(0), (1, 1));
        drop(idle);
        assert_eq!(seats.load(0), (0, 0));
    }
}
