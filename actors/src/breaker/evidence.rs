//! Failures of one kind, and whether they are enough to rest a target. Pure.

use std::time::{Duration, Instant};

use crate::layout::TargetRules;
use crate::traffic::Tally;

/// A window is looked at in this many parts.
const PARTS: usize = 10;
/// This many times `failures` without a success in between are enough, whatever went well earlier in the window.
///
/// At 1,000 calls a second a share of the window would need seconds of failures after the calls that went well. A target
/// that fails one call in ten has ten failures in a row about once in 10^10 calls.
const RUN: u32 = 2;

/// The failures of one part of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    begin: Instant,
    failures: u32,
    /// Calls answered before the first failure of this part.
    answered_before: u64,
}

/// Failures of one kind. Bounded: ten parts, whatever the rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    parts: Vec<Part>,
    run: u32,
    succeeded: u64,
}

impl Evidence {
    /// Counts a failure, and says whether the target is to rest: where the failures from some moment of the window on are
    /// at least `failures`, and at least `share` of the calls answered from then on; or where twice as many came without
    /// a success in between.
    pub(crate) fn count(&mut self, now: Instant, tally: Tally, rules: &TargetRules) -> bool {
        self.run = if tally.succeeded == self.succeeded { self.run.saturating_add(1) } else { 1 };
        self.succeeded = tally.succeeded;
        self.expire(now, rules.window);
        self.note(now, tally, rules.window);
        let mut failures: u64 = 0;
        let is_enough = self.parts.iter().rev().any(|part| {
            failures = failures.saturating_add(u64::from(part.failures));
            let answered = tally.answered.saturating_sub(part.answered_before).max(failures);
            let is_share = failures.saturating_mul(1000) >= answered.saturating_mul(u64::from(rules.share.get()));
            failures >= u64::from(rules.failures.max(1)) && is_share
        });
        // All parts were walked where that was not enough, so `failures` are all those of the window.
        is_enough || u64::from(self.run).min(failures) >= u64::from(rules.failures.max(1).saturating_mul(RUN))
    }

    fn note(&mut self, now: Instant, tally: Tally, window: Duration) {
        let part = window / u32::try_from(PARTS).unwrap_or(1);
        match self.parts.last_mut() {
            Some(last) if now.saturating_duration_since(last.begin) < part => {
                last.failures = last.failures.saturating_add(1);
            }
            Some(_) | None => {
                // The failure itself is counted already.
                let answered_before = tally.answered.saturating_sub(1);
                self.parts.push(Part { begin: now, failures: 1, answered_before });
            }
        }
        // Parts begin at least a tenth of the window apart, so only one that sits on the edge can be too many.
        if self.parts.len() > PARTS {
            self.parts.remove(0);
        }
    }

    fn expire(&mut self, now: Instant, window: Duration) {
        self.parts.retain(|part| now.saturating_duration_since(part.begin) <= window);
    }

    pub(crate) fn failures(&self, now: Instant, window: Duration) -> u32 {
        let fresh = self.parts.iter().filter(|part| now.saturating_duration_since(part.begin) <= window);
        fresh.fold(0, |sum, part| sum.saturating_add(part.failures))
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Whether a target serves, as its failures tell: each brings along how many calls went well before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    succeeded: u64,
    /// When calls were last seen to have gone well. They may have been a while before that, so a target counts as one
    /// that serves for at most a window after its first failure.
    at: Option<Instant>,
}

impl Served {
    pub(crate) fn note(&mut self, now: Instant, tally: Tally) {
        if tally.succeeded != self.succeeded {
            *self = Self { succeeded: tally.succeeded, at: Some(now) };
        }
    }

    pub(crate) fn until(self, window: Duration) -> Option<Instant> {
        self.at?.checked_add(window)
    }
}
