use std::sync::Arc;

use bincode::{Decode, Encode};
use tokio::sync::watch;
use troupe_proto::command::{Command, Reply};
use troupe_proto::id::Revision;
use troupe_proto::spec::Spec;
use troupe_proto::wire::{self, Message, WireError};

use crate::consensus::{Consensus, Local, Machine, ProposeError};
use crate::state::State;

impl Machine for State {
    type Command = Command;
    type Reply = Reply;

    fn apply(&mut self, _index: u64, command: &Command) -> Reply {
        Self::apply(self, command)
    }

    fn version(&self) -> u64 {
        self.revision().0
    }

    fn save(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(&Saved { revision: self.revision(), spec: Spec::clone(self.spec()) })
    }

    fn load(bytes: &[u8]) -> Result<Self, WireError> {
        let saved: Saved = wire::decode(bytes)?;
        Ok(Self::restored(saved.revision, saved.spec))
    }
}

/// A state in a snapshot.
#[derive(Encode, Decode)]
struct Saved {
    revision: Revision,
    spec: Spec,
}

impl Message for Saved {
    const KIND: u16 = 3;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 64 << 20;
}

/// Starts clusters.
pub struct Cluster;

impl Cluster {
    /// A cluster of this process alone, with an empty state that lives as long as its handles.
    pub fn start_local() -> Handle {
        Handle { consensus: Arc::new(Local::new(State::default())) }
    }
}

/// The one way to read and to change what nodes agree on. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    consensus: Arc<dyn Consensus<State>>,
}

impl Handle {
    /// Has a command applied, and says what it came to. A refused command changes nothing.
    ///
    /// # Errors
    /// [`ProposeError`] when the command was not applied at all.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        self.consensus.propose(command).await
    }

    /// The state in force here.
    pub fn state(&self) -> Arc<State> {
        self.consensus.state()
    }

    /// The states to come. A slow reader sees the newest, not each one.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.consensus.watch()
    }
}

#[cfg(test)]
mod tests {
    use troupe_proto::command::{Change, Refusal};
    use troupe_proto::spec::Rules;

    use super::*;

    fn put_defaults(base: u64) -> Command {
        Command::Change { base: Revision(base), changes: vec![Change::PutDefaults(Rules::built_in())] }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn an_applied_command_is_published_and_watchers_wake() {
        let handle = Cluster::start_local();
        let mut watcher = handle.watch();

        let reply = block_on(async {
            let reply = handle.propose(put_defaults(0)).await.unwrap();
            watcher.changed().await.unwrap();
            reply
        });

        assert_eq!(reply, Reply::Applied(Revision(1)));
        assert_eq!(handle.state().revision(), Revision(1));
        assert_eq!(watcher.borrow().spec().defaults, Rules::built_in());
    }

    #[test]
    fn of_two_changes_made_for_the_same_state_the_second_is_refused_and_wakes_nobody() {
        let handle = Cluster::start_local();
        let mut watcher = handle.watch();

        let (first, second) = block_on(async {
            let first = handle.propose(put_defaults(0)).await.unwrap();
            watcher.mark_unchanged();
            (first, handle.propose(put_defaults(0)).await.unwrap())
        });

        assert_eq!(first, Reply::Applied(Revision(1)));
        assert_eq!(second, Reply::Refused(Refusal::Conflict { base: Revision(0), current: Revision(1) }));
        assert!(!watcher.has_changed().unwrap());
    }
}
