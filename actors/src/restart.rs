//! When a fallen actor is started again, and when its branch gives up. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before a restart.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// The longest pause before a restart. Short enough that who falls at once each time is given up within the time that
/// falls are counted in; a longer one would have it fall for ever.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// How many falls are borne in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intensity {
    pub(crate) falls_max: usize,
    pub(crate) within: Duration,
}

impl Intensity {
    /// For an actor at work: its branch starts anew when it cannot stay up.
    pub(crate) const CHILD: Self = Self { falls_max: 5, within: Duration::from_secs(10) };
    /// For a branch: the root starts anew when it cannot stay up.
    pub(crate) const BRANCH: Self = Self { falls_max: 10, within: Duration::from_secs(10) };
    /// For the root: beyond it the node drains. Wide enough that a drill which ends it once a second goes on.
    pub(crate) const ROOT: Self = Self { falls_max: 20, within: Duration::from_secs(10) };
}

/// What to do about a fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after a pause.
    Restart { after: Duration },
    /// It falls too often; whoever supervises the supervisor decides.
    GiveUp,
}

/// The falls of one actor that still count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Falls {
    at: VecDeque<Instant>,
}

impl Falls {
    /// Judges a fall at `now`. `dice` spreads the pauses, so that what fell together does not start together.
    pub(crate) fn fell(&mut self, now: Instant, dice: u64, intensity: Intensity) -> Verdict {
        while self.at.front().is_some_and(|at| now.saturating_duration_since(*at) > intensity.within) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        if self.at.len() > intensity.falls_max {
            return Verdict::GiveUp;
        }
        debug_assert!(self.at.len() <= intensity.falls_max, "falls that count are bounded");
        Verdict::Restart { after: pause(self.at.len(), dice) }
    }
}

/// The pause before restart number `nth` (from 1): doubling, and drawn from the upper half of it.
fn pause(nth: usize, dice: u64) -> Duration {
    let doublings = u32::try_from(nth.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let whole = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
    let half = whole / 2;
    let half_us = u64::try_from(half.as_micros()).unwrap_or(0);
    half + Duration::from_micros(dice % half_us.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FEW: Intensity = Intensity { falls_max: 5, within: Duration::from_secs(10) };

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_sixth_fall_in_ten_seconds_gives_up() {
        let (mut falls, begin) = (Falls::default(), start());

        let verdicts: Vec<_> = (0..6).map(|s| falls.fell(begin + Duration::from_secs(s), 0, FEW)).collect();

        assert!(verdicts.iter().take(5).all(|verdict| matches!(verdict, Verdict::Restart { .. })));
        assert_eq!(verdicts.last(), Some(&Verdict::GiveUp));
    }

    #[test]
    fn who_falls_at_once_each_time_is_given_up() {
        for intensity in [Intensity::CHILD, Intensity::BRANCH, Intensity::ROOT] {
            let (mut falls, mut now, mut restarts) = (Falls::default(), start(), 0);

            while let Verdict::Restart { after } = falls.fell(now, u64::MAX, intensity) {
                now += after;
                restarts += 1;
                assert!(restarts <= intensity.falls_max, "{intensity:?} goes on for ever");
            }

            assert_eq!(restarts, intensity.falls_max);
        }
    }

    #[test]
    fn rare_falls_are_borne_for_ever_with_the_shortest_pause() {
        let (mut falls, begin) = (Falls::default(), start());

        for hour in 0..100 {
            let verdict = falls.fell(begin + Duration::from_secs(3600 * hour), 0, FEW);

            assert_eq!(verdict, Verdict::Restart { after: PAUSE_FIRST / 2 });
        }
    }

    #[test]
    fn pauses_double_from_fall_to_fall() {
        let (mut falls, begin) = (Falls::default(), start());

        let pauses: Vec<_> = (0..3)
            .filter_map(|_| match falls.fell(begin, 0, FEW) {
                Verdict::Restart { after } => Some(after.as_millis()),
                Verdict::GiveUp => None,
            })
            .collect();

        assert_eq!(pauses, [5, 10, 20]);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_longest(nth in 0usize..1000, dice: u64) {
            let pause = pause(nth, dice);

            prop_assert!(pause >= PAUSE_FIRST / 2 && pause <= PAUSE_MAX);
        }
    }
}
