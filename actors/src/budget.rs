//! How many retries or hedges a pool may make: a share of its calls, and a floor.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use troupe_proto::unit::PerMille;

use crate::traffic::Epoch;

/// The window is looked at in slots of 100 ms: what is left for a slot is worked out once, under a lock, and taken from
/// an atomic after that.
const SLOT_MS: u64 = 100;
/// Slots of the window: 10 s.
const SLOTS: u64 = 100;
/// The floor's share of the window, in seconds.
const WINDOW_SECS: u64 = 10;

/// A pool's calls, counted by lane.
#[derive(Debug)]
pub(crate) struct Calls {
    lanes: Box<[Count]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Calls {
    pub(crate) fn new(lanes: usize) -> Self {
        Self { lanes: (0..lanes.max(1)).map(|_| Count::default()).collect() }
    }

    pub(crate) fn add(&self, lane: usize) {
        if let Some(count) = self.lanes.get(lane % self.lanes.len().max(1)) {
            count.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.lanes.iter().fold(0, |sum, lane| sum.saturating_add(lane.0.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
struct Ledger {
    calls: Arc<Calls>,
    share: PerMille,
    floor: u64,
    /// The most calls in flight that were seen since the slot began.
    busy: AtomicU64,
    window: Mutex<Window>,
    /// The slot in force (upper half) and what is left in it (lower half).
    left: AtomicU64,
    epoch: Epoch,
}

#[derive(Debug, Default)]
struct Window {
    slots: VecDeque<Slot>,
    /// What was allowed in the last slot; less what is left of it, it was taken.
    allowed: u64,
}

/// What one slot of the window saw.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    /// Calls of the pool before it.
    calls_before: u64,
    /// Known once it is over.
    taken: u64,
    /// The most calls in flight that were seen since the slot before it began.
    busy: u64,
}

/// The floor is not less than the calls in flight in this many slots: calls that fail at once leave one by one, and the
/// last of them asks when the first ones are no longer counted.
const BUSY_SLOTS: usize = 10;

/// No slot has this number: the next one is being worked out, or none was yet.
const TURNING: u32 = u32::MAX;

/// A share of a pool's calls of the last 10 s, and a floor, which is not less than its calls in flight.
///
/// Cheap to clone; clones take from the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Ledger>);

impl Budget {
    /// `floor` is what may be taken a second whatever the calls.
    pub(crate) fn new(calls: Arc<Calls>, share: PerMille, floor: u32, epoch: Epoch) -> Self {
        let floor = u64::from(floor).saturating_mul(WINDOW_SECS);
        let left = AtomicU64::new(pack(TURNING, 0));
        let busy = AtomicU64::new(0);
        Self(Arc::new(Ledger { calls, share, floor, busy, window: Mutex::default(), left, epoch }))
    }

    /// The same budget, if these are its terms.
    pub(crate) fn has_terms(&self, share: PerMille) -> bool {
        self.0.share == share
    }

    /// Looks at the calls so far, of which `busy` are in flight. Without it a pool that needed nothing for a while would
    /// have only its floor at first, and that is when it needs most.
    ///
    /// What is in flight when a target dies may all be tried once more: calls of minutes began before the window did. That
    /// happens once; an outage that lasts is held down by the share.
    pub(crate) fn sample(&self, now: Instant, busy: u64) {
        self.0.busy.fetch_max(busy, Ordering::Relaxed);
        self.look(now);
    }

    fn look(&self, now: Instant) {
        let slot = slot_of(self.0.epoch.millis(now));
        let (current, _) = unpack(self.0.left.load(Ordering::Acquire));
        if current == TURNING || current < slot {
            self.0.turn(slot);
        }
    }

    /// How many may be taken now.
    pub fn left(&self, now: Instant) -> u64 {
        self.look(now);
        let (_, left) = unpack(self.0.left.load(Ordering::Acquire));
        u64::from(left)
    }

    /// Takes one, if there is one.
    pub fn try_take(&self, now: Instant) -> bool {
        let slot = slot_of(self.0.epoch.millis(now));
        let mut word = self.0.left.load(Ordering::Acquire);
        loop {
            let (current, left) = unpack(word);
            // A clock read a moment earlier on another thread takes from the slot in force.
            if current == TURNING || current < slot {
                word = self.0.turn(slot);
                continue;
            }
            if left == 0 {
                return false;
            }
            match self.0.left.compare_exchange_weak(word, word - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
    }
}

impl Ledger {
    /// Works out what may be taken in `slot`, unless somebody did already. Returns the word in force.
    fn turn(&self, slot: u32) -> u64 {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let word = self.left.load(Ordering::Acquire);
        let (current, _) = unpack(word);
        if current != TURNING && current >= slot {
            return word;
        }
        // From here on nobody takes from the old slot, or what they took would be counted nowhere.
        let (_, unused) = unpack(self.left.swap(pack(TURNING, 0), Ordering::AcqRel));
        let busy = self.busy.swap(0, Ordering::Relaxed);
        let now = Now { number: u64::from(slot), unused: u64::from(unused), calls: self.calls.sum(), busy };
        let allowed = window.turn(&now, self.share, self.floor);
        let word = pack(slot, u32::try_from(allowed).unwrap_or(u32::MAX));
        self.left.store(word, Ordering::Release);
        word
    }
}

/// What a slot opens with.
struct Now {
    number: u64,
    /// What was left of the last slot's allowance.
    unused: u64,
    /// Calls of the pool so far.
    calls: u64,
    busy: u64,
}

impl Window {
    /// Closes the last slot, opens the next one and says what is allowed in it.
    fn turn(&mut self, now: &Now, share: PerMille, floor: u64) -> u64 {
        let Now { number, unused, calls, busy } = *now;
        if let Some(last) = self.slots.back_mut() {
            last.taken = self.allowed.saturating_sub(unused);
        }
        while self.slots.front().is_some_and(|slot| number.saturating_sub(slot.number) >= SLOTS) {
            self.slots.pop_front();
        }
        let calls_before = self.slots.front().map_or(calls, |first| first.calls_before);
        let share = calls.saturating_sub(calls_before).saturating_mul(u64::from(share.get())) / 1000;
        let taken = self.slots.iter().fold(0_u64, |sum, slot| sum.saturating_add(slot.taken));
        self.slots.push_back(Slot { number, calls_before: calls, taken: 0, busy });
        let recent = self.slots.iter().rev().take(BUSY_SLOTS);
        let recent = recent.filter(|slot| number.saturating_sub(slot.number) < SLOTS / 10);
        let floor = recent.map(|slot| slot.busy).fold(floor, u64::max);
        self.allowed = share.saturating_add(floor).saturating_sub(taken).min(u64::from(u32::MAX));
        debug_assert!(u64::try_from(self.slots.len()).is_ok_and(|slots| slots <= SLOTS), "the window is bounded");
        self.allowed
    }
}

/// The slot of a moment; after 13 years it stays at the last but one.
fn slot_of(millis: u64) -> u32 {
    u32::try_from(millis / SLOT_MS).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

fn pack(slot: u32, left: u32) -> u64 {
    (u64::from(slot) << 32) | u64::from(left)
}

fn unpack(word: u64) -> (u32, u32) {
    (u32::try_from(word >> 32).unwrap_or(u32::MAX), u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn budget(share: u16, floor: u32, begin: Instant) -> (Arc<Calls>, Budget) {
        let calls = Arc::new(Calls::new(2));
        let budget = Budget::new(calls.clone(), PerMille::new(share), floor, Epoch::new(begin));
        (calls, budget)
    }

    fn call(calls: &Calls, times: u64) {
        (0..times).for_each(|_| calls.add(0));
    }

    fn take(budget: &Budget, times: u64, now: Instant) -> u64 {
        u64::try_from((0..times).filter(|_| budget.try_take(now)).count()).unwrap()
    }

    #[test]
    fn without_calls_there_is_the_floor_of_ten_seconds() {
        let begin = start();
        let (_, budget) = budget(200, 10, begin);

        assert_eq!(take(&budget, 500, begin), 100);
        assert_eq!(take(&budget, 500, begin + Duration::from_secs(9)), 0);
        assert_eq!(take(&budget, 500, begin + Duration::from_secs(10)), 100);
    }

    #[test]
    fn what_is_left_is_told_without_taking_it() {
        let begin = start();
        let (_, budget) = budget(200, 10, begin);

        assert_eq!((budget.left(begin), budget.left(begin)), (100, 100));
        assert_eq!(take(&budget, 30, begin), 30);
        assert_eq!(budget.left(begin + Duration::from_secs(1)), 70);
    }

    #[test]
    fn calls_that_fail_at_once_may_all_be_tried_again_though_they_leave_one_by_one() {
        let begin = start();
        let (_, budget) = budget(0, 1, begin);
        budget.sample(begin, 300);
        assert_eq!(take(&budget, 100, begin + Duration::from_millis(10)), 100);

        // Half of them are gone when the slot turns.
        let turned = begin + Duration::from_millis(120);
        budget.sample(turned, 150);

        assert_eq!(take(&budget, 500, turned), 200);
        assert_eq!(take(&budget, 500, begin + Duration::from_millis(400)), 0);
    }

    #[test]
    fn a_share_of_the_calls_comes_on_top() {
        let begin = start();
        let (calls, budget) = budget(200, 10, begin);
        budget.sample(begin, 0);
        call(&calls, 1_000);

        let taken = take(&budget, 5_000, begin + Duration::from_secs(1));

        assert_eq!(taken, 100 + 200);
    }

    #[test]
    fn calls_older_than_the_window_count_no_more() {
        let begin = start();
        let (calls, budget) = budget(200, 0, begin);
        budget.sample(begin, 0);
        call(&calls, 1_000);
        budget.sample(begin + Duration::from_secs(1), 0);

        assert_eq!(take(&budget, 500, begin + Duration::from_secs(12)), 0);
    }

    #[test]
    fn a_clock_that_lags_on_one_thread_takes_from_the_slot_in_force() {
        let begin = start();
        let (_, budget) = budget(0, 1, begin);
        assert_eq!(take(&budget, 4, begin + Duration::from_secs(5)), 4);

        assert_eq!(take(&budget, 100, begin), 6);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let begin = start();
        let (calls, budget) = budget(200, 10, begin);
        budget.sample(begin, 0);

        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let (calls, budget) = (calls.clone(), budget.clone());
                    scope.spawn(move || {
                        let at = |step: u64| begin + Duration::from_millis(step / 2);
                        // Ten seconds less one slot, so that all of it is one window.
                        (0..19_000_u64).fold(0, |taken, step| {
                            calls.add(thread);
                            taken + u64::from(budget.try_take(at(step)))
                        })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });

        let most = calls.sum() / 5 + 100;
        assert!(taken <= most, "{taken} of {most}");
        assert!(taken > 100, "the share is used, too: {taken}");
    }

    proptest! {
        #[test]
        fn in_any_ten_seconds_no_more_is_taken_than_the_share_and_the_floor(
            steps in proptest::collection::vec((0u64..1_500, 0u64..200, 0u64..200), 1..150),
            share in 0u16..=1000,
            floor in 0u32..20,
        ) {
            let begin = start();
            let (calls, budget) = budget(share, floor, begin);
            let mut ms = 0;
            let mut log: Vec<(u64, u64, u64)> = Vec::new();

            for (wait, called, tries) in steps {
                ms += wait;
                call(&calls, called);
                let taken = take(&budget, tries, begin + Duration::from_millis(ms));
                log.push((ms / SLOT_MS, called, taken));

                let first = (ms / SLOT_MS).saturating_sub(SLOTS - 1);
                let window = log.iter().filter(|(slot, _, _)| *slot >= first);
                let (called, taken) = window.fold((0, 0), |(c, t), (_, called, taken)| (c + called, t + taken));
                // Calls leave the window before the retries they paid for; what matters is that none is added then.
                prop_assert!(
                    log.last().is_some_and(|(_, _, taken)| *taken == 0)
                        || taken <= called * u64::from(share) / 1000 + u64::from(floor) * 10,
                    "{taken} taken of {called} calls"
                );
            }
        }
    }
}
