//! Where a call goes next: the first choice at once, every other only when it is needed.
//!
//! ```text
//! asked model:  priority 0 -> priority 1 -> ...        within a priority: two drawn by weight, the better one is taken
//! then its fallbacks, in order                         then, if waiting helps, one that was tried already
//! ```
//! After a failure the next key of the same target goes first where the key was at fault, and another provider where the
//! provider was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troupe_actors::{Pass, Standing, Why};
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::TargetId;

use super::controls::{Controls, Pin};
use super::pick::{Field, pick};
use super::refusal::Refusal;
use crate::catalogue;
use crate::view::{Key, Member, Pool, View};

/// The targets of a call, in the order they are tried.
pub(super) struct Plan {
    view: Arc<View>,
    key: Arc<Key>,
    /// The models that may serve: the asked one, then its fallbacks.
    stages: Vec<Stage>,
    pin: Option<Pin>,
    /// What calls with the same beginning have in common, where that counts.
    prefix: Option<u64>,
    tried: Vec<Tried>,
}

struct Stage {
    /// The name it is asked for by.
    asked: Box<str>,
    pool: Arc<Pool>,
}

/// A member that was called, or cannot be.
struct Tried {
    stage: usize,
    member: usize,
    /// How often it was called; 0 for one that cannot carry the call.
    times: u32,
    /// Whether it may be called again, and not before when.
    again: Option<Instant>,
}

/// A target that is to be called now.
pub(super) struct Chosen {
    pub(super) pool: Arc<Pool>,
    /// The model's name there.
    pub(super) model: Arc<str>,
    pub(super) pass: Pass,
    pub(super) at: At,
}

/// Which of a plan's members is meant: its stage, and its place in that pool.
pub(super) type At = (usize, usize);

impl Chosen {
    /// Whom to call, and how.
    pub(super) fn member(&self) -> &Member {
        self.pool.members.get(self.at.1).expect("a plan chooses members of its pool")
    }

    /// What the target's answer took of late; zero where nobody knows.
    pub(super) fn latency(&self) -> Duration {
        let view = self.pool.cell.view();
        Duration::from_micros(view.members.get(self.at.1).map_or(0, |seen| seen.latency_us).into())
    }

    /// What it is called in logs and headers.
    pub(super) fn target(&self) -> TargetId {
        self.member().target(&self.model)
    }
}

/// What a plan has to offer.
pub(super) enum Choice {
    /// Call this.
    Go(Box<Chosen>),
    /// Nothing is ready; something may be by then.
    Wait(Instant),
    /// Nothing will be.
    Nothing,
}

/// What a call learned from its last attempt.
pub(super) struct Failed {
    pub(super) fault: Fault,
    at: At,
}

/// What a moment of a call looks like to its plan.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) failed: Option<&'a Failed>,
    pub(super) now: Instant,
    pub(super) lane: usize,
    pub(super) dice: fn() -> u64,
}

impl Plan {
    /// Plans a call of the model a client asked for by the name `asked`.
    ///
    /// # Errors
    /// `no_target` when no provider key is good for the model, or those that are belong to providers that are switched off; `invalid_field` when a pinned target is none of its.
    pub(super) fn new(
        view: Arc<View>,
        key: Arc<Key>,
        pool: Arc<Pool>,
        asked: &str,
        controls: Controls,
        prefix: Option<u64>,
    ) -> Result<Self, Refusal> {
        let prefix = prefix.filter(|_| pool.is_sticky);
        let stages = vec![Stage { asked: asked.into(), pool }];
        let mut plan = Self { view, key, stages, pin: controls.pin, prefix, tried: Vec::new() };
        if controls.falls_back {
            plan.add_fallbacks();
        }
        if plan.stages.iter().any(|stage| stage.pool.members.iter().any(|member| plan.may_serve(stage, member))) {
            return Ok(plan);
        }
        let is_off = |stage: &Stage| stage.pool.off.iter().any(|member| plan.may_serve(stage, member));
        if plan.stages.iter().any(is_off) {
            return Err(Refusal::new(ErrorCode::NoTarget, switched_off(asked)));
        }
        Err(match &plan.pin {
            Some(pin) => Refusal::new(ErrorCode::InvalidField, format!("the model {asked:?} has no target {pin}"))
                .with_param(Some(super::controls::TARGET.to_owned())),
            None => Refusal::new(ErrorCode::NoTarget, format!("no provider key is good for the model {asked:?}")),
        })
    }

