use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use troupe_proto::wire;

use super::{Consensus, Machine, Proposal, ProposeError, Read, Reshape, ReshapeError, Reshaping, Role, Vitals};

/// The consensus of one process with itself: commands are applied in the order in which they take the lock.
///
/// Commands and replies go through their bytes, so that nothing works here that would not work between nodes.
pub struct Local<M> {
    /// Held while one command is applied, and counts them; readers never take it.
    applied: Mutex<u64>,
    published: watch::Sender<Arc<M>>,
}

impl<M: Machine> Local<M> {
    /// Begins with `machine`.
    pub fn new(machine: M) -> Self {
        Self { applied: Mutex::new(0), published: watch::Sender::new(Arc::new(machine)) }
    }

    fn apply(&self, command: &M::Command) -> Result<M::Reply, ProposeError> {
        let bytes = wire::encode(command).map_err(ProposeError::Unencodable)?;
        let command: M::Command = wire::decode(&bytes).map_err(ProposeError::Unreadable)?;
        // A panic inside `apply` leaves the published state whole: the clone that it worked on is gone with it.
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        *applied += 1;
        let mut next = M::clone(&self.published.borrow());
        let reply = next.apply(*applied, &command);
        // What readers need not see wakes nobody.
        self.published.send_if_modified(|current| {
            let is_changed = current.version() != next.version();
            *current = Arc::new(next);
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

    fn read_index(&self) -> Read<'_> {
        Box::pin(async { Ok(()) })
    }

    fn vitals(&self) -> Vitals {
        let applied = *self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Vitals {
            role: Role::Leader,
            last_log: applied,
            committed: applied,
            applied,
            confirmed: Some(Duration::ZERO),
            ..Vitals::default()
        }
    }

    fn reshape(&self, _change: Reshape) -> Reshaping<'_> {
        Box::pin(async { Err(ReshapeError::Alone) })
    }
}
