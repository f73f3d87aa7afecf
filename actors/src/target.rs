//! A target's cells: what calls count, what its breaker decided, what its provider said about quota.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use troupe_proto::id::TargetId;
use troupe_proto::unit::PerMille;

use crate::breaker::actor::Fact;
use crate::breaker::logic::Breaker;
use crate::breaker::view::Gate;
use crate::breaker::{Standing, Why};
use crate::inbox::Inbox;
use crate::layout::{Fingerprint, TargetRules};
use crate::ports::Probed;
use crate::traffic::{Epoch, Traffic};
use crate::view::Published;

/// Facts that may wait for a provider's breakers.
const FACTS_MAX: usize = 1_024;
/// Probes that landed and that a provider's prober has not heard of; more than it has in the air.
const CALLS_MAX: usize = 16;

/// What the actors of one provider share, and outlives them.
pub(crate) struct Provider {
    /// In front of `breaker:<provider>`.
    pub(crate) facts: Inbox<Fact>,
    /// In front of `probe:<provider>`.
    pub(crate) calls: Inbox<TargetId>,
    resting: Mutex<BTreeMap<TargetId, Resting>>,
    /// Accounts that other nodes find dead, while this one need not.
    doubts: Mutex<BTreeMap<TargetId, Doubt>>,
    probes: [AtomicU64; Probed::ALL.len()],
}

/// An account that other nodes find dead: somebody has to probe it.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    /// One of its targets.
    pub(crate) target: Weak<Target>,
    pub(crate) rules: Arc<TargetRules>,
    /// For how long they say so.
    pub(crate) until: Instant,
}

