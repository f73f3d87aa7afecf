//! Folds what nodes say of one target into one word. It depends on what is said and not on its order.

use std::time::{Duration, Instant};

use crate::breaker::Why;

/// A node that had a call go well so short a while ago lets nobody tell it that the target is ill.
const OWN_SUCCESS_FOR: Duration = Duration::from_secs(5);
/// What a node saw is recent for this long.
const RECENT: Duration = Duration::from_secs(10);
/// What a probe that reached nobody says holds for this long; the next one comes sooner.
const DEAD_FOR: Duration = Duration::from_secs(6);

/// What one node says of a target that it reaches by the same address and with the same credential as this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stance {
    /// Its rest there, by its own evidence.
    pub(crate) rest: Option<Rest>,
    /// When it last reached nobody: by a probe, or in this node's own case by a call.
    pub(crate) dead: Option<Instant>,
    /// When a probe of its own last got an answer.
    pub(crate) answered: Option<Instant>,
    /// When a call of its own last went well.
    pub(crate) worked: Option<Instant>,
    /// When a call of its own last ended a rest.
    pub(crate) recovered: Option<Instant>,
    /// Whether it reaches nobody at all, which says more about its own network.
    pub(crate) is_cut_off: bool,
}

/// A rest by a node's own evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) why: Why,
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

/// What follows from what all say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    /// Until when this node is to leave the target alone because of others, and why.
    pub(crate) rest: Option<(Instant, Why)>,
    /// When a call last went well anywhere.
    pub(crate) worked: Option<Instant>,
    /// When a call last ended a rest at another node.
    pub(crate) recovered: Option<Instant>,
    /// Whether some say that it is ill and others that it is well.
    pub(crate) is_disputed: bool,
}

/// Soft evidence of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ill {
    since: Instant,
    until: Instant,
    is_unreachable: bool,
}

impl Stance {
    fn ill(&self, now: Instant) -> Option<Ill> {
        let rest = self.rest.filter(|rest| rest.why.is_soft() && rest.until > now);
        let of_rest =
            rest.map(|Rest { why, since, until }| Ill { since, until, is_unreachable: why == Why::Unreachable });
        let is_last = |dead: &Instant| Some(*dead) > self.answered.max(self.worked);
        let dead = self.dead.filter(|dead| now.saturating_duration_since(*dead) <= DEAD_FOR && is_last(dead));
        let of_probe = dead.map(|since| Ill { since, until: since + DEAD_FOR, is_unreachable: true });
        of_rest.or(of_probe)
    }

    fn is_well(&self, now: Instant) -> bool {
        let seen = self.worked.max(self.answered);
        seen.is_some_and(|at| now.saturating_duration_since(at) <= RECENT)
    }
}

/// What follows for this node, whose own stance is `own`, from what those say who live and said it not long ago.
pub(crate) fn fold(own: &Stance, others: &[Stance], now: Instant) -> Folded {
    let all = || std::iter::once(own).chain(others);
    let worked = all().filter_map(|stance| stance.worked).max();
    // Where nobody reaches anybody, that says nothing about any one node's network.
    let somebody_sees = all().any(|stance| !stance.is_cut_off);
    let ills: Vec<Ill> = all()
        .filter(|stance| !(stance.is_cut_off && somebody_sees))
        .filter_map(|stance| stance.ill(now))
        // One success anywhere refutes what was seen before it.
        .filter(|ill| worked.is_none_or(|worked| worked <= ill.since))
        .collect();
    let is_ill = |stance: &Stance| stance.ill(now).is_some();
    let well = all().filter(|stance| !is_ill(stance) && stance.is_well(now)).count();
    let needed = quorum(ills.len().saturating_add(well));
    let soft = soft(&ills, needed).filter(|_| !trusts_itself(own, now));
    Folded {
        rest: hard(own, others, now).or(soft),
        worked,
        recovered: others.iter().filter_map(|stance| stance.recovered).max(),
        is_disputed: all().any(is_ill) && well > 0,
    }
}

/// How many of those who have something to say must agree.
const fn quorum(voices: usize) -> usize {
    let majority = voices / 2 + 1;
    if majority < 2 { 2 } else { majority }
}

/// Whether what this node saw itself leaves no room for what others conclude.
fn trusts_itself(own: &Stance, now: Instant) -> bool {
    let is_fresh = own.worked.is_some_and(|at| now.saturating_duration_since(at) <= OWN_SUCCESS_FOR);
    is_fresh && own.ill(now).is_none()
}

/// A rest for as long as `needed` of them say so.
fn soft(ills: &[Ill], needed: usize) -> Option<(Instant, Why)> {
    let mut ends: Vec<Instant> = ills.iter().map(|ill| ill.until).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let until = *ends.get(needed.checked_sub(1)?)?;
    let unreachable = ills.iter().filter(|ill| ill.is_unreachable).count();
    // Only what a probe can end is called so.
    Some((until, if unreachable >= needed { Why::Unreachable } else { Why::Failures }))
}

/// What the provider said to another node in so many words. A refused key comes before spent quota, and what lasts longer
/// before what ends sooner.
fn hard(own: &Stance, others: &[Stance], now: Instant) -> Option<(Instant, Why)> {
    let rests = others.iter().filter_map(|stance| stance.rest);
    let hard = rests.filter(|rest| !rest.why.is_soft() && rest.until > now);
    // A key that worked here after it was refused there is good again.
    let stands =
        hard.filter(|rest| rest.why != Why::Credential || own.worked.is_none_or(|worked| worked <= rest.since));
    let strongest = stands.max_by_key(|rest| (rest.why == Why::Credential, rest.until, rest.why));
    strongest.map(|rest| (rest.until, rest.why))
}
