//! Changes of agreed state and what is answered to them. Variants are appended only, never reordered.

use bincode::{Decode, Encode};

use crate::id::{KeyId, ModelId, NodeId, ProviderId, Revision};
use crate::spec::{Key, Model, Provider, Rules};

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

/// What a node can be asked to do with the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Makes these changes, all or none.
    Change {
        /// The revision the changes were computed against; another one in force refuses them.
        base: Revision,
        /// In this order.
        changes: Vec<Change>,
    },
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
}

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It was applied; this is the revision now in force.
    Applied(Revision),
    /// It was refused, and nothing changed.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// Somebody else changed the state in between.
    #[error("the state is at revision {current}, the change was made for {base}")]
    Conflict {
        /// What the change was computed against.
        base: Revision,
        /// What is in force.
        current: Revision,
    },
    /// A model would point to a provider that does not exist.
    #[error("model {model:?} names provider {provider:?}, which does not exist")]
    UnknownProvider {
        /// The model.
        model: ModelId,
        /// The provider it names.
        provider: ProviderId,
    },
    /// A model would fall back to one that does not exist.
    #[error("model {model:?} falls back to {fallback:?}, which does not exist")]
    UnknownFallback {
        /// The model.
        model: ModelId,
        /// The one it names.
        fallback: ModelId,
    },
    /// Two virtual keys would share a secret.
    #[error("keys {first:?} and {second:?} have the same secret")]
    SharedSecret {
        /// One of them.
        first: KeyId,
        /// The other.
        second: KeyId,
    },
}