/// A target that a probe can help, and the rules it rests by.
#[derive(Clone, Debug)]
pub(crate) struct Resting {
    /// Not kept alive here: one that is laid out no more is not probed either.
    pub(crate) target: Weak<Target>,
    pub(crate) rules: Arc<TargetRules>,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self {
            facts: Inbox::new(FACTS_MAX),
            calls: Inbox::new(CALLS_MAX),
            resting: Mutex::default(),
            doubts: Mutex::default(),
            probes: Default::default(),
        }
    }

    /// The targets that a probe can help, by their ids. For actors only; requests never come here.
    pub(crate) fn resting(&self) -> MutexGuard<'_, BTreeMap<TargetId, Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    /// Puts the accounts that others find dead in place; whether they are others than before.
    pub(crate) fn set_doubts(&self, doubts: BTreeMap<TargetId, Doubt>) -> bool {
        let mut now = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = !now.keys().eq(doubts.keys());
        *now = doubts;
        is_news
    }

    pub(crate) fn count_probe(&self, probed: Probed) {
        if let Some(count) = self.probes.get(probed.index()) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Probes made by this node, by what they found.
    pub(crate) fn probes(&self) -> Vec<(Probed, u64)> {
        Probed::ALL.iter().zip(&self.probes).map(|(probed, count)| (*probed, count.load(Relaxed))).collect()
    }

    /// The accounts that others find dead.
    pub(crate) fn doubts(&self) -> BTreeMap<TargetId, Doubt> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A provider's quota as its headers told it, in two words that calls overwrite: the last reading wins.
#[derive(Debug)]
struct QuotaCell {
    /// When it was read, in milliseconds, and thousandths left in the lowest 10 bits; `u64::MAX`: never read.
    reading: AtomicU64,
    /// When it is full again, in milliseconds; 0: not said.
    reset: AtomicU64,
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaReport {
    /// The smallest share left.
    pub remaining: PerMille,
    /// How long ago that was read.
    pub age: Duration,
    /// How long until it is full again, where the provider said so.
    pub reset: Option<Duration>,
}

impl QuotaCell {
    fn new() -> Self {
        Self { reading: AtomicU64::new(u64::MAX), reset: AtomicU64::new(0) }
    }

    fn read(&self, at: Instant, remaining: PerMille, reset: Option<Duration>, epoch: Epoch) {
        let reset = reset.map_or(0, |reset| epoch.millis_rounded_up(at.checked_add(reset).unwrap_or(at)).max(1));
        self.reset.store(reset, Relaxed);
        let remaining = u64::from(remaining.get().min(1000));
        self.reading.store((epoch.millis(at).min(u64::MAX >> 11) << 10) | remaining, Relaxed);
    }

    /// The last reading, unless its time has run out.
    fn report(&self, now: Instant, epoch: Epoch) -> Option<QuotaReport> {
        let reading = self.reading.load(Relaxed);
        if reading == u64::MAX {
            return None;
        }
        let now_ms = epoch.millis(now);
        let age = Duration::from_millis(now_ms.saturating_sub(reading >> 10));
        let reset = self.reset.load(Relaxed);
        let is_over = match reset {
            0 => age > QUOTA_AGE_MAX,
            reset => reset <= now_ms,
        };
        let remaining = PerMille::new(u16::try_from(reading & 0x3ff).unwrap_or(1000));
        let reset = (reset > 0).then(|| Duration::from_millis(reset.saturating_sub(now_ms)));
        (!is_over).then_some(QuotaReport { remaining, age, reset })
    }
}

/// A reading without a time of reset says nothing after this.
const QUOTA_AGE_MAX: Duration = Duration::from_secs(60);

/// A provider, one of its credentials and a model there, with what was learned of them.
///
/// It outlives the actors that write it, and changes of the spec that keep it.
pub struct Target {
    /// Which target it is.
    pub id: TargetId,
    pub(crate) traffic: Traffic,
    pub(crate) gate: Gate,
    /// The breaker's state: written by `breaker:<provider>`, from where a restarted one goes on.
    pub(crate) breaker: Published<Breaker>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) epoch: Epoch,
    /// What it is reached with.
    pub(crate) fingerprint: Fingerprint,
    quota: QuotaCell,
    used: AtomicU64,
    /// Successes that were counted when it was last looked at.
    sampled: AtomicU64,
    /// When that was, in milliseconds.
    sampled_ms: AtomicU64,
    /// When a call last went well, at the latest, in milliseconds; 0: never.
    worked_ms: AtomicU64,
    is_replaced: AtomicBool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How a target does, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetReport {
    /// Whether it takes calls; pools in panic may use one that rests.
    pub standing: Standing,
    /// What its last rest is for, also when it is over and one call may try it.
    pub why: Option<Why>,
    /// Whether it rests because other nodes say so.
    pub is_told: bool,
    /// Calls in flight.
    pub in_flight: u32,
    /// Failures of the last 10 s that count.
    pub failures: u32,
    /// Rests for failures in a row.
    pub streak: u32,
    /// Its adaptive limit, where one is in force.
    pub limit: Option<u32>,
    /// What its provider last said about quota, while that holds.
    pub quota: Option<QuotaReport>,
}

/// The window of [`TargetReport::failures`].
const REPORT_WINDOW: Duration = Duration::from_secs(10);

impl Target {
    pub(crate) fn new(
        id: TargetId,
        fingerprint: Fingerprint,
        provider: Arc<Provider>,
        lanes: usize,
        epoch: Epoch,
        now: Instant,
    ) -> Self {
        Self {
            id,
            traffic: Traffic::new(lanes),
            gate: Gate::default(),
            breaker: Published::new(Breaker::new(), now),
            provider,
            epoch,
            fingerprint,
            quota: QuotaCell::new(),
            used: AtomicU64::new(epoch.millis(now)),
            sampled: AtomicU64::new(0),
            sampled_ms: AtomicU64::new(epoch.millis(now)),
            worked_ms: AtomicU64::new(0),
            is_replaced: AtomicBool::new(false),
        }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.traffic.in_flight()
    }

    /// How it does, for operators.
    pub fn report(&self, now: Instant) -> TargetReport {
        let breaker = self.breaker.read();
        let (failures, streak) = breaker.counts(now, REPORT_WINDOW);
        let limit = self.traffic.limit();
        let standing = match self.gate.standing(now, false, self.epoch) {
            Standing::Ready => match limit.filter(|limit| self.in_flight() >= *limit) {
                Some(limit) => Standing::Full { limit },
                None => Standing::Ready,
            },
            other @ (Standing::Probation | Standing::Probed | Standing::Resting { .. } | Standing::Full { .. }) => {
                other
            }
        };
        TargetReport {
            standing,
            why: breaker.rest_in_force().map(|(_, why)| why),
            is_told: breaker.told_rest(now).is_some(),
            in_flight: self.in_flight(),
            failures,
            streak,
            limit,
            quota: self.quota(now),
        }
    }

    pub(crate) fn quota(&self, now: Instant) -> Option<QuotaReport> {
        self.quota.report(now, self.epoch)
    }

    pub(crate) fn read_quota(&self, at: Instant, remaining: PerMille, reset: Option<Duration>) {
        self.quota.read(at, remaining, reset, self.epoch);
    }

    /// Looks whether calls went well since it last looked; called by one actor only.
    pub(crate) fn sample(&self, now: Instant) {
        let succeeded = self.traffic.tally().succeeded;
        // They may have been right after the last look: a success must not look younger than it is, for it refutes.
        let looked_ms = self.sampled_ms.swap(self.epoch.millis(now), Relaxed);
        if self.sampled.swap(succeeded, Relaxed) != succeeded {
            self.worked_ms.store(looked_ms.max(1), Relaxed);
        }
    }

    /// When a call last went well, as far as it was looked at; it may have been a little later.
    pub(crate) fn worked(&self) -> Option<Instant> {
        let worked = self.worked_ms.load(Relaxed);
        (worked > 0).then(|| self.epoch.instant(worked))
    }

    pub(crate) fn touch(&self, now: Instant) {
        self.used.store(self.epoch.millis(now), Relaxed);
    }

    /// Another target is reached by this one's name from now on. Calls that run end here, and decide nothing any more.
    pub(crate) fn replace(&self) {
        self.is_replaced.store(true, Relaxed);
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Relaxed)
    }

    /// When it was last used, in milliseconds of its epoch.
    pub(crate) fn used_ms(&self) -> u64 {
        self.used.load(Relaxed)
    }
}
