//! What requests touch of a pool. It outlives the pool's actor.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use troupe_proto::id::ModelId;

use super::view::{AGE_MAX, View};
use crate::breaker::Standing;
use crate::budget::{Budget, Calls};
use crate::inbox::Inbox;
use crate::layout::{PoolLayout, TargetRules};
use crate::pass::{Entry, Pass};
use crate::target::Target;
use crate::traffic::{Epoch, Traffic};
use crate::view::Published;

/// A name that a wildcard member served for the first time.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) member: usize,
    pub(crate) asked: Box<str>,
}

/// One way to serve the pool's calls.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) at: usize,
    pub(crate) weight: u64,
    pub(crate) rules: Arc<TargetRules>,
    /// Its target; of a wildcard member, the one of all names that have not succeeded yet.
    pub(crate) common: Arc<Target>,
    /// Of a wildcard member: the names that have.
    pub(crate) names: Option<Arc<Names>>,
}

/// The names of a wildcard member.
#[derive(Debug)]
pub(crate) struct Names {
    /// Calls of all its names.
    pub(crate) traffic: Traffic,
    /// A target of its own for each name that succeeded once: clients can name without bound, so the map has one.
    pub(crate) own: ArcSwap<HashMap<Box<str>, Arc<Target>>>,
}

impl Member {
    /// The calls that say how the member does, and that its limit counts.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.names.as_ref().map_or(&self.common.traffic, |names| &names.traffic)
    }
}

/// The targets of a model, as requests see them.
pub struct PoolCell {
    /// The model that clients ask for.
    pub id: ModelId,
    /// What may be tried again.
    pub retries: Budget,
    /// What may be hedged, if anything.
    pub hedges: Option<Budget>,
    pub(crate) layout: PoolLayout,
    /// No two cells have the same.
    pub(crate) serial: u64,
    pub(crate) members: Box<[Arc<Member>]>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) view: Published<View>,
    pub(crate) neutral: Arc<View>,
    /// In front of `pool:<model>`.
    pub(crate) asks: Inbox<Ask>,
    /// Whether anything was counted since the pool's actor was last told.
    pub(crate) is_dirty: AtomicBool,
    pub(crate) epoch: Epoch,
    pub(crate) now: fn() -> Instant,
}

