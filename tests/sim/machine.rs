//! The real state, watched: what is applied where, and to what effect, is held against what other hosts made of it.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::watch;
use troupe_cluster::State;
use troupe_cluster::consensus::{Consensus, Machine, Proposal, Read, Reshape, Reshaping, Vitals};
use troupe_cluster::raft::Raft;
use troupe_proto::command::{Command, Entry, Reply};
use troupe_proto::id::NodeId;
use troupe_proto::wire::WireError;

use super::plan::Plant;
use super::world::World;

thread_local! {
    /// The run of this thread: a machine that is loaded from bytes does not know where it is.
    static RUN: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Makes `world` the run of this thread, until this is dropped.
pub struct Entered;

impl Entered {
    /// From here on.
    pub fn new(world: &Arc<World>) -> Self {
        RUN.set(Some(Arc::clone(world)));
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        RUN.set(None);
    }
}

fn run() -> Option<Arc<World>> {
    RUN.with_borrow(Clone::clone)
}

/// The real state.
#[derive(Clone, Default)]
pub struct Observed {
    /// It.
    pub state: Arc<State>,
}

/// A command whose outcome depends on when it is applied: a planted bug.
fn by_the_clock(entry: &Entry) -> Option<Entry> {
    let Command::PutAdminToken(id, token) = &entry.command else { return None };
    let now = i64::try_from(turmoil::sim_elapsed()?.as_millis()).ok()?;
    let mut token = token.clone();
    token.expires = Some(now);
    Some(Entry { command: Command::PutAdminToken(id.clone(), token), ..entry.clone() })
}

impl Machine for Observed {
    type Command = Entry;
    type Reply = Reply;

    fn apply(&mut self, index: u64, entry: &Entry) -> Reply {
        let Some(world) = run() else { return Arc::make_mut(&mut self.state).apply(index, entry) };
        let planted = (world.plant == Plant::ClockInApply).then(|| by_the_clock(entry)).flatten();
        let before = self.state.changes();
        let reply = Arc::make_mut(&mut self.state).apply(index, planted.as_ref().unwrap_or(entry));
        world.lock().applied(index, entry, &reply, before, &self.state);
        reply
    }

    fn is_from(from: NodeId, entry: &Entry) -> bool {
        State::is_from(from, entry)
    }

    fn stamp(entry: &mut Entry, at_ms: i64) -> bool {
        State::stamp(entry, at_ms)
    }

    fn version(&self) -> u64 {
        self.state.changes()
    }

    fn save(&self) -> Result<Vec<u8>, WireError> {
        self.state.save()
    }

    fn load(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self { state: Arc::new(State::load(bytes)?) })
    }
}

/// Consensus on the real state, over consensus on the watched one.
pub struct Face {
    raft: Raft<Observed>,
    states: watch::Sender<Arc<State>>,
}

impl Face {
    /// Over `raft`.
    pub fn new(raft: Raft<Observed>) -> Self {
        let states = watch::Sender::new(Arc::clone(&raft.state().state));
        let (mut from, to) = (raft.watch(), states.clone());
        tokio::spawn(async move {
            while from.changed().await.is_ok() {
                let state = Arc::clone(&from.borrow_and_update().state);
                to.send_replace(state);
            }
        });
        Self { raft, states }
    }
}

impl Consensus<State> for Face {
    fn propose(&self, command: Entry) -> Proposal<'_, Reply> {
        self.raft.propose(command)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.raft.state().state)
    }

    fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.states.subscribe()
    }

    fn read_index(&self) -> Read<'_> {
        self.raft.read_index()
    }

    fn vitals(&self) -> Vitals {
        self.raft.vitals()
    }

    fn reshape(&self, change: Reshape) -> Reshaping<'_> {
        self.raft.reshape(change)
    }
}
