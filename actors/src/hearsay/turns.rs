//! Whose turn it is to probe. Pure.
//!
//! Every node works it out by itself: who lives is ranked anew for each turn by a hash of node, account and turn (rendezvous),
//! and a turn is over when its finding was told. So nobody is asked, no clock is compared, and when the one whose turn it is
//! does nothing, the next does it a while later.

use std::time::Duration;

use troupe_proto::id::NodeId;

use super::heard::AccountId;

/// How long the next in rank waits for a finding: a probe's patience, the spread of probes, and the way of the word.
pub(crate) const WAIT: Duration = Duration::from_secs(3);

/// Somebody who could probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    /// Whether it reaches nobody at all.
    pub(crate) is_cut_off: bool,
}

/// How many come before `me` in this turn.
pub(crate) fn rank(me: Candidate, others: &[Candidate], account: &AccountId, turn: u64) -> u32 {
    let key = |candidate: &Candidate| (candidate.is_cut_off, score(candidate.node, account, turn), candidate.node);
    let mine = key(&me);
    let before = others.iter().filter(|other| other.node != me.node && key(other) < mine).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// How long `rank` nodes before this one are given.
pub(crate) fn delay(rank: u32) -> Duration {
    WAIT.saturating_mul(rank.min(RANKS_MAX))
}

/// In a large cluster the last need not wait for all before it, one after the other: that many do not fall at once.
const RANKS_MAX: u32 = 5;

/// The same on every node and in every build.
fn score(node: NodeId, account: &AccountId, turn: u64) -> u64 {
    let credential = account.credential.as_ref().map_or("", |credential| credential.as_str());
    let text = account.provider.as_str().bytes().chain([0]).chain(credential.bytes());
    // FNV-1a, then mixed until neighbours in node and turn have nothing in common.
    let hash =
        text.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mixed(mixed(hash ^ mixed(node.0)).wrapping_add(turn))
}

/// The end of splitmix64.
const fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
