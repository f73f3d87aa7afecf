use bincode::{Decode, Encode};

use crate::id::{AdminTokenId, ClusterId, KeyId, ModelId, NodeId, ProviderId, Revision};

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
    /// Two tokens of operators would share a secret.
    #[error("tokens {first:?} and {second:?} have the same secret")]
    SharedToken {
        /// One of them.
        first: AdminTokenId,
        /// The other.
        second: AdminTokenId,
    },
    /// A later process of the asking node is at work, or the node was taken out. An earlier copy may have been applied.
    #[error("a later process of this node is at work, or the node was taken out of the cluster")]
    Fenced,
    /// The asker settled this command before. An earlier copy may have been applied.
    #[error("the command comes too late: its asker gave it up")]
    Stale,
    /// The command needs a later version of the agreed state than the one in force.
    #[error("this needs version {needs} of the agreed state, {version} is in force: set it when every node knows it")]
    TooNew {
        /// What it needs.
        needs: u16,
        /// What is in force.
        version: u16,
    },
    /// Versions never go back.
    #[error("version {current} of the agreed state is in force, it never goes back to {asked}")]
    Downgrade {
        /// What was asked for.
        asked: u16,
        /// What is in force.
        current: u16,
    },
    /// A member does not know the version.
    #[error("node {node} knows the agreed state up to version {knows}, not {asked}")]
    Behind {
        /// The member.
        node: NodeId,
        /// The newest version it knows.
        knows: u16,
        /// What was asked for, or is in force.
        asked: u16,
    },
    /// The cluster has its id already.
    #[error("this is cluster {0} already")]
    Formed(ClusterId),
    /// The node was taken out; its id is never given again.
    #[error("node {0} was taken out of the cluster, its id is never given again")]
    Removed(NodeId),
    /// No node can join with what was shown.
    #[error("there is no such join token")]
    UnknownJoinToken,
    /// It could have, earlier.
    #[error("the join token has expired")]
    ExpiredJoinToken,
    /// Another node did.
    #[error("the join token was used by node {0}")]
    UsedJoinToken(NodeId),
    /// There are as many as there may be.
    #[error("there are {max} {what} already, which is the limit")]
    TooMany {
        /// Of what.
        what: String,
        /// How many there may be.
        max: u32,
    },
}
