//! Decides how who takes part may change.
//!
//! | rule | why |
//! |---|---|
//! | one, three or five voters | an even number tolerates no more failures than one less, and has more of them |
//! | nobody votes that was not a learner first | a voter without the log counts for the quorum and cannot help it |
//! | a voter leaves by losing its vote first, or by being replaced | so that no step has an even number |

use std::collections::{BTreeMap, BTreeSet};

use troupe_proto::id::NodeId;

use crate::consensus::Reshape;
use crate::raft::plain::Members;

/// How many entries a learner may lack when it gets its vote.
pub const LAG_MAX: u64 = 1_000;

/// What is to be done next for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: things are as wanted.
    Done,
    /// Nothing yet; why.
    Wait(String),
    /// Set a node's address; a node that is new becomes a learner.
    Set(NodeId, String),
    /// Let exactly these vote. Whoever loses its vote stays as a learner, or not.
    Voters {
        /// Who votes then.
        voters: BTreeSet<NodeId>,
        /// Whether those that lose their vote stay.
        stay: bool,
    },
    /// Take out a node that has no vote.
    Drop(NodeId),
    /// Ask a voter to lead.
    Lead(NodeId),
}

/// What is to be done next for `change`, in a cluster of `members` in which others lack as many entries as `behind`
/// says.
///
/// # Errors
/// Which rule the change would break, in words for an operator.
pub fn plan(members: &Members, behind: &BTreeMap<NodeId, u64>, change: &Reshape) -> Result<Plan, String> {
    let voters = match members.voters.as_slice() {
        [voters] => voters,
        [.., voters] => {
            // A change that its leader did not live to finish: it is finished first.
            return Ok(Plan::Voters { voters: voters.clone(), stay: true });
        }
        [] => return Err("the cluster is not formed yet".to_owned()),
    };
    let is_member = |node: &NodeId| members.nodes.contains_key(node);
    match change {
        Reshape::AddLearner { node, peer } => match members.nodes.get(node) {
            Some(known) if known == peer => Ok(Plan::Done),
            Some(_) | None => Ok(Plan::Set(*node, peer.clone())),
        },
        Reshape::Promote(nodes) => {
            let next: BTreeSet<_> = voters.iter().chain(nodes).copied().collect();
            if next == *voters {
                return Ok(Plan::Done);
            }
            if let Some(stranger) = nodes.iter().find(|node| !is_member(node)) {
                return Err(format!("node {stranger} is no member"));
            }
            check_size(next.len())?;
            Ok(wait_for(nodes, voters, behind).unwrap_or(Plan::Voters { voters: next, stay: true }))
        }
        Reshape::Demote(nodes) => {
            let next: BTreeSet<_> = voters.iter().filter(|node| !nodes.contains(node)).copied().collect();
            if next == *voters {
                return Ok(Plan::Done);
            }
            check_size(next.len())?;
            Ok(Plan::Voters { voters: next, stay: true })
        }
        Reshape::Remove(node) if !is_member(node) => Ok(Plan::Done),
        Reshape::Remove(node) if !voters.contains(node) => Ok(Plan::Drop(*node)),
        Reshape::Remove(node) => {
            let next: BTreeSet<_> = voters.iter().filter(|voter| *voter != node).copied().collect();
            check_size(next.len()).map_err(|why| format!("{why}; demote or replace node {node} first"))?;
            Ok(Plan::Voters { voters: next, stay: false })
        }
        Reshape::Replace { old, new } => {
            let is_out = !is_member(old);
            match (voters.contains(old), voters.contains(new)) {
                (false, true) if is_out => Ok(Plan::Done),
                // The leader died between the two halves of this change, and whoever finished it let the node stay.
                (false, true) => Ok(Plan::Drop(*old)),
                (true, false) if is_member(new) => {
                    let mut next = voters.clone();
                    next.remove(old);
                    next.insert(*new);
                    Ok(wait_for(&[*new], voters, behind).unwrap_or(Plan::Voters { voters: next, stay: false }))
                }
                (true, false) => Err(format!("node {new} is no member")),
                (true, true) => Err(format!("node {new} has a vote already")),
                (false, false) => Err(format!("node {old} has no vote to give")),
            }
        }
        Reshape::TransferLeader(node) if voters.contains(node) => Ok(Plan::Lead(*node)),
        Reshape::TransferLeader(node) => Err(format!("node {node} has no vote, so it cannot lead")),
    }
}

/// Whether so many may vote.
///
/// # Errors
/// Why not, in words for an operator.
pub fn check_size(voters: usize) -> Result<(), String> {
    match voters {
        1 | 3 | 5 => Ok(()),
        other => Err(format!("there are one, three or five voters, never {other}")),
    }
}

