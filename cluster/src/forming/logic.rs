//! What a node that belongs to no cluster does next, given whom it met. Pure.

use std::collections::{BTreeMap, BTreeSet};

use troupe_proto::id::{ClusterId, NodeId};

use crate::transport::Rejected;

/// A node that belongs to no cluster yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id.
    pub node: NodeId,
    /// Where others reach it.
    pub peer: String,
    /// How many nodes form a new cluster with it; `None`: it joins one that exists, or is alone.
    pub expect: Option<u32>,
    /// Whether it was told of others.
    pub has_others: bool,
    /// Whether it has no certificate, and must be given one: without it nobody talks to it, member or not.
    pub lacks_certificate: bool,
}

/// What another node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// Its id.
    pub node: NodeId,
    /// Where others reach it.
    pub peer: String,
    /// Its cluster, if it has one.
    pub cluster: Option<ClusterId>,
    /// How many nodes it expects to form one with.
    pub expect: Option<u32>,
    /// Who takes part in its cluster, as far as it knows.
    pub members: BTreeSet<NodeId>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Form a cluster of these voters: this node is the one to do it.
    Form(BTreeMap<NodeId, String>),
    /// It is a member of this cluster: say so from now on.
    Adopt(ClusterId),
    /// Ask for a place in this cluster, at the first of these addresses that can give one.
    Enter(ClusterId, Vec<String>),
    /// Ask again later.
    Wait(Waiting),
}

/// Why to ask again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// There are too few yet.
    #[error("{met} of {expect} nodes have met")]
    ForOthers {
        /// How many have met, with this one.
        met: usize,
        /// How many form the cluster.
        expect: u32,
    },
    /// Another one of those who met forms it.
    #[error("node {0} forms the cluster")]
    ForNode(NodeId),
    /// None of the nodes it was told of belongs to a cluster, and it may not form one.
    #[error("no node of `join` belongs to a cluster yet: give bootstrap_expect to those that form it")]
    ForCluster,
    /// Those who met were told different things.
    #[error("node {node} at {peer} expects {theirs:?} nodes, this one expects {ours}: make bootstrap_expect the same")]
    Disagreement {
        /// Who was told otherwise.
        node: NodeId,
        /// Where it is.
        peer: String,
        /// What it was told.
        theirs: Option<u32>,
        /// What this one was told.
        ours: u32,
    },
    /// There are more than were expected.
    #[error("{met} nodes have met where {expect} are expected: take some out of `join`")]
    TooMany {
        /// How many have met, with this one.
        met: usize,
        /// How many form the cluster.
        expect: u32,
    },
    /// Somebody of `join` wants no connection with it, and so it cannot be asked whose it is.
    #[error("{at} and this node refuse each other: {why}{}", what_to_do(*why))]
    Refused {
        /// Where that is.
        at: String,
        /// What one of the two said.
        why: Rejected,
    },
    /// Those who met belong to different clusters.
    #[error("the nodes of `join` belong to different clusters, {0} and {1}: name nodes of one only")]
    TwoClusters(ClusterId, ClusterId),
}

/// What an operator does about a refusal, as the end of a sentence.
const fn what_to_do(why: Rejected) -> &'static str {
    match why {
        Rejected::ForeignSealKey => "; give both the same cluster.seal_key",
        Rejected::CertificateExpired => {
            "; look at the dates of both certificates (`troupe cert show`) and at the clocks of both machines"
        }
        Rejected::CertificateUntrusted => {
            "; both need certificates of one authority, and a join token is good in the cluster that made it only"
        }
        Rejected::CertificateForeign => "; give this node a certificate of its own (`troupe cert issue`)",
        Rejected::NoCertificate => "; give this node a certificate (`troupe cert issue`) or a join token",
        Rejected::Tls => "; does one of them speak without TLS (cluster.plain)?",
        Rejected::ForeignCluster
        | Rejected::WrongNode
        | Rejected::OwnId
        | Rejected::Version
        | Rejected::Superseded
        | Rejected::Malformed
        | Rejected::TooLarge
        | Rejected::Slow
        | Rejected::Busy => "",
    }
}

