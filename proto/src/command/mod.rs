//! Changes of agreed state and what is answered to them. Variants are appended only, never reordered.

mod refusal;

use bincode::{Decode, Encode};

pub use refusal::Refusal;

use crate::id::{AdminTokenId, ClusterId, CredentialId, JoinTokenId, KeyId, ModelId, NodeId, ProviderId, Revision};
use crate::member::Member;
use crate::secret::{KeyHash, Sealed};
use crate::spec::{Key, Model, Policies, Provider, Rules, Switch};
use crate::token::AdminToken;

/// One entry of the log that every node applies: a command, who asks for it, and which of its asker's it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Which one it is. The same entry may stand in the log more than once; it takes effect once.
    pub origin: Origin,
    /// What the audit keeps of it.
    pub note: Note,
    /// What is asked for.
    pub command: Command,
}

/// Names an entry among all that were ever proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Origin {
    /// The node it was proposed at.
    pub node: NodeId,
    /// Which start of that node's process: counted in its data directory, so a later one is greater.
    pub incarnation: u64,
    /// Counts the process's entries, from 1.
    pub seq: u64,
    /// Every entry of this process below this one is settled there: no copy of it matters any more.
    pub settled: u64,
}

/// What the audit keeps of an entry besides the change itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Note {
    /// Who asked: the name of an admin token, or what the node itself did it for.
    pub actor: String,
    /// Why, in the asker's words; may be empty.
    pub reason: String,
    /// When, by the clock of the node it was proposed at: milliseconds since 1970 (UTC). Nothing is decided by it.
    pub at: i64,
    /// The hash of the idempotency key it was asked for with.
    pub idempotency: Option<[u8; 32]>,
}

/// What nodes can be asked to do with the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Makes these changes, all or none.
    Change {
        /// The revision the changes were computed against; another one in force refuses them.
        base: Revision,
        /// In this order.
        changes: Vec<Change>,
    },
    /// Gives a cluster its id, once.
    Form {
        /// The id, drawn by the node that formed it.
        cluster: ClusterId,
    },
    /// Puts a later version of the agreed state in force; each member must know it.
    SetVersion(u16),
    /// Adds a node or puts what it tells of itself in the place of what it told before.
    PutMember(NodeId, Member),
    /// Takes a node out for ever: whatever it still proposes is refused.
    RemoveMember(NodeId),
    /// Adds a token of an operator or puts another in its place.
    PutAdminToken(AdminTokenId, AdminToken),
    /// Takes a token of an operator away.
    RemoveAdminToken(AdminTokenId),
    /// Adds a token that one node can join with, or puts another in its place.
    PutJoinToken {
        /// Its name.
        id: JoinTokenId,
        /// The hash its secret is known by.
        hash: KeyHash,
        /// When it stops working, in seconds since 1970 (UTC).
        expires: i64,
    },
    /// Takes such a token away.
    RemoveJoinToken(JoinTokenId),
    /// Uses such a token up. The node that used it may ask again and is told the same.
    UseJoinToken {
        /// The hash of what was shown.
        hash: KeyHash,
        /// Who wants to join.
        node: NodeId,
        /// When, in seconds since 1970 (UTC), by the later of two clocks, the leader's and that of the node that was asked:
        /// what the expiry is held against, on every node alike.
        at: i64,
    },
    /// Puts secrets of providers under another envelope key. One that changed in between is left as it is.
    Reseal(Vec<Resealed>),
    /// Notes how who takes part was changed, for the audit and for nothing else: the change itself is an entry of
    /// consensus, which knows neither who asked for it nor why.
    Reshaped {
        /// What was done.
        how: Reshaped,
        /// Who took part before, as far as the asked node knew.
        before: Seats,
        /// Who takes part since.
        after: Seats,
    },
}

/// How who takes part was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reshaped {
    /// Nodes got a vote.
    Promoted,
    /// Nodes lost theirs and stayed.
    Demoted,
    /// The vote of one node was given to another.
    Replaced,
    /// A node was taken out.
    Removed,
    /// Another node was asked to lead.
    Led,
}

/// Who takes part in a cluster, and who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Seats {
    /// Nodes with a vote, by id.
    pub voters: Vec<NodeId>,
    /// Nodes without.
    pub learners: Vec<NodeId>,
    /// Who leads.
    pub leader: Option<NodeId>,
}

/// A secret of a provider under another envelope key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Resealed {
    /// Whose it is.
    pub provider: ProviderId,
    /// Which one.
    pub credential: CredentialId,
    /// What it was sealed as; if it is something else by now, nothing is done.
    pub old: Sealed,
    /// What it is sealed as now.
    pub new: Sealed,
}

impl Command {
    /// The version of the agreed state it needs.
    pub fn needs(&self) -> u16 {
        match self {
            Self::Change { base: _, changes } => changes.iter().map(Change::needs).max().unwrap_or(1),
            Self::Form { .. }
            | Self::SetVersion(_)
            | Self::PutMember(..)
            | Self::RemoveMember(_)
            | Self::PutAdminToken(..)
            | Self::RemoveAdminToken(_)
            | Self::PutJoinToken { .. }
            | Self::RemoveJoinToken(_)
            | Self::UseJoinToken { .. }
            | Self::Reseal(_) => 1,
            Self::Reshaped { .. } => 2,
        }
    }
}

/// A change of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Adds a provider or puts another in its place.
    PutProvider(ProviderId, Provider),
    /// Takes a provider away.
    RemoveProvider(ProviderId),
    /// Adds a model or puts another in its place.
    PutModel(ModelId, Model),
    /// Takes a model away.
    RemoveModel(ModelId),
    /// Adds a virtual key or puts another in its place.
    PutKey(KeyId, Key),
    /// Takes a virtual key away.
    RemoveKey(KeyId),
    /// Puts other defaults in place.
    PutDefaults(Rules),
    /// Puts other policies in place.
    PutPolicies(Policies),
    /// Switches a provider off or on. One that does not exist has no switch.
    SwitchProvider(ProviderId, Switch),
}

impl Change {
    /// The version of the agreed state it needs.
    pub const fn needs(&self) -> u16 {
        match self {
            Self::PutProvider(..)
            | Self::RemoveProvider(_)
            | Self::PutModel(..)
            | Self::RemoveModel(_)
            | Self::PutKey(..)
            | Self::RemoveKey(_)
            | Self::PutDefaults(_)
            | Self::PutPolicies(_) => 1,
            Self::SwitchProvider(..) => 3,
        }
    }
}

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It was applied; this is the revision now in force.
    Applied(Revision),
    /// It was refused, and nothing changed.
    Refused(Refusal),
    /// A command with the same idempotency key was applied before, at this revision. This one did nothing.
    Repeated(Revision),
}
