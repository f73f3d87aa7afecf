//! Changes of who takes part, carried out by the leader.
//!
//! Every step is planned from what is in force, so doing it again does nothing: a change may be tried at a leader, at
//! the next, and at the first again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};
use troupe_proto::id::NodeId;

use super::Inner;
use super::message::{Forward, Forwarded};
use super::plain::Members;
use super::propose::{Unsent, millis};
use super::types::Node;
use crate::clock;
use crate::consensus::{Machine, Reshape, ReshapeError};
use crate::membership::{self, Plan};

/// What one step came to.
enum Step {
    /// It is in force.
    Done,
    /// It may be in force later, or this was not the time for it: try again.
    Again,
    /// It is against a rule.
    Refused(String),
    /// Consensus stopped here.
    Stopped,
}

impl<M: Machine> Inner<M> {
    pub(super) async fn reshape(&self, change: &Reshape) -> Result<(), ReshapeError> {
        let deadline = clock::now() + self.settings.reshape_within;
        let mut may_stand = false;
        loop {
            match self.reshape_here(change, deadline).await {
                Some(Err(ReshapeError::Unknown)) => may_stand = true,
                Some(result) => return result,
                None => match self.reshape_there(change, deadline).await {
                    Ok(Forwarded::Reshaped) => return Ok(()),
                    Ok(Forwarded::Refused(why)) => return Err(ReshapeError::Refused(why)),
                    Ok(Forwarded::NotLeading) | Err(Unsent::Certainly) => {}
                    Ok(_) | Err(Unsent::Perhaps) => may_stand = true,
                },
            }
            if !self.pause(deadline).await {
                return Err(if may_stand { ReshapeError::Unknown } else { ReshapeError::NoLeader });
            }
        }
    }

    async fn reshape_there(&self, change: &Reshape, deadline: Instant) -> Result<Forwarded, Unsent> {
        let (leader, address) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let leader = metrics.current_leader.filter(|leader| *leader != self.me).ok_or(Unsent::Certainly)?;
            let node = metrics.membership_config.membership().get_node(&leader).ok_or(Unsent::Certainly)?;
            (leader, node.addr.clone())
        };
        let within = deadline.saturating_duration_since(clock::now());
        let ask = Forward::Reshape { change: change.clone(), within_ms: millis(within) };
        self.forward(leader, &address, &ask, within).await
    }

    /// Carries out a change if this node leads; `None` if it does not.
    pub(super) async fn reshape_here(&self, change: &Reshape, deadline: Instant) -> Option<Result<(), ReshapeError>> {
        let mut may_stand = false;
        loop {
            let (members, behind) = self.as_leader()?;
            let plan = match membership::plan(&members, &behind, change) {
                Ok(plan) => plan,
                Err(why) => return Some(Err(ReshapeError::Refused(why))),
            };
            let is_unfinished = members.voters.len() > 1;
            let step = match plan {
                Plan::Done => Step::Done,
                Plan::Wait(why) => {
                    if clock::now() + Duration::from_millis(100) >= deadline {
                        return Some(Err(ReshapeError::Refused(why)));
                    }
                    Step::Again
                }
                Plan::Lead(to) => self.hand_over(to, deadline).await,
                Plan::Set(node, peer) => {
                    may_stand = true;
                    let nodes = BTreeMap::from([(node, Node { addr: peer })]);
                    self.change(ChangeMembers::SetNodes(nodes), true, deadline).await
                }
                Plan::Voters { voters, stay } => {
                    may_stand = true;
                    self.change(ChangeMembers::ReplaceAllVoters(voters), stay, deadline).await
                }
                Plan::Drop(node) => {
                    may_stand = true;
                    self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node])), false, deadline).await
                }
            };
            match step {
                // That was somebody else's.
                Step::Done if is_unfinished => {}
                Step::Done => return Some(Ok(())),
                Step::Refused(why) => return Some(Err(ReshapeError::Refused(why))),
                Step::Stopped => return Some(Err(ReshapeError::Stopped)),
                Step::Again => {
                    if !self.pause(deadline).await {
                        return Some(Err(if may_stand { ReshapeError::Unknown } else { ReshapeError::NoLeader }));
                    }
                }
            }
        }
    }

    /// Who takes part, and how many entries each other node lacks, if this node leads.
    fn as_leader(&self) -> Option<(Members, BTreeMap<NodeId, u64>)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.current_leader != Some(self.me) {
            return None;
        }
        Some((metrics.membership_config.membership().into(), super::vitals::behind(&metrics)))
    }

    async fn change(&self, change: ChangeMembers<NodeId, Node>, stay: bool, deadline: Instant) -> Step {
        match timeout_at(deadline, self.raft.change_membership(change, stay)).await {
            Ok(Ok(_)) => Step::Done,
            Err(_)
            | Ok(Err(RaftError::APIError(
                // The first of two steps may stand when the second finds another leader.
                ClientWriteError::ForwardToLeader(_)
                | ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                ),
            ))) => Step::Again,
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Step::Refused(error.to_string())
            }
            Ok(Err(RaftError::Fatal(_))) => Step::Stopped,
        }
    }

    async fn hand_over(&self, to: NodeId, deadline: Instant) -> Step {
        let is_there = |leader: Option<NodeId>| leader == Some(to);
        let mut metrics = self.raft.server_metrics();
        if is_there(metrics.borrow_watched().current_leader) {
            return Step::Done;
        }
        // It stands for leader once it has the whole log; until then it is asked again.
        while clock::now() < deadline {
            if self.raft.trigger().transfer_leader(to).await.is_err() {
                return Step::Stopped;
            }
            let again = (clock::now() + self.settings.election.1).min(deadline);
            while let Ok(Ok(())) = timeout_at(again, metrics.changed()).await {
                if is_there(metrics.borrow_watched().current_leader) {
                    return Step::Done;
                }
            }
        }
        Step::Again
    }
}
