//! Changes of agreed state and what is answered to them. Variants are appended only, never reordered.

use bincode::{Decode, Encode};

use crate::id::{KeyId, ModelId, ProviderId, Revision};
use crate::spec::{Key, Model, Provider, Rules};

/// One entry of the log that every node applies.
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