/// Why nodes that are to vote are not there yet.
fn wait_for(nodes: &[NodeId], voters: &BTreeSet<NodeId>, behind: &BTreeMap<NodeId, u64>) -> Option<Plan> {
    nodes.iter().filter(|node| !voters.contains(node)).find_map(|node| match behind.get(node) {
        Some(entries) if *entries <= LAG_MAX => None,
        Some(entries) => Some(Plan::Wait(format!("node {node} still lacks {entries} entries"))),
        None => Some(Plan::Wait(format!("node {node} was not heard of yet"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(NodeId).collect()
    }

    /// Voters 1 to 3, learners 4 to 6, of which 6 is far behind.
    fn planned(change: &Reshape) -> Result<Plan, String> {
        let members = Members {
            voters: vec![ids(1..=3)],
            nodes: (1..=6).map(|id| (NodeId(id), format!("node-{id}:1"))).collect(),
        };
        let behind = [(NodeId(4), 0), (NodeId(5), LAG_MAX), (NodeId(6), LAG_MAX + 1)].into();
        plan(&members, &behind, change)
    }

    fn voters(numbers: impl IntoIterator<Item = u64>, stay: bool) -> Result<Plan, String> {
        Ok(Plan::Voters { voters: ids(numbers), stay })
    }

    #[test]
    fn learners_are_promoted_in_pairs_once_they_have_the_log() {
        assert_eq!(planned(&Reshape::Promote(vec![NodeId(4), NodeId(5)])), voters(1..=5, true));
        assert!(planned(&Reshape::Promote(vec![NodeId(4)])).unwrap_err().contains("never 4"));
        assert!(matches!(planned(&Reshape::Promote(vec![NodeId(4), NodeId(6)])), Ok(Plan::Wait(_))));
        assert_eq!(
            planned(&Reshape::Promote(vec![NodeId(4), NodeId(9)])).unwrap_err(),
            format!("node {} is no member", NodeId(9))
        );
        assert_eq!(planned(&Reshape::Promote(vec![NodeId(1)])), Ok(Plan::Done));
    }

    #[test]
    fn voters_go_in_pairs_too_and_only_learners_are_taken_out() {
        assert_eq!(planned(&Reshape::Demote(vec![NodeId(2), NodeId(3)])), voters([1], true));
        assert!(planned(&Reshape::Demote(vec![NodeId(2)])).unwrap_err().contains("never 2"));
        assert!(planned(&Reshape::Remove(NodeId(2))).unwrap_err().contains("replace"));
        assert_eq!(planned(&Reshape::Remove(NodeId(4))), Ok(Plan::Drop(NodeId(4))));
        assert_eq!(planned(&Reshape::Remove(NodeId(9))), Ok(Plan::Done));
    }

    #[test]
    fn a_vote_goes_from_one_node_to_another_in_one_step() {
        let replace = |old, new| planned(&Reshape::Replace { old: NodeId(old), new: NodeId(new) });

        assert_eq!(replace(3, 4), voters([1, 2, 4], false));
        assert!(matches!(replace(3, 6), Ok(Plan::Wait(_))));
        assert_eq!(replace(9, 3), Ok(Plan::Done));
        assert_eq!(replace(4, 3), Ok(Plan::Drop(NodeId(4))), "what is left of one that was finished by another leader");
        assert!(replace(1, 2).is_err());
        assert!(replace(4, 5).is_err());
        assert!(replace(1, 9).is_err());
    }

    #[test]
    fn a_node_is_added_once_and_may_move() {
        let add = |node, peer: &str| planned(&Reshape::AddLearner { node: NodeId(node), peer: peer.to_owned() });

        assert_eq!(add(9, "node-9:1"), Ok(Plan::Set(NodeId(9), "node-9:1".to_owned())));
        assert_eq!(add(4, "node-4:1"), Ok(Plan::Done));
        assert_eq!(add(1, "moved:1"), Ok(Plan::Set(NodeId(1), "moved:1".to_owned())));
    }

    #[test]
    fn only_voters_are_asked_to_lead() {
        assert_eq!(planned(&Reshape::TransferLeader(NodeId(2))), Ok(Plan::Lead(NodeId(2))));
        assert!(planned(&Reshape::TransferLeader(NodeId(4))).is_err());
    }

    #[test]
    fn a_change_that_was_left_unfinished_is_finished_first() {
        let members = Members { voters: vec![ids(1..=3), ids([1, 2, 4])], nodes: BTreeMap::new() };

        let plan = plan(&members, &BTreeMap::new(), &Reshape::Remove(NodeId(9)));

        assert_eq!(plan, voters([1, 2, 4], true));
    }
}
