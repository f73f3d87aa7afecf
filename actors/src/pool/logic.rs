//! Learns how members do, and what their weights are worth now.

use std::time::{Duration, Instant};

use troupe_proto::unit::PerMille;

use super::view::{MemberView, WHOLE};
use crate::layout::TargetRules;
use crate::target::QuotaReport;
use crate::traffic::Tally;

/// Time constant of the means: a sample counts a third after this long.
const MEMORY: Duration = Duration::from_secs(10);
/// Without an answer for this long nothing is known: the member is as good as new, so that it is tried again.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A member of which every call fails counts as 1 + this many times as slow.
const PENALTY: u64 = 10;
/// Where a weight begins after a rest, in thousandths.
const SLOW_FROM: u64 = 100;
/// Less than this share left of its quota, and a member is given less.
const PACE_BELOW: u64 = 100;
/// The least a paced or slow member is given, in thousandths of its weight: none would never be seen to recover.
const FACTOR_MIN: u64 = 10;
/// Means are kept in this part of a unit, or small steps would be lost to rounding.
const FINE: u64 = 1 << 10;

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    seen: Tally,
    /// Mean time to the first token in microseconds, fine.
    latency_fine: u64,
    latency_at: Option<Instant>,
    /// Mean share that failed in thousandths, fine.
    failing_fine: u64,
    failing_at: Option<Instant>,
    /// Its last return that failures were forgotten for.
    back: Option<Instant>,
}

impl Learned {
    /// Goes on from a view: of a predecessor, or of the pool before it was changed. `seen` is counted already.
    pub(crate) fn resume(view: MemberView, seen: Tally, now: Instant) -> Self {
        let failing = u64::from(view.failing.get());
        // The penalty is in the view and comes off again.
        let latency = u64::from(view.latency_us).saturating_mul(1000) / (1000 + PENALTY * failing);
        Self {
            seen,
            latency_fine: latency.saturating_mul(FINE),
            latency_at: (latency > 0).then_some(now),
            failing_fine: failing.saturating_mul(FINE),
            failing_at: (failing > 0).then_some(now),
            back: None,
        }
    }

    /// Takes in the counters, and returns what was new.
    pub(crate) fn observe(&mut self, tally: Tally, now: Instant) -> Tally {
        let news = tally.since(self.seen);
        self.seen = tally;
        if let Some(sample_us) = news.first_token_us.checked_div(news.timed) {
            self.latency_fine = mean(self.latency_fine, sample_us.saturating_mul(FINE), self.latency_at, now);
            self.latency_at = Some(now);
        }
        let ended = news.succeeded.saturating_add(news.failed);
        if let Some(sample) = news.failed.saturating_mul(1000).saturating_mul(FINE).checked_div(ended) {
            // The first failure of a member never seen before counts whole: nothing speaks against it.
            self.failing_fine = mean(self.failing_fine, sample, self.failing_at, now);
            self.failing_at = Some(now);
        }
        news
    }

    /// Forgets the failures before its last rest: it came back, and slow start is caution enough. Penalised for what is
    /// over it would get few calls, and so no chance to show that it is well.
    ///
    /// Once for each return, whatever was sampled meanwhile: the call that ended the rest is often counted before its end is
    /// seen here.
    pub(crate) fn came_back(&mut self, slow_from: Option<Instant>) {
        if slow_from.is_some() && slow_from != self.back {
            (self.failing_fine, self.failing_at) = (0, None);
            self.back = slow_from;
        }
    }

    /// Its mean time to the first token without penalty, while it is known.
    pub(crate) fn latency_us(&self, now: Instant) -> Option<u64> {
        is_fresh(self.latency_at, now).then(|| (self.latency_fine / FINE).max(1))
    }

    pub(crate) fn failing(&self, now: Instant) -> PerMille {
        let share = if is_fresh(self.failing_at, now) { self.failing_fine / FINE } else { 0 };
        PerMille::new(u16::try_from(share.min(1000)).unwrap_or(1000))
    }

    /// What requests read of it. `stand_in_us` is the latency of a member that only ever failed: without one it would
    /// look as fast as any, and draw all traffic.
    pub(crate) fn view(&self, weight: u64, stand_in_us: u64, now: Instant) -> MemberView {
        let failing = self.failing(now);
        let latency = match self.latency_us(now) {
            Some(latency) => latency,
            None if failing > PerMille::ZERO => stand_in_us,
            None => 0,
        };
        let penalised = latency.saturating_mul(1000 + PENALTY * u64::from(failing.get())) / 1000;
        MemberView { weight, latency_us: u32::try_from(penalised).unwrap_or(u32::MAX), failing }
    }
}

fn is_fresh(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) <= SILENCE_MAX)
}

/// The mean after a sample: the older the last one, the more the new one counts. A first sample, or one after a long
/// silence, is the mean.
fn mean(old: u64, sample: u64, at: Option<Instant>, now: Instant) -> u64 {
    let Some(at) = at.filter(|at| now.saturating_duration_since(*at) <= SILENCE_MAX) else { return sample };
    // dt / (memory + dt) is 1 - e^(-dt/memory) for small steps, and needs no floats.
    let (dt, memory) = (now.saturating_duration_since(at).as_micros().max(1), MEMORY.as_micros());
    let mean = (u128::from(old) * memory + u128::from(sample) * dt) / (memory + dt);
    u64::try_from(mean).unwrap_or(u64::MAX)
}

/// The weight in force, in thousandths: less while the member comes back from a rest, less when little is left of its
/// quota.
pub(crate) fn weight(
    configured: u64,
    rules: &TargetRules,
    slow_from: Option<Instant>,
    quota: Option<QuotaReport>,
    now: Instant,
) -> u64 {
    let factor = slow_start(rules.slow_start, slow_from, now).saturating_mul(pace(quota)) / 1000;
    configured.saturating_mul(WHOLE).saturating_mul(factor.max(FACTOR_MIN)) / 1000
}

/// Whether the weight still grows after a rest.
pub(crate) fn is_slow(rules: &TargetRules, slow_from: Option<Instant>, now: Instant) -> bool {
    slow_from.is_some_and(|from| now.saturating_duration_since(from) < rules.slow_start)
}

fn slow_start(whole: Duration, from: Option<Instant>, now: Instant) -> u64 {
    let Some(from) = from.filter(|from| now.saturating_duration_since(*from) < whole) else { return 1000 };
    let elapsed = now.saturating_duration_since(from).as_micros();
    let grown = u128::from(1000 - SLOW_FROM) * elapsed / whole.as_micros().max(1);
    SLOW_FROM.saturating_add(u64::try_from(grown).unwrap_or(0))
}

fn pace(quota: Option<QuotaReport>) -> u64 {
    let left = quota.map_or(1000, |quota| u64::from(quota.remaining.get()));
    if left >= PACE_BELOW { 1000 } else { left * 1000 / PACE_BELOW }
}

/// Whether so few of `members` are available that rests for failures are ignored.
pub(crate) fn is_panicking(available: usize, members: usize, below: PerMille) -> bool {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    members > 0 && count(available).saturating_mul(1000) < count(members).saturating_mul(u64::from(below.get()))
}
