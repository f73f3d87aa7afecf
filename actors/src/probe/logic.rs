//! When a resting target is probed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use troupe_proto::id::TargetId;

use crate::breaker::Why;
use crate::layout::TargetRules;

/// Probes in the air at a provider.
pub(crate) const IN_AIR_MAX: usize = 8;
/// A target that cannot be reached is probed this often, or twice a rest where rests are shorter: the answer must come
/// before the rest is over, or a call would find out.
const UNREACHABLE: Duration = Duration::from_secs(2);
/// A target that a call did not reach is probed as soon as this.
const SUSPECT: Duration = Duration::from_millis(200);
/// A key that was refused is tried this often.
const CREDENTIAL: Duration = Duration::from_secs(30);
/// The first time it is tried as soon as this: perhaps it was refused for one model only, or by a provider that had a
/// hiccup. It takes twice as long after each further call that was refused although a probe was not.
const CREDENTIAL_FIRST: Duration = Duration::from_millis(500);
/// No probe comes sooner after another.
const PERIOD_MIN: Duration = Duration::from_millis(50);

/// What a probe is to find out; each doubt has a first probe of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Whether anybody is there, though it takes calls.
    Suspect,
    /// Whether anybody is there again.
    Unreachable,
    /// Whether the credential is good, which so many calls in a row found it is not.
    Credential(u32),
}

/// When a target is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    doubt: Doubt,
    /// How long after a doubt arose the first probe comes.
    first: Duration,
    /// How long after a probe the next.
    period: Duration,
    /// The least time between two probes, whatever arises.
    gap: Duration,
}

impl Pace {
    /// Whether what is probed takes calls, and one of them reached nobody.
    pub(crate) fn is_suspicion(self) -> bool {
        self.doubt == Doubt::Suspect
    }

    /// The one by which a probe comes first.
    pub(crate) fn sooner(self, other: Self) -> Self {
        if (other.first, other.period) < (self.first, self.period) { other } else { self }
    }
}

/// When a target that rests for `why` is probed; `None`: a probe cannot see what it waits for. `refusals` are the calls in
/// a row that found its credential no good.
pub(crate) fn pace(why: Why, refusals: u32, rules: &TargetRules) -> Option<Pace> {
    let steady = |doubt, first: Duration, period: Duration| {
        let period = period.max(PERIOD_MIN);
        Pace { doubt, first: first.min(period), period, gap: period.min(UNREACHABLE) }
    };
    match why {
        Why::Unreachable => Some(steady(Doubt::Unreachable, Duration::MAX, UNREACHABLE.min(rules.rest / 2))),
        Why::Credential => {
            let doubled = 1_u32.checked_shl(refusals.saturating_sub(1)).unwrap_or(u32::MAX);
            let first = CREDENTIAL_FIRST.saturating_mul(doubled);
            Some(steady(Doubt::Credential(refusals), first, CREDENTIAL.min(rules.credential_rest / 2)))
        }
        Why::Failures | Why::Quota | Why::RetryAfter | Why::Paced => None,
    }
}

/// When a target that takes calls is probed because one reached nobody: at once, but not after each of a trickle of them
/// that probes find nothing behind.
pub(crate) fn suspect() -> Pace {
    Pace { doubt: Doubt::Suspect, first: SUSPECT, period: UNREACHABLE, gap: UNREACHABLE }
}

/// How long a probe may take.
pub(crate) fn patience(rules: &TargetRules) -> Duration {
    UNREACHABLE.min(rules.rest / 2).max(Duration::from_millis(250))
}

/// Which targets are probed when.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// By target: of which doubt, and when.
    due: BTreeMap<TargetId, (Doubt, Instant)>,
    /// When those that were probed a moment ago were.
    begun: BTreeMap<TargetId, Instant>,
    in_air: BTreeSet<TargetId>,
    /// How long other nodes come first.
    delays: BTreeMap<TargetId, Duration>,
}

impl Rounds {
    /// Takes whose turn it is: how long others come first with each target.
    pub(crate) fn yield_to(&mut self, delays: BTreeMap<TargetId, Duration>) {
        self.delays = delays;
    }

    /// Another node probed at `at`: its finding is as good as one of our own.
    pub(crate) fn heard(&mut self, id: &TargetId, at: Instant, pace: Pace, dice: u64) {
        if self.begun.get(id).is_some_and(|begun| *begun >= at) {
            return;
        }
        self.begun.insert(id.clone(), at);
        let next = at + jittered(pace.period, dice);
        let due = self.due.get(id).filter(|(doubt, _)| *doubt == pace.doubt).map(|(_, due)| *due);
        self.due.insert(id.clone(), (pace.doubt, due.map_or(next, |due| due.max(next))));
    }

    fn delay(&self, id: &TargetId) -> Duration {
        self.delays.get(id).copied().unwrap_or_default()
    }
    /// Takes those that rest now, each with its pace, and returns those to be probed now. `dice` spreads the probes.
    pub(crate) fn begin(
        &mut self,
        resting: &BTreeMap<TargetId, Pace>,
        now: Instant,
        mut dice: impl FnMut() -> u64,
    ) -> Vec<TargetId> {
        self.due.retain(|id, _| resting.contains_key(id));
        // No gap is longer, so nobody asks when the others were.
        self.begun.retain(|_, begun| now.saturating_duration_since(*begun) < UNREACHABLE);
        for (id, pace) in resting {
            if self.due.get(id).is_none_or(|(doubt, _)| *doubt != pace.doubt) {
                let soonest = self.begun.get(id).map_or(now, |begun| *begun + pace.gap);
                let due = (now + jittered(pace.first, dice())).max(soonest);
                self.due.insert(id.clone(), (pace.doubt, due));
            }
        }
        let places = IN_AIR_MAX.saturating_sub(self.in_air.len());
        let is_due = |(id, (_, due)): &(&TargetId, &(Doubt, Instant))| {
            *due + self.delay(id) <= now && !self.in_air.contains(*id)
        };
        let mut begun: Vec<(Instant, TargetId)> =
            self.due.iter().filter(is_due).map(|(id, (_, due))| (*due, id.clone())).collect();
        // Who waits for longest goes first, so that none starves behind the others.
        begun.sort_unstable();
        begun.truncate(places);
        for (_, id) in &begun {
            if let Some(pace) = resting.get(id) {
                self.due.insert(id.clone(), (pace.doubt, now + jittered(pace.period, dice())));
            }
            self.begun.insert(id.clone(), now);
            self.in_air.insert(id.clone());
        }
        debug_assert!(self.in_air.len() <= IN_AIR_MAX, "probes in the air are bounded");
        begun.into_iter().map(|(_, id)| id).collect()
    }

    pub(crate) fn landed(&mut self, id: &TargetId) {
        self.in_air.remove(id);
    }

    /// When the next is due; `None`: nothing rests, nothing is probed. One that waits for a place in the air is begun when
    /// another lands.
    pub(crate) fn next(&self, now: Instant) -> Option<Duration> {
        let waiting =
            self.due.iter().filter(|(id, _)| !self.in_air.contains(*id)).map(|(id, (_, due))| *due + self.delay(id));
        let due = waiting.min()?;
        Some(due.saturating_duration_since(now).max(Duration::from_millis(1)))
    }
}

/// `period` less up to a fifth: never late.
fn jittered(period: Duration, dice: u64) -> Duration {
    let spread = u64::try_from((period / 5).as_millis()).unwrap_or(u64::MAX);
    period.saturating_sub(Duration::from_millis(dice % spread.saturating_add(1)))
}
