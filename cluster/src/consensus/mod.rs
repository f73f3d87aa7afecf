//! Puts commands in one order for all nodes, and publishes what they come to. Knows no noun.

mod local;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use tokio::sync::watch;
use troupe_proto::id::NodeId;
use troupe_proto::wire::{Message, WireError};

pub use local::Local;

/// What commands are applied to: pure, deterministic, and never panicking.
///
/// A clone is taken for each batch of commands, so it must be cheap.
pub trait Machine: Clone + Send + Sync + 'static {
    /// What an entry of the log asks for.
    type Command: Message + Clone + Send + Sync;
    /// What applying it came to.
    type Reply: Message + Clone + Send + Sync;

    /// Applies a command. The same commands at the same places give the same machine on every node.
    ///
    /// `index` is the entry's place in the log: it grows, not always by one.
    fn apply(&mut self, index: u64, command: &Self::Command) -> Self::Reply;

    /// Whether a command that `from` sent is one that it may ask for: what says who asked must name `from` itself.
    fn is_from(from: NodeId, command: &Self::Command) -> bool;

    /// Puts the time of the leader, in milliseconds since 1970, into a command that another node sent and that is judged by
    /// a time, where it is later than the one in it. True for such a command: a clock that is behind decides nothing then.
    fn stamp(command: &mut Self::Command, at_ms: i64) -> bool;

    /// Grows with each change that readers must see. A refused command need not change it.
    fn version(&self) -> u64;

    /// Everything it holds, as bytes that are the same on every node with the same log.
    ///
    /// # Errors
    /// When there is more of it than may travel.
    fn save(&self) -> Result<Vec<u8>, WireError>;

    /// The machine that was saved as these bytes.
    ///
    /// # Errors
    /// When they are no machine that this version reads.
    fn load(bytes: &[u8]) -> Result<Self, WireError>;
}

/// A proposal on its way.
pub type Proposal<'a, R> = Pin<Box<dyn Future<Output = Result<R, ProposeError>> + Send + 'a>>;

/// A read index on its way.
pub type Read<'a> = Pin<Box<dyn Future<Output = Result<(), ReadError>> + Send + 'a>>;

/// A change of who takes part, on its way.
pub type Reshaping<'a> = Pin<Box<dyn Future<Output = Result<(), ReshapeError>> + Send + 'a>>;

/// One order of commands for all nodes.
pub trait Consensus<M: Machine>: Send + Sync {
    /// Has a command applied on every node, and gives the reply once it was applied here or at the leader.
    ///
    /// Finds the leader and tries again by itself until its deadline. A command may then stand in the log more than
    /// once: what makes the copies one is in the command.
    ///
    /// # Errors
    /// [`ProposeError`]; each variant says whether the command may still take effect.
    fn propose(&self, command: M::Command) -> Proposal<'_, M::Reply>;

    /// The state after the last command applied here.
    fn state(&self) -> Arc<M>;

    /// The states to come. A slow reader sees the newest, not each one.
    fn watch(&self) -> watch::Receiver<Arc<M>>;

    /// Waits until [`Self::state`] holds everything that was acknowledged anywhere before this call.
    ///
    /// # Errors
    /// [`ReadError`]; nothing is known then.
    fn read_index(&self) -> Read<'_>;

    /// How it is, as numbers.
    fn vitals(&self) -> Vitals;

    /// Changes who takes part.
    ///
    /// # Errors
    /// [`ReshapeError`]; each variant says whether the change may still take effect.
    fn reshape(&self, change: Reshape) -> Reshaping<'_>;
}

/// A change of who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reshape {
    /// Lets a node have everything without a vote.
    AddLearner {
        /// The node; an id is never given twice.
        node: NodeId,
        /// Where other nodes reach it.
        peer: String,
    },
    /// Gives learners a vote, all of them in one step: voters are one, three or five.
    Promote(Vec<NodeId>),
    /// Takes a node's vote; it stays as a learner. At three or five voters another one must lose its vote with it, so
    /// this is for going down in pairs: the leader keeps its own.
    Demote(Vec<NodeId>),
    /// Takes a node out. A voter may leave only when an odd number of voters stays.
    Remove(NodeId),
    /// Gives the vote of one node to a learner, in one step.
    Replace {
        /// Who loses its vote, and its place.
        old: NodeId,
        /// Who gets it.
        new: NodeId,
    },
    /// Asks a voter to lead.
    TransferLeader(NodeId),
}

