use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use troupe_proto::wire;

use super::{Consensus, Machine, Proposal, ProposeError};

/// The consensus of one process with itself: commands are applied in the order in which they take the lock.
///
/// Commands and replies go through their bytes, so that nothing works here that would not work between nodes.
pub struct Local<M> {
    /// Held while one command is applied; readers never take it.
    turn: Mutex<()>,
    published: watch::Sender<Arc<M>>,
}

impl<M: Machine> Local<M> {
    /// Begins with `machine`.
    pub fn new(machine: M) -> Self {
        Self { turn: Mutex::new(()), published: watch::Sender::new(Arc::new(machine)) }
    }

    fn apply(&self, command: &M::Command) -> Result<M::Reply, ProposeError> {
        let bytes = wire::encode(command).map_err(ProposeError::Unencodable)?;
        let command: M::Command = wire::decode(&bytes).map_err(ProposeError::Unreadable)?;
        // A panic inside `apply` leaves the published state whole: the clone that it worked on is gone with it.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = M::clone(&self.published.borrow());
        let reply = next.apply(&command);
        // A refused command wakes nobody.
        self.published.send_if_modified(|current| {
            let is_changed = **current != next;
            if is_changed {
                *current = Arc::new(next);
            }
            is_changed
        });
        let bytes = wire::encode(&reply).map_err(ProposeError::Unencodable)?;
        wire::decode(&bytes).map_err(ProposeError::Unreadable)
    }
}

impl<M: Machine> Consensus<M> for Local<M> {
    fn propose(&self, command: M::Command) -> Proposal<'_, M::Reply> {
        Box::pin(async move { self.apply(&command) })
    }

    fn state(&self) -> Arc<M> {
        Arc::clone(&self.published.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<M>> {
        self.published.subscribe()
    }
}
