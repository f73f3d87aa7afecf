use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_proto::id::{ProviderId, TargetId};
use troupe_proto::unit::PerMille;

use super::logic::{IN_AIR_MAX, Pace, Rounds, pace, suspect};
use crate::breaker::Why;
use crate::layout::TargetRules;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn id(model: usize) -> TargetId {
    TargetId { provider: ProviderId::new("p"), credential: None, model: model.to_string().into() }
}

fn rules() -> TargetRules {
    TargetRules {
        failures: 5,
        window: Duration::from_secs(10),
        share: PerMille::new(500),
        rest: Duration::from_secs(5),
        rest_max: Duration::from_secs(60),
        credential_rest: Duration::from_secs(1800),
        slow_start: Duration::ZERO,
        panic: PerMille::ZERO,
        concurrency: None,
    }
}

fn resting(count: usize, pace: Pace) -> BTreeMap<TargetId, Pace> {
    (0..count).map(|model| (id(model), pace)).collect()
}

/// Of one that cannot be reached: every two seconds.
fn unreachable() -> Pace {
    pace(Why::Unreachable, 0, &rules()).unwrap()
}

/// The milliseconds at which one that stays as `pace` says is probed within `span`.
fn probed(rounds: &mut Rounds, pace: Pace, from: Instant, span: Duration) -> Vec<u128> {
    let mut probed = Vec::new();
    let mut at = Duration::ZERO;
    while at < span {
        for id in rounds.begin(&resting(1, pace), from + at, || 0) {
            rounds.landed(&id);
            probed.push(at.as_millis());
        }
        at += Duration::from_millis(100);
    }
    probed
}

#[test]
fn nothing_rests_nothing_is_probed() {
    let mut rounds = Rounds::default();

    let begun = rounds.begin(&BTreeMap::new(), start(), || 7);

    assert!(begun.is_empty());
    assert_eq!(rounds.next(start()), None);
}

#[test]
fn a_target_that_came_back_is_not_probed_again() {
    let (mut rounds, begin) = (Rounds::default(), start());
    rounds.begin(&resting(1, unreachable()), begin, || 0);

    let begun = rounds.begin(&BTreeMap::new(), begin + Duration::from_secs(9), || 0);

    assert!(begun.is_empty());
    assert_eq!(rounds.next(begin), None);
}

#[test]
fn a_probe_comes_after_its_period_and_not_while_one_is_in_the_air() {
    let (mut rounds, begin) = (Rounds::default(), start());
    let resting = resting(1, unreachable());
    let at = |ms| begin + Duration::from_millis(ms);

    assert!(rounds.begin(&resting, at(0), || 0).is_empty());
    assert!(rounds.begin(&resting, at(1_900), || 0).is_empty());
    assert_eq!(rounds.begin(&resting, at(2_000), || 0), [id(0)]);
    assert!(rounds.begin(&resting, at(9_000), || 0).is_empty(), "one is in the air");
    rounds.landed(&id(0));

    assert_eq!(rounds.begin(&resting, at(9_000), || 0), [id(0)]);
}

#[test]
fn a_refused_key_is_probed_soon_and_then_seldom() {
    let (mut rounds, begin) = (Rounds::default(), start());
    let refused = |refusals| pace(Why::Credential, refusals, &rules()).unwrap();

    let first = probed(&mut rounds, refused(1), begin, Duration::from_secs(70));
    // A probe found it good, and the next call was refused all the same.
    let again = begin + Duration::from_secs(100);
    let second = probed(&mut rounds, refused(2), again, Duration::from_secs(70));

    assert_eq!(first, [500, 30_500, 60_500]);
    assert_eq!(second, [1_000, 31_000, 61_000]);
    let late = probed(&mut rounds, refused(40), again + Duration::from_secs(70), Duration::from_secs(70));
    assert_eq!(late, [30_000, 60_000], "never later than ever");
}

#[test]
fn a_suspect_is_probed_at_once_and_once_in_two_seconds_however_often_it_is_cleared() {
    let (mut rounds, begin) = (Rounds::default(), start());
    let mut probes = Vec::new();

    for step in 0..100_u64 {
        let now = begin + Duration::from_millis(100 * step);
        for id in rounds.begin(&resting(1, suspect()), now, || 0) {
            rounds.landed(&id);
            probes.push(100 * step);
            // The probe finds somebody there; the next failure makes it suspect again.
            rounds.begin(&BTreeMap::new(), now, || 0);
        }
    }

    assert_eq!(probes, [200, 2_200, 4_200, 6_200, 8_200]);
}

#[test]
fn a_suspect_that_turns_out_dead_is_probed_as_often_as_its_short_rests_ask_for() {
    let (mut rounds, begin) = (Rounds::default(), start());
    let short = TargetRules { rest: Duration::from_millis(600), ..rules() };
    probed(&mut rounds, suspect(), begin, Duration::from_millis(300));

    let dead = pace(Why::Unreachable, 0, &short).unwrap();
    let probes = probed(&mut rounds, dead, begin + Duration::from_millis(300), Duration::from_secs(1));

    assert_eq!(probes, [300, 600, 900]);
}

proptest! {
    #[test]
    fn probes_in_the_air_are_bounded_and_none_starves(
        count in 1usize..40,
        dice in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let (mut rounds, begin) = (Rounds::default(), start());
        let resting = resting(count, unreachable());
        let mut probed = std::collections::BTreeSet::new();
        let mut dice = dice.into_iter().cycle();

        for step in 0..200_u64 {
            let now = begin + Duration::from_millis(100 * step);
            let begun = rounds.begin(&resting, now, || dice.next().unwrap_or(0));
            prop_assert!(begun.len() <= IN_AIR_MAX);
            for id in begun {
                rounds.landed(&id);
                probed.insert(id);
            }
        }

        prop_assert_eq!(probed.len(), count);
    }
}
