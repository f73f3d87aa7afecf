//! What requests read of a breaker, and the one place on probation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::traffic::Epoch;

/// How long a verdict of the call on probation may wait for its actor before another call may try.
const VERDICT_WAIT_MS: u64 = 1_000;

/// Whether a target takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes calls.
    Ready,
    /// Its rest is over, and one call may try it.
    Probation,
    /// Its rest is over, and one call tries it now.
    Probed,
    /// It rests.
    Resting {
        /// The end of the rest.
        until: Instant,
        /// What it rests for.
        why: Why,
    },
    /// As many calls are in flight as may be.
    Full {
        /// How many that is.
        limit: u32,
    },
}

/// What a target rests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It failed too often.
    Failures,
    /// It could not be reached, or did not answer.
    Unreachable,
    /// It refused our credential.
    Credential,
    /// The account behind the credential is out of money or quota.
    Quota,
    /// It said when to come back.
    RetryAfter,
    /// It would refuse more calls for now.
    Paced,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Failures, Self::Unreachable, Self::Credential, Self::Quota, Self::RetryAfter, Self::Paced];

    /// The word used for it in metrics, logs and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Unreachable => "unreachable",
            Self::Credential => "credential",
            Self::Quota => "quota",
            Self::RetryAfter => "retry_after",
            Self::Paced => "paced",
        }
    }

    /// Whether it is our own conclusion, which a pool in panic ignores; the others were said by the provider.
    pub const fn is_soft(self) -> bool {
        match self {
            Self::Failures | Self::Unreachable => true,
            Self::Credential | Self::Quota | Self::RetryAfter | Self::Paced => false,
        }
    }

    const fn bits(self) -> u64 {
        match self {
            Self::Failures => 1,
            Self::Unreachable => 2,
            Self::Credential => 3,
            Self::Quota => 4,
            Self::RetryAfter => 5,
            Self::Paced => 6,
        }
    }

    const fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            1 => Some(Self::Failures),
            2 => Some(Self::Unreachable),
            3 => Some(Self::Credential),
            4 => Some(Self::Quota),
            5 => Some(Self::RetryAfter),
            6 => Some(Self::Paced),
            _ => None,
        }
    }
}

/// A call's place on probation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// What requests read.
///
/// `rest` is written by the breaker's actor only: 0, or the end of the rest in milliseconds and its reason. `place` is
/// written by calls, and says who is on probation: 0 nobody, an even number the call with that ticket, an odd one that
/// its verdict is on the way since then. `serves` is until when it counts as one that serves, in milliseconds: a pool that
/// has no other asks it though it rests for failures, and each call that goes well makes that longer.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    rest: AtomicU64,
    serves: AtomicU64,
    place: AtomicU64,
    tickets: AtomicU64,
}

impl Gate {
    pub(crate) fn rests(&self, until: Instant, why: Why, epoch: Epoch) {
        let until = epoch.millis_rounded_up(until).min(u64::MAX >> 3);
        self.rest.store((until << 3) | why.bits(), Ordering::Release);
    }

    pub(crate) fn serves(&self, until: Instant, epoch: Epoch) {
        self.serves.fetch_max(epoch.millis(until), Ordering::AcqRel);
    }

    /// Whether it rests, or did and has yet to show that it is back.
    pub(crate) fn is_resting(&self) -> bool {
        self.rest.load(Ordering::Acquire) != 0
    }

    /// Whether calls went well of late, as far as its failures and the calls since then tell.
    pub(crate) fn is_serving(&self, now: Instant, epoch: Epoch) -> bool {
        epoch.millis(now) < self.serves.load(Ordering::Acquire)
    }

    /// Ends the rest, not the doubt: one call may try.
    pub(crate) fn ends(&self, at: Instant, epoch: Epoch) {
        let rest = self.rest.load(Ordering::Acquire);
        if rest != 0 {
            // Rounded down: it is over at once.
            self.rest.store((epoch.millis(at).min(u64::MAX >> 3) << 3) | (rest & 7), Ordering::Release);
        }
    }

    pub(crate) fn resumes(&self) {
        self.rest.store(0, Ordering::Release);
    }

    fn rest(&self, epoch: Epoch) -> Option<(Instant, Why)> {
        let rest = self.rest.load(Ordering::Acquire);
        if rest == 0 {
            return None;
        }
        Why::from_bits(rest & 7).map(|why| (epoch.instant(rest >> 3), why))
    }

    fn is_place_free(&self, now_ms: u64) -> bool {
        Self::is_free(self.place.load(Ordering::Acquire), now_ms)
    }

    /// A verdict that its actor never took (it fell with it in hand) must not keep the place for ever.
    fn is_free(place: u64, now_ms: u64) -> bool {
        place == 0 || (place & 1 == 1 && now_ms.saturating_sub(place >> 1) > VERDICT_WAIT_MS)
    }

    /// How the breaker alone stands.
    pub(crate) fn standing(&self, now: Instant, is_panicking: bool, epoch: Epoch) -> Standing {
        match self.standing_in_place(now, is_panicking, epoch) {
            Standing::Probation if self.is_place_free(epoch.millis(now)) => Standing::Probation,
            Standing::Probation => match self.rest(epoch) {
                Some((_, why)) if is_panicking && why.is_soft() => Standing::Ready,
                Some(_) | None => Standing::Probed,
            },
            other @ (Standing::Ready | Standing::Probed | Standing::Resting { .. } | Standing::Full { .. }) => other,
        }
    }

    /// How it stands for the call that has the place.
    pub(crate) fn standing_in_place(&self, now: Instant, is_panicking: bool, epoch: Epoch) -> Standing {
        match self.rest(epoch) {
            None => Standing::Ready,
            Some((until, why)) if until > now => match is_panicking && why.is_soft() {
                true => Standing::Ready,
                false => Standing::Resting { until, why },
            },
            Some(_) => Standing::Probation,
        }
    }

    /// Takes the place on probation; of any number of calls at a time one gets it.
    pub(crate) fn take_place(&self, now: Instant, epoch: Epoch) -> Option<Place> {
        let before = self.place.load(Ordering::Acquire);
        if !Self::is_free(before, epoch.millis(now)) {
            return None;
        }
        // Tickets are never used twice, so a late call cannot give up another one's place.
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed).saturating_add(1) << 1;
        self.place.compare_exchange(before, ticket, Ordering::AcqRel, Ordering::Acquire).ok().map(|_| Place(ticket))
    }

    /// Gives the place back without a verdict.
    pub(crate) fn leave(&self, place: &Place) {
        // It fails where the place is another's by now; then there is nothing to give back.
        self.place.compare_exchange(place.0, 0, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// Keeps the place for a verdict on its way, until the actor has decided.
    pub(crate) fn hand_over(&self, place: &mut Place, now: Instant, epoch: Epoch) {
        let handed = (epoch.millis(now) << 1) | 1;
        if self.place.compare_exchange(place.0, handed, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            place.0 = handed;
        }
    }
}
