//! Entries, votes and memberships as our own messages carry them, so that no layout of openraft's is on a wire or a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bincode::{Decode, Encode};
use openraft::entry::RaftEntry;
use openraft::vote::RaftVote;
use openraft::vote::leader_id_std::LeaderId;
use troupe_proto::id::NodeId;

use super::types::{self, Bytes};

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogId {
    /// The term of the leader that put it there.
    pub term: u64,
    /// Its place.
    pub index: u64,
}

impl From<types::LogId> for LogId {
    fn from(id: types::LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<LogId> for types::LogId {
    fn from(id: LogId) -> Self {
        types::log_id(id.term, id.index)
    }
}

/// Whom a node votes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// For whom.
    pub node: NodeId,
    /// Whether a quorum did the same, which makes the node the leader of the term.
    pub is_committed: bool,
}

impl From<types::Vote> for Vote {
    fn from(vote: types::Vote) -> Self {
        let LeaderId { term, voted_for } = vote.leader_id;
        Self { term, node: voted_for, is_committed: vote.committed }
    }
}

impl From<Vote> for types::Vote {
    fn from(vote: Vote) -> Self {
        let leader_id = LeaderId { term: vote.term, voted_for: vote.node };
        Self::from_leader_id(leader_id, vote.is_committed)
    }
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Members {
    /// Who votes; two sets while one follows the other, and both must agree then.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Everybody, with the address where each is reached.
    pub nodes: BTreeMap<NodeId, String>,
}

impl From<&types::Membership> for Members {
    fn from(membership: &types::Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl TryFrom<Members> for types::Membership {
    type Error = Unsound;

    fn try_from(members: Members) -> Result<Self, Unsound> {
        if members.voters.is_empty() && members.nodes.is_empty() {
            // Before a cluster is formed nobody takes part, which the checked constructor takes for a mistake.
            return Ok(Self::default());
        }
        let nodes: BTreeMap<_, _> = members.nodes.into_iter().map(|(id, addr)| (id, types::Node { addr })).collect();
        Self::new(members.voters, nodes).map_err(|_| Unsound)
    }
}

/// A membership in which a voter has no address, or nobody votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a membership names voters that are no members, or none")]
pub struct Unsound;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A command in its envelope.
    Command(Arc<[u8]>),
    /// Who takes part from here on.
    Members(Members),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Where it stands.
    pub at: LogId,
    /// What it holds.
    pub payload: Payload,
}

impl From<types::Entry> for Entry {
    fn from(entry: types::Entry) -> Self {
        Self { at: entry.log_id.into(), payload: entry.payload.into() }
    }
}

impl From<types::Payload> for Payload {
    fn from(payload: types::Payload) -> Self {
        match payload {
            types::Payload::Blank => Self::Blank,
            types::Payload::Normal(Bytes(bytes)) => Self::Command(bytes),
            types::Payload::Membership(membership) => Self::Members((&membership).into()),
        }
    }
}

impl TryFrom<Entry> for types::Entry {
    type Error = Unsound;

    fn try_from(entry: Entry) -> Result<Self, Unsound> {
        let payload = match entry.payload {
            Payload::Blank => types::Payload::Blank,
            Payload::Command(bytes) => types::Payload::Normal(Bytes(bytes)),
            Payload::Members(members) => types::Payload::Membership(members.try_into()?),
        };
        Ok(Self::new(entry.at.into(), payload))
    }
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Meta {
    /// The last entry in it.
    pub last: Option<LogId>,
    /// The entry that made its membership.
    pub since: Option<LogId>,
    /// Who takes part.
    pub members: Members,
}

impl From<&types::SnapshotMeta> for Meta {
    fn from(meta: &types::SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.map(Into::into),
            since: meta.last_membership.log_id().map(Into::into),
            members: meta.last_membership.membership().into(),
        }
    }
}

impl TryFrom<Meta> for types::SnapshotMeta {
    type Error = Unsound;

    fn try_from(meta: Meta) -> Result<Self, Unsound> {
        let membership = meta.members.try_into()?;
        Ok(Self {
            last_log_id: meta.last.map(Into::into),
            last_membership: types::StoredMembership::new(meta.since.map(Into::into), membership),
        })
    }
}