    /// Fallbacks, then theirs. A key's models bind here too: a fallback is no way around them.
    fn add_fallbacks(&mut self) {
        let mut at = 0;
        while let Some(stage) = self.stages.get(at) {
            let pool = stage.pool.clone();
            for name in &pool.fallbacks {
                let is_new = self.stages.iter().all(|stage| &*stage.asked != name.as_str());
                if is_new
                    && self.key.may_use(name.as_str())
                    && let Some(pool) = self.view.pool(name.as_str())
                {
                    self.stages.push(Stage { asked: name.as_str().into(), pool: pool.clone() });
                }
            }
            at += 1;
        }
    }

    /// The pool of the asked model.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.stages.first().expect("a plan begins with the asked model").pool
    }

    fn may_serve(&self, stage: &Stage, member: &Member) -> bool {
        member.takes(&stage.asked) && self.pin.as_ref().is_none_or(|pin| pin.means(member, &stage.asked))
    }

    /// The next target that was not tried yet, or one that may be tried again.
    pub(super) fn choose(&mut self, moment: Moment<'_>) -> Choice {
        match self.choose_new(moment) {
            Some(chosen) => Choice::Go(Box::new(chosen)),
            None => self.choose_again(moment),
        }
    }

    /// The next target that was not tried yet.
    pub(super) fn choose_new(&mut self, moment: Moment<'_>) -> Option<Chosen> {
        let chosen = (0..self.stages.len()).find_map(|stage| self.choose_in(stage, moment))?;
        self.note(chosen.at, 1, None);
        Some(chosen)
    }

    /// A target of one stage that was not tried.
    fn choose_in(&self, at: usize, moment: Moment<'_>) -> Option<Chosen> {
        let stage = self.stages.get(at)?;
        let cell = &stage.pool.cell;
        let view = cell.view();
        let mut passed_over = Vec::new();
        loop {
            let open = |member: usize| {
                !passed_over.contains(&member)
                    && !self.tried.iter().any(|tried| (tried.stage, tried.member) == (at, member))
                    && stage.pool.members.get(member).is_some_and(|member| self.may_serve(stage, member))
            };
            let rank = |member: usize| self.rank((at, member), moment);
            let in_flight = |member: usize| cell.target(member, &stage.asked).map_or(0, |target| target.in_flight());
            let field = Field { members: &stage.pool.members, view: &view, open: &open, rank: &rank };
            let member = pick(&field, in_flight, self.prefix, moment.dice)?;
            match self.enter(at, member, moment) {
                Some(chosen) => return Some(chosen),
                None => passed_over.push(member),
            }
        }
    }

    fn enter(&self, stage: usize, member: usize, moment: Moment<'_>) -> Option<Chosen> {
        let at = (stage, member);
        let stage = self.stages.get(stage)?;
        let cell = &stage.pool.cell;
        let target = cell.target(member, &stage.asked)?;
        let pass = cell.enter(member, &target, &stage.asked, moment.lane, moment.now).ok()?;
        let model = stage.pool.members.get(member)?.model.clone().unwrap_or_else(|| Arc::from(&*stage.asked));
        Some(Chosen { pool: stage.pool.clone(), model, pass, at })
    }

    /// How well a member suits after a failure, the smaller the better; `None` where it would fail the same way.
    fn rank(&self, at: At, moment: Moment<'_>) -> Option<u8> {
        let Some(failed) = moment.failed else { return Some(0) };
        let (Some((before, old)), Some((member, new))) = (self.member(failed.at), self.member(at)) else {
            return Some(0);
        };
        let is_same_provider = before.provider.id == member.provider.id;
        let is_same_target = is_same_provider && old == new;
        match failed.fault {
            Fault::Credential | Fault::Quota | Fault::Capacity => Some(u8::from(!is_same_target)),
            Fault::Provider | Fault::Ours | Fault::Client => Some(u8::from(is_same_provider)),
            Fault::ContextLength => {
                let (old, new) = (catalogue::context_tokens(old), catalogue::context_tokens(new));
                match (old, new) {
                    (Some(old), Some(new)) => (new > old).then_some(0),
                    (Some(_) | None, Some(_) | None) => (!is_same_target).then_some(1),
                }
            }
        }
    }

    /// A member and the model it is asked for there.
    fn member(&self, (stage, member): At) -> Option<(&Member, &str)> {
        let stage = self.stages.get(stage)?;
        let member = stage.pool.members.get(member)?;
        Some((member, member.model.as_deref().unwrap_or(&stage.asked)))
    }

    /// A target that failed in a way that may pass, or the moment from which one can be asked again.
    fn choose_again(&mut self, moment: Moment<'_>) -> Choice {
        let mut soonest: Option<Instant> = None;
        let mut by_wait: Vec<(Instant, u32, At)> = self
            .tried
            .iter()
            .filter_map(|tried| Some((tried.again?, tried.times, (tried.stage, tried.member))))
            .collect();
        by_wait.sort_unstable();
        for (again, times, at) in by_wait {
            let Some(ready) = self.ready_at(at, again, moment.now) else { continue };
            if ready <= moment.now
                && let Some(chosen) = self.enter(at.0, at.1, moment)
            {
                self.note(at, times + 1, None);
                return Choice::Go(Box::new(chosen));
            }
            // Somebody else is trying it just now.
            let ready = ready.max(moment.now + LOOK_AGAIN);
            soonest = Some(soonest.map_or(ready, |soonest| soonest.min(ready)));
        }
        soonest.map_or(Choice::Nothing, Choice::Wait)
    }

    /// When a member that failed can be asked again, which it may not be before `again`; `None` if that is not worth
    /// waiting for: a target that rests for failures has nothing to say soon, and a call would only be held up.
    fn ready_at(&self, (stage, member): At, again: Instant, now: Instant) -> Option<Instant> {
        let stage = self.stages.get(stage)?;
        let target = stage.pool.cell.target(member, &stage.asked)?;
        match stage.pool.cell.standing(member, &target, now) {
            Standing::Resting { until, why: Why::RetryAfter | Why::Paced } => Some(again.max(until)),
            Standing::Resting { why: Why::Failures | Why::Unreachable | Why::Credential | Why::Quota, .. } => None,
            Standing::Ready | Standing::Probation | Standing::Probed | Standing::Full { .. } => Some(again),
        }
    }

    fn note(&mut self, at: At, times: u32, again: Option<Instant>) {
        match self.tried.iter_mut().find(|tried| (tried.stage, tried.member) == at) {
            Some(tried) => (tried.times, tried.again) = (times, again),
            None => self.tried.push(Tried { stage: at.0, member: at.1, times, again }),
        }
    }

    /// Notes that a target failed, and from when on it may be called again for this call.
    pub(super) fn failed(&mut self, at: At, fault: Fault, again: Option<Instant>) -> Failed {
        let times = self.times(at);
        self.note(at, times, again);
        Failed { fault, at }
    }

    /// Takes back a first choice: the target was not called.
    pub(super) fn put_back(&mut self, at: At) {
        self.tried.retain(|tried| (tried.stage, tried.member) != at);
    }

    /// Notes that a target cannot carry this call; it was not called.
    pub(super) fn unfit(&mut self, at: At) {
        self.note(at, 0, None);
    }

    /// How often this target was called for this call.
    pub(super) fn times(&self, at: At) -> u32 {
        self.tried.iter().find(|tried| (tried.stage, tried.member) == at).map_or(0, |tried| tried.times)
    }

    /// Whether a target is left that was not tried.
    pub(super) fn has_more(&self) -> bool {
        self.stages.iter().enumerate().any(|(at, stage)| {
            stage.pool.members.iter().enumerate().any(|(index, member)| {
                self.may_serve(stage, member)
                    && !self.tried.iter().any(|tried| (tried.stage, tried.member) == (at, index))
            })
        })
    }

    /// Why no target can be called now, and when that may be over.
    pub(super) fn refusal(&self, now: Instant) -> Refusal {
        let mut soonest: Option<Instant> = None;
        let (mut is_asked_to_wait, mut all_wait) = (false, true);
        for stage in &self.stages {
            for (index, _) in stage.pool.members.iter().enumerate().filter(|(_, m)| self.may_serve(stage, m)) {
                let Some(target) = stage.pool.cell.target(index, &stage.asked) else { continue };
                let standing = stage.pool.cell.standing(index, &target, now);
                if let Standing::Resting { until, .. } = standing {
                    soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
                }
                let waits = matches!(standing, Standing::Resting { why: Why::RetryAfter | Why::Paced, .. });
                is_asked_to_wait |= waits;
                all_wait &= waits;
            }
        }
        let after = soonest.map_or(NO_TARGET_FOR, |at| at.saturating_duration_since(now)).max(NO_TARGET_FOR);
        let model = self.stages.first().map_or("", |stage| &stage.asked);
        let refusal = if is_asked_to_wait && all_wait {
            let message = format!("every target of the model {model:?} is asked to wait by its provider");
            Refusal::new(ErrorCode::ProviderRateLimited, message)
        } else {
            let message = format!("every target of the model {model:?} is resting after failures, or is full");
            Refusal::new(ErrorCode::NoTarget, message)
        };
        refusal.after(after)
    }
}

/// What is told of a model that could be served if no provider were switched off.
pub(super) fn switched_off(asked: &str) -> String {
    format!("every provider of the model {asked:?} is switched off by an operator")
}

/// How soon a target is looked at again that somebody else is trying.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The shortest wait that a client is told.
const NO_TARGET_FOR: Duration = Duration::from_secs(1);