/// Decides. `refused` are those of `join` that could not be asked because one of the two sides wants no connection: as
/// long as somebody else can be asked they do not matter, and else they are what there is to say.
pub(super) fn decide(me: &Newcomer, met: &[Met], refused: &[(String, Rejected)]) -> Step {
    match (meet(me, met), refused) {
        (Step::Wait(Waiting::ForCluster | Waiting::ForOthers { .. }), [(at, why), ..]) => {
            Step::Wait(Waiting::Refused { at: at.clone(), why: *why })
        }
        (step, _) => step,
    }
}

fn meet(me: &Newcomer, met: &[Met]) -> Step {
    let clusters: BTreeSet<ClusterId> = met.iter().filter_map(|met| met.cluster).collect();
    let mut clusters = clusters.into_iter();
    match (clusters.next(), clusters.next()) {
        (Some(first), Some(second)) => return Step::Wait(Waiting::TwoClusters(first, second)),
        (Some(cluster), None) => return take_part(me, met, cluster),
        (None, _) => {}
    }
    let Some(expect) = me.expect else {
        return if me.has_others { Step::Wait(Waiting::ForCluster) } else { Step::Form(alone(me)) };
    };
    if expect == 1 {
        return Step::Form(alone(me));
    }
    if let Some(other) = met.iter().find(|met| met.expect != Some(expect)) {
        let (node, peer, theirs) = (other.node, other.peer.clone(), other.expect);
        return Step::Wait(Waiting::Disagreement { node, peer, theirs, ours: expect });
    }
    let mut voters = alone(me);
    voters.extend(met.iter().map(|met| (met.node, met.peer.clone())));
    let wanted = usize::try_from(expect).unwrap_or(usize::MAX);
    match voters.len().cmp(&wanted) {
        std::cmp::Ordering::Less => Step::Wait(Waiting::ForOthers { met: voters.len(), expect }),
        std::cmp::Ordering::Greater => Step::Wait(Waiting::TooMany { met: voters.len(), expect }),
        // All of them draw the same one, so nobody forms it twice.
        std::cmp::Ordering::Equal => match voters.keys().next() {
            Some(first) if *first != me.node => Step::Wait(Waiting::ForNode(*first)),
            _ => Step::Form(voters),
        },
    }
}

fn alone(me: &Newcomer) -> BTreeMap<NodeId, String> {
    BTreeMap::from([(me.node, me.peer.clone())])
}

