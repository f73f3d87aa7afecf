use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_proto::id::{ProviderId, TargetId};

use super::logic::{IN_AIR_MAX, Rounds};

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn id(model: usize) -> TargetId {
    TargetId { provider: ProviderId::new("p"), credential: None, model: model.to_string().into() }
}

fn resting(count: usize, period: Duration) -> BTreeMap<TargetId, Duration> {
    (0..count).map(|model| (id(model), period)).collect()
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
    rounds.begin(&resting(1, Duration::from_secs(2)), begin, || 0);

    let begun = rounds.begin(&BTreeMap::new(), begin + Duration::from_secs(9), || 0);

    assert!(begun.is_empty());
    assert_eq!(rounds.next(begin), None);
}

#[test]
fn a_probe_comes_after_its_period_and_not_while_one_is_in_the_air() {
    let (mut rounds, begin) = (Rounds::default(), start());
    let resting = resting(1, Duration::from_secs(2));
    let at = |ms| begin + Duration::from_millis(ms);

    assert!(rounds.begin(&resting, at(0), || 0).is_empty());
    assert!(rounds.begin(&resting, at(1_900), || 0).is_empty());
    assert_eq!(rounds.begin(&resting, at(2_000), || 0), [id(0)]);
    assert!(rounds.begin(&resting, at(9_000), || 0).is_empty(), "one is in the air");
    rounds.landed(&id(0));

    assert_eq!(rounds.begin(&resting, at(9_000), || 0), [id(0)]);
}

proptest! {
    #[test]
    fn probes_in_the_air_are_bounded_and_none_starves(
        count in 1usize..40,
        dice in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let (mut rounds, begin) = (Rounds::default(), start());
        let resting = resting(count, Duration::from_secs(2));
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