/// How a node takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It puts commands in order.
    Leader,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    #[default]
    Learner,
    /// It stopped and takes no part.
    Stopped,
}

/// How consensus is at this node. Numbers only; what they are called outside is decided outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// How this node takes part.
    pub role: Role,
    /// Who leads, as far as this node knows. A hint: only a commit proves it.
    pub leader: Option<NodeId>,
    /// The term of the vote this node gave last.
    pub term: u64,
    /// The index of the last entry in this node's log.
    pub last_log: u64,
    /// The index of the last entry known to be agreed.
    pub committed: u64,
    /// The index of the last entry applied here.
    pub applied: u64,
    /// Who votes, with the address where each is reached.
    pub voters: Vec<(NodeId, String)>,
    /// Who follows without a vote, with the address where each is reached.
    pub learners: Vec<(NodeId, String)>,
    /// How many entries each other node lacks, where this node leads.
    pub behind: Vec<(NodeId, u64)>,
    /// Proposals made at this node that are not answered yet.
    pub pending: u64,
    /// Proposals made at this node that ended in an error.
    pub failed: u64,
    /// How often this node saw another leader than before.
    pub leader_changes: u64,
    /// How long ago the last read index that was confirmed by a quorum began; `None` before the first.
    pub confirmed: Option<Duration>,
    /// The size of the log on disk.
    pub log_bytes: u64,
    /// The size of the newest snapshot on disk.
    pub snapshot_bytes: u64,
    /// The index of the last entry in the newest snapshot.
    pub snapshot_index: u64,
    /// How long entries took from when they were handed to the log until they were on disk.
    pub writes: Times,
    /// How long the disk took each time that it was asked to make the log durable: writes that come together share one.
    pub fsyncs: Times,
}

/// Upper bounds of the buckets of [`Times`], in microseconds.
pub const TIMES_BUCKETS_US: [u64; 14] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000];

/// How long one kind of thing took, each time that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// How long all of them took together.
    pub sum: Duration,
    /// How many took at most as long as the bound of [`TIMES_BUCKETS_US`] at the same place, and longer than the bound
    /// before; the rest took longer than all.
    pub buckets: [u64; TIMES_BUCKETS_US.len()],
}

/// Why a command was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It cannot travel, mostly because it is larger than a command may be. It took no effect.
    #[error("the command cannot be encoded")]
    Unencodable(#[source] WireError),
    /// What it was encoded to, or the reply, cannot be read back.
    #[error("the command cannot be read back")]
    Unreadable(#[source] WireError),
    /// A secret in it cannot be sealed. It took no effect.
    #[error("a secret in the command cannot be sealed")]
    Unsealed,
    /// No leader could be found. It took no effect, and never will.
    #[error("no leader is known")]
    NoLeader,
    /// The answer did not come in time. It may have taken effect, and still may.
    #[error("the outcome is not known")]
    Unknown,
    /// This node stopped taking part. The command may still take effect if it was on its way.
    #[error("consensus stopped at this node")]
    Stopped,
}

/// Why nothing can be said about what was acknowledged elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader answered that a quorum follows.
    #[error("no leader is known")]
    NoLeader,
    /// This node stopped taking part.
    #[error("consensus stopped at this node")]
    Stopped,
}

/// Why who takes part was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshapeError {
    /// It would break a rule. It took no effect.
    #[error("{0}")]
    Refused(String),
    /// No leader could be found. It took no effect, and never will.
    #[error("no leader is known")]
    NoLeader,
    /// The answer did not come in time. It may have taken effect, and still may.
    #[error("the outcome is not known")]
    Unknown,
    /// This node stopped taking part.
    #[error("consensus stopped at this node")]
    Stopped,
    /// There is nobody to change anything with: this process agrees with itself only.
    #[error("this process has no cluster")]
    Alone,
}
