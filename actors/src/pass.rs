//! Permission for one call to one member of a pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troupe_proto::failure::Fault;
use troupe_proto::unit::PerMille;

use crate::breaker::actor::{Fact, News};
use crate::breaker::logic::Verdict;
use crate::breaker::view::Place;
use crate::pool::PoolCell;
use crate::pool::cell::{Ask, Member};
use crate::target::Target;

/// What went wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether no connection could be made, or no answer came in time.
    pub is_unreachable: bool,
    /// When the provider said to come back.
    pub retry_after: Option<Duration>,
    /// When it was seen.
    pub at: Instant,
}

/// What a reply's headers said about the provider's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The smallest share left, over requests and tokens.
    pub remaining: PerMille,
    /// Whether nothing is left.
    pub is_spent: bool,
    /// How long until it is full again.
    pub reset: Option<Duration>,
    /// When the headers came.
    pub at: Instant,
}

/// Permission for one call. Dropping it ends the call: one fewer in flight, and its place on probation, if it had one
/// and gave no verdict, is free again.
#[must_use = "the call counts as in flight until its pass is dropped"]
pub struct Pass {
    pool: Arc<PoolCell>,
    member: Arc<Member>,
    target: Arc<Target>,
    lane: usize,
    began: Instant,
    /// The call's place on probation, while its verdict is out.
    place: Option<Place>,
    /// Whether the target rests, and is asked because there is no other.
    is_spared: bool,
    /// The name asked for, where a first success makes it a target of its own.
    unknown: Option<Box<str>>,
    has_succeeded: bool,
    has_failed: bool,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("target", &self.target.id).field("place", &self.place).finish_non_exhaustive()
    }
}

/// Where a call goes and by which permission; what [`PoolCell::enter`] found out.
pub(crate) struct Entry {
    pub(crate) pool: Arc<PoolCell>,
    pub(crate) member: Arc<Member>,
    pub(crate) target: Arc<Target>,
    pub(crate) lane: usize,
    pub(crate) began: Instant,
    pub(crate) place: Option<Place>,
    pub(crate) is_spared: bool,
    pub(crate) unknown: Option<Box<str>>,
}

impl Pass {
    /// The call is counted as in flight already.
    pub(crate) fn new(entry: Entry) -> Self {
        let Entry { pool, member, target, lane, began, place, is_spared, unknown } = entry;
        Self { pool, member, target, lane, began, place, is_spared, unknown, has_succeeded: false, has_failed: false }
    }

    /// Where the call goes.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The member's place in the pool's layout.
    pub fn member(&self) -> usize {
        self.member.at
    }

    /// When the call began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether this is the one call that decides whether the target is back.
    pub fn is_probation(&self) -> bool {
        self.place.is_some()
    }

    /// The call is a success: its first token came after `first_token`, or its reply came whole, and nobody knows when its
    /// first token was made. Counts once a pass; sends a message only on probation.
    pub fn succeeded(&mut self, first_token: Option<Duration>) {
        if std::mem::replace(&mut self.has_succeeded, true) {
            return;
        }
        self.target.traffic.succeeded(self.lane, first_token);
        if let Some(names) = &self.member.names {
            names.traffic.succeeded(self.lane, first_token);
        }
        self.pool.mark();
        if let Some(asked) = self.unknown.take() {
            // Refused when the door is full; the next success of that name asks again.
            self.pool.asks.post(Ask { member: self.member.at, asked }).ok();
        }
        if self.is_spared {
            let now = (self.pool.now)();
            let until = now.checked_add(self.member.rules.window).unwrap_or(now);
            self.target.gate.serves(until, self.target.epoch);
        }
        if self.place.is_some() {
            let at = first_token.and_then(|took| self.began.checked_add(took)).unwrap_or_else(self.pool.now);
            self.judge(Verdict::Works, at);
        }
    }

