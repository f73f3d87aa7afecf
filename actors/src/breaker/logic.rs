//! Decides when a target rests and when it may work again.
//!
//! ```text
//!            evidence                     rest runs out,
//!  Closed ───────────────▶ Resting ─────── or a probe finds it alive ──▶ half-open (a rest that is over)
//!    ▲                        ▲                                              │
//!    │                        └────────── the one call on probation fails ───┤
//!    └─────────────────────────────────── the one call on probation works ───┘
//! ```
//!
//! Half-open is no state of its own: it is a rest that is over. So no clock has to turn it, and a target whose actor is
//! dead comes back all the same. That only one call is on probation at a time is kept by the view ([`super::view`]).

use std::time::{Duration, Instant};

use super::evidence::{Evidence, Served};
use super::reach::Reach;
use super::view::Why;
use crate::layout::TargetRules;
use crate::traffic::Tally;

/// No answer of a provider rests its target for longer.
pub(crate) const REST_CAP: Duration = Duration::from_secs(24 * 3600);
/// Nothing rests for longer, whatever the rules say: beyond some point a time cannot be told any more.
const REST_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// A suspicion that no probe has cleared up is forgotten after this.
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// Probes that ended a rest and were refuted by the next call, in a row; after that rests run their time: a server may
/// list its models and serve none.
const REFUTED_MAX: u32 = 2;
/// A target that only probes say is dead is tried by a call after this.
const PROBES_BELIEVED_FOR: Duration = Duration::from_secs(600);
/// The least pause of a target that asked for one without saying how long.
const PACE_MIN: Duration = Duration::from_secs(1);

/// How long a target whose quota is spent is left alone. Providers fill it up again all the time, and say when it will be
/// full: a tenth of that brings back a tenth.
fn pace(reset: Option<Duration>) -> Duration {
    reset.map_or(PACE_MIN, |reset| (reset / 10).max(reset.min(PACE_MIN)))
}
/// A rest for quota is this part of one for a refused credential: money comes back sooner than keys.
const QUOTA_PART: u32 = 6;
/// A rest shorter than this needs no slow start: nothing cooled down.
const SLOW_START_REST_MIN: Duration = Duration::from_secs(1);
/// The streak counts no further: the rest has long reached its maximum.
const STREAK_MAX: u32 = 32;

/// What one call, or the quota headers of its reply, say about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The provider did its work; perhaps it found fault with the request.
    Works,
    /// The provider failed.
    Ill { is_unreachable: bool, retry_after: Option<Duration>, tally: Tally },
    /// The provider is healthy and asks to slow down.
    Busy { retry_after: Option<Duration>, tally: Tally },
    /// The provider refused the credential.
    Refused,
    /// The account has no money or quota left.
    Exhausted { retry_after: Option<Duration> },
    /// The reply said that the next call would be one too many.
    Spent { reset: Option<Duration> },
}

/// What a probe says about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Alive,
    /// It answers, but says nothing of the credential.
    Answers,
    Dead,
    CredentialRefused,
}

/// Whose probe it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This node's own.
    Own,
    /// Another node's.
    Others,
}

/// What may move a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Any call but one on probation.
    Reported(Verdict),
    /// The one call on probation.
    Judged(Verdict),
    /// A probe.
    Probed(Finding, Source),
    /// What other nodes say, folded.
    Told(Told),
    /// An operator wants it tried again.
    Reset,
}

/// What other nodes say of the target, folded into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is to rest.
    Rest { until: Instant, why: Why },
    /// What made it rest holds no more, because somebody had a call go well there.
    Refuted,
    /// What made it rest holds no more, for nobody who lives says so now.
    Withdrawn,
    /// Another node had it resting as well, and a call there has worked.
    Recovered,
}

/// Whose evidence a rest is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This node's own.
    Own,
    /// Other nodes'.
    Told,
}

/// What follows from an event for the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// No calls until then.
    Rests { until: Instant, why: Why },
    /// One call may try it from now on.
    Ends,
    /// Calls as ever.
    Resumes,
    /// Calls as ever, but a probe is wanted.
    Suspects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed {
        /// When the last rest that was long enough for a slow start ended.
        slow_from: Option<Instant>,
    },
    Resting {
        from: Instant,
        until: Instant,
        why: Why,
        origin: Origin,
    },
}