impl std::fmt::Debug for PoolCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolCell").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PoolCell {
    /// The view in force; the pool as configured where nobody has published for 15 s. Take it once per request.
    pub fn view(&self) -> Arc<View> {
        match self.view.age((self.now)()) > AGE_MAX {
            true => self.neutral.clone(),
            false => self.view.read(),
        }
    }

    /// How long ago its view was published.
    pub fn view_age(&self, now: Instant) -> std::time::Duration {
        self.view.age(now)
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Where a call of the name `asked` goes at a member: of a wildcard member, the target of that name once it
    /// succeeded, and a common one before. `None` where there is no such member.
    pub fn target(&self, member: usize, asked: &str) -> Option<Arc<Target>> {
        let member = self.members.get(member)?;
        let own = member.names.as_ref().and_then(|names| names.own.load().get(asked).cloned());
        Some(own.unwrap_or_else(|| member.common.clone()))
    }

    /// Whether a target of a member takes a call now.
    pub fn standing(&self, member: usize, target: &Target, now: Instant) -> Standing {
        let ignores_rests = self.ignores_rests_of(member, target, &target.id.model, now);
        let Some(member) = self.members.get(member) else { return Standing::Full { limit: 0 } };
        let standing = target.gate.standing(now, ignores_rests, self.epoch);
        let traffic = member.names.as_ref().map_or(&target.traffic, |names| &names.traffic);
        let limit =
            member.rules.concurrency.and_then(|_| traffic.limit()).filter(|limit| traffic.in_flight() >= *limit);
        match (standing, limit) {
            (Standing::Ready, Some(limit)) => Standing::Full { limit },
            // A single call on probation is no load.
            (Standing::Ready | Standing::Probation | Standing::Probed, _) => standing,
            (Standing::Resting { .. } | Standing::Full { .. }, _) => standing,
        }
    }

    /// Whether rests for failures of this target are ignored, because its pool panics or has no other to ask.
    ///
    /// A stall of this node looks like the death of everybody, and the last one that serves is asked all the same: while
    /// calls go well now and then, that is better than to refuse them all.
    fn ignores_rests_of(&self, member: usize, target: &Target, asked: &str, now: Instant) -> bool {
        target.gate.is_resting()
            && (self.is_panicking(now)
                || (target.gate.is_serving(now, self.epoch) && self.has_only(member, asked, now)))
    }

    /// Whether calls of a name have nowhere else to go than to this member now: no other takes calls, and there are no
    /// fallbacks. One on probation may be dead still.
    fn has_only(&self, member: usize, asked: &str, now: Instant) -> bool {
        let mut others = (0..self.members.len()).filter(|other| *other != member);
        let takes_calls = |other| {
            let other = self.target(other, asked);
            other.is_some_and(|other| match other.gate.standing(now, false, self.epoch) {
                Standing::Ready | Standing::Full { .. } => true,
                Standing::Probation | Standing::Probed | Standing::Resting { .. } => false,
            })
        };
        !self.layout.has_fallbacks && !others.any(takes_calls)
    }

    /// Whether a member rests for failures and is asked all the same.
    pub fn is_spared(&self, member: usize, target: &Target, now: Instant) -> bool {
        match target.gate.standing(now, false, self.epoch) {
            Standing::Ready | Standing::Full { .. } => false,
            Standing::Probation | Standing::Probed | Standing::Resting { .. } => {
                self.standing(member, target, now) == Standing::Ready
            }
        }
    }

    /// Begins a call at a target of a member, on the data thread `lane`. `asked` is the name the client used.
    ///
    /// # Errors
    /// How the target stands, when it takes no call now; nothing is counted then.
    pub fn enter(
        self: &Arc<Self>,
        member: usize,
        target: &Arc<Target>,
        asked: &str,
        lane: usize,
        now: Instant,
    ) -> Result<Pass, Standing> {
        let ignores_rests = self.ignores_rests_of(member, target, asked, now);
        let member = self.members.get(member).ok_or(Standing::Full { limit: 0 })?;
        let gate = &target.gate;
        let place = match gate.standing(now, ignores_rests, self.epoch) {
            Standing::Ready => None,
            Standing::Probation => match gate.take_place(now, self.epoch) {
                // The breaker may have decided since it was looked at: what holds is what it says now that the place is
                // ours, and nobody else can get it to decide again.
                Some(place) => match gate.standing_in_place(now, ignores_rests, self.epoch) {
                    Standing::Probation => Some(place),
                    Standing::Ready => {
                        gate.leave(&place);
                        None
                    }
                    other @ (Standing::Probed | Standing::Resting { .. } | Standing::Full { .. }) => {
                        gate.leave(&place);
                        return Err(other);
                    }
                },
                None => match gate.standing(now, ignores_rests, self.epoch) {
                    Standing::Ready => None,
                    Standing::Probation | Standing::Probed => return Err(Standing::Probed),
                    other @ (Standing::Resting { .. } | Standing::Full { .. }) => return Err(other),
                },
            },
            other @ (Standing::Probed | Standing::Resting { .. } | Standing::Full { .. }) => return Err(other),
        };
        let is_limited = member.rules.concurrency.is_some() && place.is_none();
        self.begin(member, target, is_limited).inspect_err(|_| {
            if let Some(place) = &place {
                gate.leave(place);
            }
        })?;
        self.mark();
        let unknown = match &member.names {
            Some(_) => {
                target.touch(now);
                Arc::ptr_eq(target, &member.common).then(|| asked.into())
            }
            None => None,
        };
        let is_spared = ignores_rests && place.is_none();
        let (pool, member, target) = (self.clone(), member.clone(), target.clone());
        Ok(Pass::new(Entry { pool, member, target, lane, began: now, place, is_spared, unknown }))
    }

    /// Counts the call as in flight, at its target and at a wildcard member.
    fn begin(&self, member: &Member, target: &Target, is_limited: bool) -> Result<(), Standing> {
        let full = |limit| Standing::Full { limit };
        match &member.names {
            None => target.traffic.begin(is_limited).map_err(full),
            Some(names) => {
                names.traffic.begin(is_limited).map_err(full)?;
                target.traffic.begin(false).map_err(full)
            }
        }
    }

    /// Counts one client's call of this pool on the data thread `lane`: the budgets are shares of these.
    pub fn called(&self, lane: usize) {
        self.calls.add(lane);
        self.mark();
    }

    /// Says that there is something to read. The flag is mostly up already, and reading it costs no cache line.
    pub(crate) fn mark(&self) {
        if !self.is_dirty.load(Relaxed) {
            self.is_dirty.store(true, Relaxed);
        }
    }

    fn is_panicking(&self, now: Instant) -> bool {
        self.view.is(now, AGE_MAX, |view| view.is_panicking)
    }
}
