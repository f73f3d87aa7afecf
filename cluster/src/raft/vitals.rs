use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use troupe_proto::id::NodeId;

use super::Inner;
use super::types::Types;
use crate::clock;
use crate::consensus::{Machine, Role, Vitals};

impl<M: Machine> Inner<M> {
    pub(super) fn vitals(&self) -> Vitals {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let log = (self.log_stats)();
        let (snapshot_bytes, snapshot_index) = self.snapshots.newest();
        let membership = metrics.membership_config.membership();
        let reached = |id: NodeId| (id, membership.get_node(&id).map(|node| node.addr.clone()).unwrap_or_default());
        let role = match (&metrics.running_state, metrics.state) {
            (Err(_), _) | (Ok(()), ServerState::Shutdown) => Role::Stopped,
            (Ok(()), ServerState::Leader) => Role::Leader,
            (Ok(()), ServerState::Candidate) => Role::Candidate,
            (Ok(()), ServerState::Follower) => Role::Follower,
            (Ok(()), ServerState::Learner) => Role::Learner,
        };
        Vitals {
            role,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: *self.published.applied.borrow(),
            voters: membership.voter_ids().map(reached).collect(),
            learners: membership.learner_ids().map(reached).collect(),
            behind: behind(&metrics).into_iter().collect(),
            pending: self.pending.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            leader_changes: self.leader_changes.load(Ordering::Relaxed),
            confirmed: confirmed.map(|at| clock::now().saturating_duration_since(at)),
            log_bytes: log.bytes,
            snapshot_bytes,
            snapshot_index,
            writes: log.writes,
            fsyncs: log.fsyncs,
        }
    }
}

/// How many entries each other node lacks, where this node leads. Who was not heard of yet is left out.
pub(super) fn behind(metrics: &RaftMetrics<Types>) -> BTreeMap<NodeId, u64> {
    let last = metrics.last_log_index.unwrap_or(0);
    let Some(nodes) = &metrics.replication else { return BTreeMap::new() };
    nodes.iter().filter_map(|(id, has)| Some((*id, last.saturating_sub(has.as_ref()?.index)))).collect()
}