    /// The call failed, perhaps after it had begun to answer. Counts once a pass.
    ///
    /// A failure of the target is told to its breaker at once; the client's own faults and ours only say that it answers.
    pub fn failed(&mut self, failure: Failure) {
        if std::mem::replace(&mut self.has_failed, true) {
            return;
        }
        let Failure { fault, is_unreachable, retry_after, at } = failure;
        let retry_after = retry_after.filter(|wait| !wait.is_zero());
        let is_targets = match fault {
            Fault::Client | Fault::ContextLength | Fault::Ours => false,
            Fault::Credential | Fault::Quota | Fault::Capacity | Fault::Provider => true,
        };
        // A target that asks to slow down, or refuses a key, rests for that; it is not ill.
        let is_ill = fault == Fault::Provider;
        for traffic in [Some(&self.target.traffic), self.member.names.as_ref().map(|names| &names.traffic)] {
            match (traffic, is_ill) {
                (Some(traffic), true) => traffic.failed(self.lane),
                (Some(traffic), false) => traffic.answered(self.lane),
                (None, _) => {}
            }
        }
        self.pool.mark();
        // Behind a wildcard providers limit and fail by model: a name that meets that before it ever succeeded gets a
        // target of its own for the next time, and rests none of the others.
        let is_of_name = match fault {
            Fault::Capacity => true,
            Fault::Provider => !is_unreachable,
            Fault::Credential | Fault::Quota | Fault::Client | Fault::ContextLength | Fault::Ours => false,
        };
        if let Some(asked) = self.unknown.take_if(|_| is_of_name) {
            self.pool.asks.post(Ask { member: self.member.at, asked }).ok();
            if self.place.is_none() {
                return;
            }
        }
        let tally = self.target.traffic.tally();
        let verdict = match fault {
            Fault::Client | Fault::ContextLength | Fault::Ours => Verdict::Works,
            Fault::Credential => Verdict::Refused,
            Fault::Quota => Verdict::Exhausted { retry_after },
            Fault::Capacity => Verdict::Busy { retry_after, tally },
            Fault::Provider => Verdict::Ill { is_unreachable, retry_after, tally },
        };
        if self.place.is_some() {
            self.judge(verdict, at);
        } else if is_targets {
            self.report(verdict, at);
        }
    }

    /// A reading of the provider's quota. Stored in the target; a message only when nothing is left.
    pub fn quota(&mut self, quota: Quota) {
        let Quota { remaining, is_spent, reset, at } = quota;
        let remaining = if is_spent { PerMille::ZERO } else { remaining };
        self.target.read_quota(at, remaining, reset);
        if self.member.names.is_some() {
            // The quota is the account's, whatever the name: it is the member's weight that pays.
            self.member.common.read_quota(at, remaining, reset);
        }
        if is_spent {
            self.report(Verdict::Spent { reset }, at);
        }
    }

    /// Hands the verdict of the call on probation to the breaker. If its door is full the place is free at once, and
    /// another call decides.
    fn judge(&mut self, verdict: Verdict, at: Instant) {
        let Some(mut place) = self.place.take() else { return };
        let target = &self.target;
        target.gate.hand_over(&mut place, at, target.epoch);
        let news = News::Judged { verdict, place };
        let fact = Fact { target: target.clone(), rules: self.member.rules.clone(), at, news };
        if let Err(Fact { news: News::Judged { place, .. }, .. }) = target.provider.facts.post(fact) {
            target.gate.leave(&place);
        }
    }

    /// Posts to the breaker; refused is counted at the door, and then this one failure is not counted against it.
    fn report(&self, verdict: Verdict, at: Instant) {
        let news = News::Reported(verdict);
        let fact = Fact { target: self.target.clone(), rules: self.member.rules.clone(), at, news };
        self.target.provider.facts.post(fact).ok();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.target.gate.leave(place);
        }
        self.target.traffic.end();
        if let Some(names) = &self.member.names {
            names.traffic.end();
        }
    }
}