/// The breaker of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    phase: Phase,
    ill: Evidence,
    busy: Evidence,
    served: Served,
    /// Whose probe or success ended the last rest, if one did, and how many such ends in a row the next call refuted.
    ended_by: Option<Source>,
    refuted: u32,
    /// Whether a call reached nobody right after others said that somebody is there: what they reach, this node may not, so
    /// only its own probes count until a call goes well.
    is_alone: bool,
    reach: Reach,
    /// Since when a probe is wanted, because a call reached nobody.
    suspect_since: Option<Instant>,
    /// Rests for failures in a row, and when the last of them was due to end.
    streak: u32,
    streak_until: Option<Instant>,
    /// Calls that were told that the credential is no good, none in between that worked.
    refusals: u32,
    /// When a call last ended a rest by this node's own evidence by going well.
    recovered: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Closed { slow_from: None },
            ill: Evidence::default(),
            busy: Evidence::default(),
            served: Served::default(),
            ended_by: None,
            refuted: 0,
            is_alone: false,
            reach: Reach::default(),
            suspect_since: None,
            streak: 0,
            streak_until: None,
            refusals: 0,
            recovered: None,
        }
    }

    /// Judges an event. `dice` spreads the end of a rest by a tenth.
    pub(crate) fn on(&mut self, event: Event, now: Instant, dice: u64, rules: &TargetRules) -> Option<Effect> {
        self.reach.note(event, now);
        let effect = match (self.phase, event) {
            (Phase::Closed { .. }, Event::Reported(verdict) | Event::Judged(verdict)) => {
                self.weigh(verdict, now, dice, rules)
            }
            (Phase::Closed { .. }, Event::Probed(finding, _)) => self.clear_up(finding, now, dice, rules),
            (Phase::Resting { until, .. }, Event::Judged(verdict)) if until <= now => {
                self.judge(verdict, now, dice, rules)
            }
            // It worked while a probe, or a call begun earlier, found that it does not: a call that got through says more.
            (Phase::Resting { why, .. }, Event::Judged(Verdict::Works)) if why.is_soft() => Some(self.close(now)),
            // Calls begun before the rest still report, and a rest may have been made longer while one was on
            // probation. Health is decided; what the provider said in so many words still counts.
            (Phase::Resting { until, why, .. }, Event::Reported(verdict) | Event::Judged(verdict)) => {
                self.prolong(verdict, until, why, now, rules)
            }
            (Phase::Resting { .. }, Event::Probed(_, Source::Others)) if self.is_alone => None,
            (Phase::Resting { until, why, .. }, Event::Probed(finding, source)) => {
                self.probe((finding, source), (until, why), now, rules)
            }
            (Phase::Closed { .. } | Phase::Resting { .. }, Event::Told(told)) => self.hear(told, now),
            (Phase::Closed { .. }, Event::Reset) => {
                self.forget();
                None
            }
            (Phase::Resting { .. }, Event::Reset) => {
                self.forget();
                Some(Effect::Resumes)
            }
        };
        if let Some(Effect::Rests { until, .. }) = effect {
            debug_assert!(until >= now, "a rest ends after it begins");
            debug_assert!(until <= now + REST_LONGEST, "a rest has a bound");
        }
        effect
    }

    /// A call at a target that works.
    fn weigh(&mut self, verdict: Verdict, now: Instant, dice: u64, rules: &TargetRules) -> Option<Effect> {
        match verdict {
            Verdict::Works => None,
            Verdict::Ill { is_unreachable, retry_after, tally } => {
                self.served.note(now, tally);
                if self.ill.count(now, tally, rules) {
                    return Some(self.trip(is_unreachable, retry_after, now, dice, rules));
                }
                // A target that is dead gets few calls while others do well, so failures add up slowly, each at the cost
                // of somebody's patience. A probe costs nothing.
                is_unreachable.then(|| {
                    self.suspect_since = Some(now);
                    Effect::Suspects
                })
            }
            Verdict::Busy { retry_after: Some(floor), .. } => Some(self.rest(floor, Why::RetryAfter, now)),
            Verdict::Busy { retry_after: None, tally } => {
                let is_enough = self.busy.count(now, tally, rules);
                is_enough.then(|| self.rest(rules.rest.max(PACE_MIN), Why::Paced, now))
            }
            Verdict::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                Some(self.rest(rules.credential_rest, Why::Credential, now))
            }
            Verdict::Exhausted { retry_after } => Some(self.rest(quota_rest(retry_after, rules), Why::Quota, now)),
            Verdict::Spent { reset } => Some(self.rest(pace(reset), Why::Paced, now)),
        }
    }

    /// A probe of a target that takes calls.
    fn clear_up(&mut self, finding: Finding, now: Instant, dice: u64, rules: &TargetRules) -> Option<Effect> {
        let is_suspect = self.is_suspect(now);
        self.suspect_since = None;
        match finding {
            // A call and a probe, one after the other, have reached nobody.
            Finding::Dead if is_suspect => Some(self.trip(true, None, now, dice, rules)),
            Finding::CredentialRefused if is_suspect => Some(self.rest(rules.credential_rest, Why::Credential, now)),
            // An answer that comes after the rest has nothing to end.
            Finding::Alive | Finding::Answers | Finding::Dead | Finding::CredentialRefused => None,
        }
    }

    /// Whether a probe is wanted of a target that takes calls.
    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Closed { .. }) && self.suspected(now).is_some()
    }

    /// The one call on probation.
    fn judge(&mut self, verdict: Verdict, now: Instant, dice: u64, rules: &TargetRules) -> Option<Effect> {
        match verdict {
            Verdict::Works => Some(self.close(now)),
            Verdict::Ill { is_unreachable, retry_after, .. } => {
                match self.ended_by.take() {
                    Some(Source::Others) if is_unreachable => self.is_alone = true,
                    Some(Source::Own | Source::Others) => self.refuted = self.refuted.saturating_add(1),
                    None => {}
                }
                Some(self.trip(is_unreachable, retry_after, now, dice, rules))
            }
            // One answer is enough here: a target that just rested is asked again soon.
            Verdict::Busy { retry_after: None, .. } => Some(self.rest(rules.rest.max(PACE_MIN), Why::Paced, now)),
            Verdict::Busy { retry_after: Some(_), .. }
            | Verdict::Refused
            | Verdict::Exhausted { .. }
            | Verdict::Spent { .. } => self.weigh(verdict, now, dice, rules),
        }
    }

    /// A late call at a target that rests: a rest is only ever made longer, and only by what was said outright.
    fn prolong(
        &mut self,
        verdict: Verdict,
        until: Instant,
        why: Why,
        now: Instant,
        rules: &TargetRules,
    ) -> Option<Effect> {
        let (rest, reason) = match verdict {
            Verdict::Works | Verdict::Ill { .. } | Verdict::Busy { retry_after: None, .. } => return None,
            Verdict::Busy { retry_after: Some(floor), .. } => (floor, Why::RetryAfter),
            Verdict::Refused => (rules.credential_rest, Why::Credential),
            Verdict::Exhausted { retry_after } => (quota_rest(retry_after, rules), Why::Quota),
            Verdict::Spent { reset } => (pace(reset), Why::Paced),
        };
        // A key that was refused rests for that, and not for the quota it has.
        let is_weaker = why == Why::Credential && reason != Why::Credential;
        (after(now, capped(rest, reason)) > until && !is_weaker).then(|| self.rest(rest, reason, now))
    }

    fn probe(
        &mut self,
        (finding, source): (Finding, Source),
        (until, why): (Instant, Why),
        now: Instant,
        rules: &TargetRules,
    ) -> Option<Effect> {
        match (finding, why) {
            (Finding::Alive, Why::Unreachable | Why::Credential) | (Finding::Answers, Why::Unreachable) => {
                self.ended_by = Some(source);
                self.suspect_since = None;
                if until > now {
                    self.phase = Phase::Resting { from: self.rested_from(now), until: now, why, origin: self.origin() };
                }
                Some(Effect::Ends)
            }
            // No traffic but probes while they say that nobody is there; but some servers have no list of models to give.
            (Finding::Dead, Why::Unreachable)
                if now.saturating_duration_since(self.rested_from(now)) > PROBES_BELIEVED_FOR =>
            {
                None
            }
            (Finding::Dead, Why::Unreachable) => {
                let longer = after(now, rules.rest.min(rules.rest_max));
                (longer > until).then(|| self.rest_by(self.origin(), longer, Why::Unreachable, now))
            }
            (Finding::CredentialRefused, Why::Unreachable | Why::Credential) => {
                Some(self.rest(rules.credential_rest, Why::Credential, now))
            }
            // Whether the network is up says nothing about a key.
            (Finding::Dead | Finding::Answers, Why::Credential) => None,
            // These run their time: a probe cannot see what they wait for.
            (
                Finding::Alive | Finding::Answers | Finding::Dead | Finding::CredentialRefused,
                Why::Failures | Why::Quota | Why::RetryAfter | Why::Paced,
            ) => None,
        }
    }

    /// Rests for failures: longer each time in a row, never beyond the longest.
    fn trip(
        &mut self,
        is_unreachable: bool,
        retry_after: Option<Duration>,
        now: Instant,
        dice: u64,
        rules: &TargetRules,
    ) -> Effect {
        let quiet = rules.rest_max.max(rules.window);
        if self.streak_until.is_some_and(|until| now.saturating_duration_since(until) > quiet) {
            self.streak = 0;
        }
        let doubled = rules.rest.saturating_mul(1_u32.checked_shl(self.streak).unwrap_or(u32::MAX));
        let rest = jittered(doubled.min(rules.rest_max), dice).min(rules.rest_max);
        // A 503 that says when to come back is believed, as a floor.
        let rest = rest.max(retry_after.unwrap_or_default().min(REST_CAP));
        let is_probed = is_unreachable && self.refuted < REFUTED_MAX;
        self.streak = self.streak.saturating_add(1).min(STREAK_MAX);
        let until = after(now, rest);
        self.streak_until = Some(until);
        self.rest_until(until, if is_probed { Why::Unreachable } else { Why::Failures }, now)
    }

    fn rest(&mut self, rest: Duration, why: Why, now: Instant) -> Effect {
        self.rest_until(after(now, capped(rest, why)), why, now)
    }

    fn rest_until(&mut self, until: Instant, why: Why, now: Instant) -> Effect {
        self.rest_by(Origin::Own, until, why, now)
    }

    fn rest_by(&mut self, origin: Origin, until: Instant, why: Why, now: Instant) -> Effect {
        self.phase = Phase::Resting { from: self.rested_from(now), until, why, origin };
        if origin == Origin::Own {
            // Else the suspicion is a part of what made it rest.
            self.suspect_since = None;
        }
        self.ill.forget();
        self.busy.forget();
        Effect::Rests { until, why }
    }

    fn close(&mut self, now: Instant) -> Effect {
        let rested = now.saturating_duration_since(self.rested_from(now));
        let slow_from = (rested >= SLOW_START_REST_MIN).then_some(now);
        if self.origin() == Origin::Own {
            self.recovered = Some(now);
        }
        self.phase = Phase::Closed { slow_from };
        (self.ended_by, self.refuted, self.is_alone) = (None, 0, false);
        self.suspect_since = None;
        self.refusals = 0;
        self.ill.forget();
        self.busy.forget();
        Effect::Resumes
    }

    /// What others say. A node's own evidence is stronger than their conclusions, but not than what the provider said to
    /// one of them in so many words.
    fn hear(&mut self, told: Told, now: Instant) -> Option<Effect> {
        match (self.phase, told) {
            (Phase::Closed { .. }, Told::Rest { until, why }) => {
                (until > now).then(|| self.rest_by(Origin::Told, told_until(until, now), why, now))
            }
            (Phase::Resting { until: current, why: known, origin, .. }, Told::Rest { until, why }) => {
                let until = told_until(until, now);
                let is_own_word = match origin {
                    // What was said before is said anew, perhaps otherwise. The same again is no event.
                    Origin::Told => why == known && apart(until, current) <= TOLD_SLACK,
                    Origin::Own => why.is_soft() || until <= current || known == Why::Credential,
                };
                (until > now && !is_own_word).then(|| self.rest_by(Origin::Told, until, why, now))
            }
            (Phase::Resting { why, origin: Origin::Told, .. }, Told::Refuted) if why.is_soft() => Some(self.close(now)),
            (Phase::Resting { from, until, why, origin: Origin::Told }, Told::Withdrawn) => (until > now).then(|| {
                self.phase = Phase::Resting { from, until: now, why, origin: Origin::Told };
                Effect::Ends
            }),
            (Phase::Resting { from, until, why, origin: Origin::Own }, Told::Recovered)
                if why.is_soft() && until > now && self.refuted < REFUTED_MAX && !self.is_alone =>
            {
                self.ended_by = Some(Source::Others);
                self.phase = Phase::Resting { from, until: now, why, origin: Origin::Own };
                Some(Effect::Ends)
            }
            // Nothing rests that others could clear.
            (Phase::Closed { .. } | Phase::Resting { .. }, Told::Refuted | Told::Withdrawn | Told::Recovered) => None,
        }
    }

    /// Everything that would count against it.
    fn forget(&mut self) {
        *self = Self { served: self.served, ..Self::new() };
    }

    fn origin(&self) -> Origin {
        match self.phase {
            Phase::Closed { .. } => Origin::Own,
            Phase::Resting { origin, .. } => origin,
        }
    }

    /// Its rest by this node's own evidence while it lasts: since when, until when, and why.
    pub(crate) fn own_rest(&self, now: Instant) -> Option<(Instant, Instant, Why)> {
        match self.phase {
            Phase::Resting { from, until, why, origin: Origin::Own } if until > now => Some((from, until, why)),
            Phase::Closed { .. } | Phase::Resting { .. } => None,
        }
    }

    /// Its rest by what other nodes said, while it lasts.
    pub(crate) fn told_rest(&self, now: Instant) -> Option<(Instant, Why)> {
        match self.phase {
            Phase::Resting { until, why, origin: Origin::Told, .. } if until > now => Some((until, why)),
            Phase::Closed { .. } | Phase::Resting { .. } => None,
        }
    }

    /// Since when it does not serve, whoever's evidence that is by.
    pub(crate) fn rested_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Resting { from, .. } => Some(from),
        }
    }

    /// When a call last reached nobody, while that is not cleared up.
    pub(crate) fn suspected(&self, now: Instant) -> Option<Instant> {
        self.suspect_since.filter(|since| now.saturating_duration_since(*since) <= SUSPECT_FOR)
    }

    /// When a call last ended a rest by going well.
    pub(crate) fn recovered(&self) -> Option<Instant> {
        self.recovered
    }

    /// Whether only this node's own probes count: a call of its own reached nobody after others had.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether anybody is there, as this node's own calls and probes find.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Since when it does not serve.
    fn rested_from(&self, now: Instant) -> Instant {
        match self.phase {
            Phase::Closed { .. } => now,
            Phase::Resting { from, .. } => from,
        }
    }

    /// Since when its weight grows again, if it rested.
    pub(crate) fn slow_from(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed { slow_from } => slow_from,
            Phase::Resting { .. } => None,
        }
    }

    /// Failures that count at `now`, and rests for failures in a row.
    pub(crate) fn counts(&self, now: Instant, window: Duration) -> (u32, u32) {
        (self.ill.failures(now, window), self.streak)
    }

    /// How many calls in a row found that the credential is no good; those begun before the rest are not counted.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Until when it counts as one that serves, though failures may say that it rests.
    pub(crate) fn serves_until(&self, window: Duration) -> Option<Instant> {
        self.served.until(window)
    }

    /// Until when it rests and why, also after that time: half-open.
    pub(crate) fn rest_in_force(&self) -> Option<(Instant, Why)> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Resting { until, why, .. } => Some((until, why)),
        }
    }
}