fn take_part(me: &Newcomer, met: &[Met], cluster: ClusterId) -> Step {
    let inside = met.iter().filter(|met| met.cluster == Some(cluster));
    // One that died between being let in and writing it down is a member already.
    if !me.lacks_certificate && inside.clone().any(|met| met.members.contains(&me.node)) {
        return Step::Adopt(cluster);
    }
    Step::Enter(cluster, inside.map(|met| met.peer.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(node: u64, expect: Option<u32>) -> Newcomer {
        Newcomer {
            node: NodeId(node),
            peer: format!("gw-{node}:1"),
            expect,
            has_others: true,
            lacks_certificate: false,
        }
    }

    fn met(node: u64, expect: Option<u32>) -> Met {
        let members = BTreeSet::new();
        Met { node: NodeId(node), peer: format!("gw-{node}:1"), cluster: None, expect, members }
    }

    fn inside(node: u64, cluster: u128, members: &[u64]) -> Met {
        let members = members.iter().map(|id| NodeId(*id)).collect();
        Met { cluster: Some(ClusterId(cluster)), members, ..met(node, Some(3)) }
    }

    #[test]
    fn of_those_expected_one_forms_the_cluster_and_the_others_wait_for_it() {
        let steps = [1, 2, 3].map(|id| {
            let others: Vec<Met> = [1, 2, 3].iter().filter(|o| **o != id).map(|o| met(*o, Some(3))).collect();
            decide(&me(id, Some(3)), &others, &[])
        });

        let voters = [1, 2, 3].map(|id| (NodeId(id), format!("gw-{id}:1"))).into();
        assert_eq!(steps[0], Step::Form(voters));
        assert_eq!(steps[1], Step::Wait(Waiting::ForNode(NodeId(1))));
        assert_eq!(steps[2], steps[1]);
    }

    #[test]
    fn nothing_is_formed_by_too_few_too_many_or_by_nodes_that_were_told_different_numbers() {
        let decide = |met: &[Met]| decide(&me(1, Some(3)), met, &[]);

        assert_eq!(decide(&[met(2, Some(3))]), Step::Wait(Waiting::ForOthers { met: 2, expect: 3 }));
        let four: Vec<Met> = [2, 3, 4].map(|id| met(id, Some(3))).into();
        assert_eq!(decide(&four), Step::Wait(Waiting::TooMany { met: 4, expect: 3 }));
        let other = decide(&[met(2, Some(3)), met(3, Some(5))]);
        assert!(matches!(other, Step::Wait(Waiting::Disagreement { theirs: Some(5), .. })), "{other:?}");
    }

    #[test]
    fn a_node_that_is_alone_forms_a_cluster_of_one_and_one_that_was_told_of_others_does_not() {
        let single = Newcomer { has_others: false, ..me(1, None) };

        assert_eq!(decide(&single, &[], &[]), Step::Form([(NodeId(1), "gw-1:1".to_owned())].into()));
        assert_eq!(decide(&me(1, None), &[met(2, Some(3))], &[]), Step::Wait(Waiting::ForCluster));
        assert_eq!(decide(&me(1, Some(1)), &[], &[]), Step::Form([(NodeId(1), "gw-1:1".to_owned())].into()));
    }

    #[test]
    fn a_cluster_that_exists_is_entered_or_adopted_never_formed_again() {
        let decide = |met: &[Met]| decide(&me(1, Some(3)), met, &[]);

        assert_eq!(
            decide(&[met(2, Some(3)), inside(3, 7, &[2, 3, 4])]),
            Step::Enter(ClusterId(7), vec!["gw-3:1".to_owned()])
        );
        assert_eq!(decide(&[met(2, Some(3)), inside(3, 7, &[1, 2, 3])]), Step::Adopt(ClusterId(7)));
        let two = decide(&[inside(2, 8, &[2]), inside(3, 7, &[3])]);
        assert_eq!(two, Step::Wait(Waiting::TwoClusters(ClusterId(7), ClusterId(8))));
    }

    #[test]
    fn a_newcomer_that_is_refused_says_by_whom_and_why_and_not_that_a_cluster_should_be_formed() {
        let why = Rejected::CertificateUntrusted;
        let refused = [("gw-2:1".to_owned(), why), ("gw-3:1".to_owned(), Rejected::Busy)];
        let told = Step::Wait(Waiting::Refused { at: "gw-2:1".to_owned(), why });

        assert_eq!(decide(&me(1, None), &[], &refused), told);
        assert_eq!(decide(&me(1, Some(3)), &[met(3, Some(3))], &refused), told);
        // Who can be asked counts for more.
        let door = decide(&me(1, None), &[inside(3, 7, &[3])], &refused);
        assert_eq!(door, Step::Enter(ClusterId(7), vec!["gw-3:1".to_owned()]));
        let text = Waiting::Refused { at: "gw-2:1".to_owned(), why }.to_string();
        assert!(text.starts_with("gw-2:1 and this node refuse each other: the certificate is not"), "{text}");
        assert!(!text.contains("bootstrap_expect"), "{text}");
    }

    #[test]
    fn a_member_without_a_certificate_asks_for_it_again_at_any_door() {
        let me = Newcomer { lacks_certificate: true, ..me(1, None) };

        let step = super::decide(&me, &[inside(2, 7, &[1, 2, 3]), inside(3, 7, &[1, 2, 3])], &[]);

        assert_eq!(step, Step::Enter(ClusterId(7), vec!["gw-2:1".to_owned(), "gw-3:1".to_owned()]));
    }
}
