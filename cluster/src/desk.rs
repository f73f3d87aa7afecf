//! Numbers what one process proposes, so that the state can tell a copy from another entry.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use troupe_proto::command::Origin;

use crate::handle::Process;

/// How far the newest entry may be ahead of the oldest one that is not settled. The state keeps more replies than this,
/// so none is dropped that a process still waits for.
const SPREAD_MAX: u64 = 512;

/// Gives out the numbers of a process.
pub(crate) struct Desk {
    process: Process,
    numbers: Mutex<Numbers>,
    /// Woken when the oldest open entry was settled.
    settled: Notify,
}

struct Numbers {
    next: u64,
    open: BTreeSet<u64>,
}

impl Numbers {
    /// Everything below is settled.
    fn settled(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

/// The number of one entry. It is settled when this is dropped: whoever proposed it has its answer, or gave it up.
pub(crate) struct Ticket<'a> {
    desk: &'a Desk,
    origin: Origin,
}

impl Desk {
    pub(crate) const fn new(process: Process) -> Self {
        let numbers = Numbers { next: 1, open: BTreeSet::new() };
        Self { process, numbers: Mutex::new(numbers), settled: Notify::const_new() }
    }

    pub(crate) const fn process(&self) -> Process {
        self.process
    }

    /// The next number, once the oldest open one is near enough.
    pub(crate) async fn ticket(&self) -> Ticket<'_> {
        loop {
            let settled = self.settled.notified();
            if let Some(origin) = self.take() {
                return Ticket { desk: self, origin };
            }
            settled.await;
        }
    }

    fn take(&self) -> Option<Origin> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let (seq, settled) = (numbers.next, numbers.settled());
        if seq - settled >= SPREAD_MAX {
            return None;
        }
        numbers.next += 1;
        numbers.open.insert(seq);
        let Process { node, incarnation } = self.process;
        Some(Origin { node, incarnation, seq, settled })
    }
}

impl Ticket<'_> {
    pub(crate) const fn origin(&self) -> Origin {
        self.origin
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.desk.numbers.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.origin.seq);
        self.desk.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use troupe_proto::id::NodeId;

    use super::*;

    fn desk() -> Desk {
        Desk::new(Process { node: NodeId(3), incarnation: 2 })
    }

    #[tokio::test]
    async fn an_entry_says_below_which_everything_is_settled() {
        let desk = desk();

        let first = desk.ticket().await;
        let second = desk.ticket().await;
        drop(first);
        let third = desk.ticket().await;

        let origin = |seq, settled| Origin { node: NodeId(3), incarnation: 2, seq, settled };
        assert_eq!(second.origin(), origin(2, 1));
        assert_eq!(third.origin(), origin(3, 2));
        drop((second, third));
        assert_eq!(desk.ticket().await.origin(), origin(4, 4));
    }

    #[tokio::test]
    async fn an_entry_waits_while_an_old_one_is_open() {
        let desk = desk();
        let oldest = desk.ticket().await;
        for _ in 1..SPREAD_MAX {
            drop(desk.ticket().await);
        }

        let mut waiting = std::pin::pin!(desk.ticket());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(oldest);

        assert_eq!(waiting.await.origin().seq, SPREAD_MAX + 1);
    }
}
