//! The types that openraft is made of here.

use std::fmt;
use std::sync::Arc;

use openraft::vote::leader_id_std;
use openraft_rt::deterministic_rng::DeterministicRng;
use troupe_proto::id::NodeId;

use super::runtime::Orderly;

openraft::declare_raft_types!(
    /// Bytes in, bytes out; one leader in a term; chance that can be seeded, and nothing left to chance besides.
    pub Types:
        D = Bytes,
        R = Bytes,
        NodeId = NodeId,
        Node = openraft::impls::BasicNode,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = DeterministicRng<Orderly>,
);

/// A command or a reply in its envelope. A clone shares it.
// serde is asked for by openraft's types; nothing of ours is ever written by it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bytes(pub Arc<[u8]>);

impl Bytes {
    /// What entries without a command come to.
    pub fn none() -> Self {
        Self(Arc::from([]))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An entry of the log.
pub type Entry = openraft::Entry<LeaderId, Payload>;
/// What an entry holds.
pub type Payload = openraft::EntryPayload<Bytes, NodeId, Node>;
/// Where an entry stands.
pub type LogId = openraft::LogId<LeaderId>;
/// A leader, once a quorum made it one: its term.
pub type LeaderId = leader_id_std::CommittedLeaderId<u64>;
/// Who a node votes for, and whether a quorum did.
pub type Vote = openraft::Vote<leader_id_std::LeaderId<u64, NodeId>>;
/// Where a node is reached.
pub type Node = openraft::impls::BasicNode;
/// Who takes part.
pub type Membership = openraft::Membership<NodeId, Node>;
/// Who takes part, and since which entry.
pub type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Node>;
/// What a snapshot holds.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, NodeId, Node>;

/// The place of entry `index` that the leader of `term` put there.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId::new(term), index }
}
