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
pub(crate) const SUSPECT: Duration = Duration::from_millis(200);
/// A key that was refused is tried this often.
const CREDENTIAL: Duration = Duration::from_secs(30);
/// No probe comes sooner after another.
const PERIOD_MIN: Duration = Duration::from_millis(50);

/// How often a target that rests for `why` is probed; `None`: a probe cannot see what it waits for.
pub(crate) fn period(why: Why, rules: &TargetRules) -> Option<Duration> {
    match why {
        Why::Unreachable => Some(UNREACHABLE.min(rules.rest / 2).max(PERIOD_MIN)),
        Why::Credential => Some(CREDENTIAL.min(rules.credential_rest / 2).max(PERIOD_MIN)),
        Why::Failures | Why::Quota | Why::RetryAfter | Why::Paced => None,
    }
}

/// How long a probe may take.
pub(crate) fn patience(rules: &TargetRules) -> Duration {
    UNREACHABLE.min(rules.rest / 2).max(Duration::from_millis(250))
}

/// Which targets are probed when.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    due: BTreeMap<TargetId, Instant>,
    in_air: BTreeSet<TargetId>,
}

impl Rounds {
    /// Takes those that rest now, each with its period, and returns those to be probed now. `dice` spreads the probes.
    pub(crate) fn begin(
        &mut self,
        resting: &BTreeMap<TargetId, Duration>,
        now: Instant,
        mut dice: impl FnMut() -> u64,
    ) -> Vec<TargetId> {
        self.due.retain(|id, _| resting.contains_key(id));
        for (id, period) in resting {
            self.due.entry(id.clone()).or_insert_with(|| now + jittered(*period, dice()));
        }
        let places = IN_AIR_MAX.saturating_sub(self.in_air.len());
        let is_due = |(id, due): &(&TargetId, &Instant)| **due <= now && !self.in_air.contains(*id);
        let mut begun: Vec<(Instant, TargetId)> =
            self.due.iter().filter(is_due).map(|(id, due)| (*due, id.clone())).collect();
        // Who waits for longest goes first, so that none starves behind the others.
        begun.sort_unstable();
        begun.truncate(places);
        for (_, id) in &begun {
            let period = resting.get(id).copied().unwrap_or(UNREACHABLE);
            self.due.insert(id.clone(), now + jittered(period, dice()));
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
        let waiting = self.due.iter().filter(|(id, _)| !self.in_air.contains(*id)).map(|(_, due)| *due);
        let due = waiting.min()?;
        Some(due.saturating_duration_since(now).max(Duration::from_millis(1)))
    }
}

/// `period` less up to a fifth: never late.
fn jittered(period: Duration, dice: u64) -> Duration {
    let spread = u64::try_from((period / 5).as_millis()).unwrap_or(u64::MAX);
    period.saturating_sub(Duration::from_millis(dice % spread.saturating_add(1)))
}