/// Ends of a rest nearer to each other than this are told by the same words, which took longer or shorter on their way.
const TOLD_SLACK: Duration = Duration::from_millis(500);

/// No word of others rests a target for longer than a provider's could.
fn told_until(until: Instant, now: Instant) -> Instant {
    until.min(now + REST_CAP)
}

fn apart(one: Instant, other: Instant) -> Duration {
    one.max(other).saturating_duration_since(one.min(other))
}

fn after(now: Instant, rest: Duration) -> Instant {
    now + rest.min(REST_LONGEST)
}

/// What a provider may ask for; how long a refused key rests is our own rule.
fn capped(rest: Duration, why: Why) -> Duration {
    match why {
        Why::Credential => rest,
        Why::Failures | Why::Unreachable | Why::Quota | Why::RetryAfter | Why::Paced => rest.min(REST_CAP),
    }
}

fn quota_rest(retry_after: Option<Duration>, rules: &TargetRules) -> Duration {
    retry_after.unwrap_or_default().max(rules.credential_rest / QUOTA_PART)
}

/// `rest` give or take a tenth.
fn jittered(rest: Duration, dice: u64) -> Duration {
    let spread = u64::try_from((rest / 5).as_millis()).unwrap_or(u64::MAX);
    (rest - rest / 10).saturating_add(Duration::from_millis(dice % spread.saturating_add(1)))
}
