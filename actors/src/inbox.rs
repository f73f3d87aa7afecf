//! A counted door in front of an actor: a queue with a bound that outlives whoever reads it.
//!
//! An actor's own mailbox has no bound and dies with it. So facts wait here, and all the mailbox ever holds of them is
//! one knock. A full queue refuses and counts; what waits when the actor dies is read by its successor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use ractor::ActorRef;

/// What an actor finds in its mailbox. Facts wait behind the door; a mailbox holds orders only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    /// There is something behind the door.
    Wake,
    /// A moment of its own clock.
    Tick,
    /// Panic now: a drill.
    Poison,
}

/// Sends a knock past the door: timers and drills, of which there is a bounded number.
///
/// A dead actor hears nothing, and its successor begins by looking behind the door.
#[expect(clippy::disallowed_methods, reason = "the one place that casts; who comes here is bounded by other means")]
pub(crate) fn knock<M: ractor::Message>(actor: &ActorRef<M>, message: M) -> Hearing {
    match actor.cast(message) {
        Ok(()) => Hearing::Heard,
        Err(_) => Hearing::Dead,
    }
}

/// Whether a knock reached a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    Heard,
    Dead,
}

/// A bounded queue of facts for one actor.
pub(crate) struct Inbox<T> {
    queue: ArrayQueue<T>,
    dropped: AtomicU64,
    reader: ArcSwapOption<ActorRef<Knock>>,
    is_knocked: AtomicBool,
    // One reader at a time, also while a killed one is not quite gone and its successor has begun.
    turn: Mutex<()>,
}

impl<T> Inbox<T> {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            queue: ArrayQueue::new(bound.max(1)),
            dropped: AtomicU64::new(0),
            reader: ArcSwapOption::empty(),
            is_knocked: AtomicBool::new(false),
            turn: Mutex::new(()),
        }
    }

    /// Puts a fact behind the door and knocks.
    ///
    /// # Errors
    /// The fact, when the queue is full; it is counted as dropped.
    pub(crate) fn post(&self, fact: T) -> Result<(), T> {
        let posted = self.queue.push(fact).inspect_err(|_| {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        });
        // Also after a refusal: a full queue that nobody was told of would stay full.
        self.wake();
        posted
    }

    /// Knocks, unless somebody did and was not heard yet.
    pub(crate) fn wake(&self) {
        if self.is_knocked.swap(true, Ordering::SeqCst) {
            return;
        }
        let heard = self.reader.load().as_deref().map(|reader| knock(reader, Knock::Wake));
        if heard != Some(Hearing::Heard) {
            self.is_knocked.store(false, Ordering::Release);
        }
    }

    /// Makes `reader` the one that is told.
    pub(crate) fn open(&self, reader: ActorRef<Knock>) {
        self.reader.store(Some(std::sync::Arc::new(reader)));
        self.is_knocked.store(false, Ordering::Release);
    }

    /// Reads what waits, at most as much as the queue holds, so that a stream of facts cannot keep the reader in here.
    pub(crate) fn drain(&self, mut read: impl FnMut(T)) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the queue is looked at, and not reordered with it: whoever posts from here on knocks again.
        self.is_knocked.swap(false, Ordering::SeqCst);
        for _ in 0..self.queue.capacity() {
            let Some(fact) = self.queue.pop() else { return };
            read(fact);
        }
        if !self.queue.is_empty() {
            self.wake();
        }
    }

    pub(crate) fn depth(&self) -> u64 {
        u64::try_from(self.queue.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_refuses_and_counts() {
        let inbox = Inbox::new(2);

        let posted: Vec<_> = (0..4).map(|fact| inbox.post(fact)).collect();

        assert_eq!(posted, [Ok(()), Ok(()), Err(2), Err(3)]);
        assert_eq!((inbox.depth(), inbox.dropped()), (2, 2));
    }

    #[test]
    fn what_waits_is_read_in_order_by_whoever_comes_next() {
        let inbox = Inbox::new(8);
        let mut read = Vec::new();
        for fact in 0..3 {
            inbox.post(fact).unwrap();
        }

        inbox.drain(|fact| read.push(fact));

        assert_eq!((read, inbox.depth()), (vec![0, 1, 2], 0));
    }

    #[test]
    fn a_reader_that_panics_leaves_the_rest_to_the_next() {
        let inbox = Inbox::new(8);
        let mut read = Vec::new();
        for fact in 0..3 {
            inbox.post(fact).unwrap();
        }

        let fell = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inbox.drain(|_| panic!("a drill"))));
        inbox.drain(|fact| read.push(fact));

        assert!(fell.is_err());
        assert_eq!(read, [1, 2]);
    }
}
