//! Seeds of the simulated cluster, and what shows that it would find something.

use std::time::Duration;

use troupe_tests::sim::{Options, Outcome, Plant, run};

/// Short runs: what matters in the long ones is their number, and more of them run elsewhere.
const SPAN: Duration = Duration::from_secs(8);

fn outcome(seed: u64, plant: Plant) -> Outcome {
    run(seed, Options { plant, span: SPAN, has_steps: false })
}

fn hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let outcome = outcome(seed, Plant::None);

        let timeline: Vec<_> = outcome.lines.iter().map(ToString::to_string).collect();
        assert!(outcome.broken.is_empty(), "seed {seed}: {:#?}\n{}", outcome.broken, timeline.join("\n"));
        assert!(outcome.counts["acknowledged"] > 20, "seed {seed} did next to nothing: {:?}", outcome.counts);
    }
}

/// The first of so many seeds in which a planted bug is found, and how it showed.
fn found(plant: Plant, seeds: u64) -> Option<(u64, Vec<String>)> {
    (1..=seeds).map(|seed| (seed, outcome(seed, plant).broken)).find(|(_, broken)| !broken.is_empty())
}

#[test]
fn no_promise_is_broken_in_seeds_1_to_10() {
    hold(1..11);
}

#[test]
fn no_promise_is_broken_in_seeds_11_to_20() {
    hold(11..21);
}

#[test]
fn a_seed_runs_the_same_twice_and_unlike_another() {
    let (one, again, other) = (outcome(3, Plant::None), outcome(3, Plant::None), outcome(4, Plant::None));

    assert_eq!(one.lines, again.lines);
    assert_eq!((one.trace.clone(), one.state), (again.trace, again.state));
    assert_ne!(one.trace, other.trace);
}

#[test]
fn a_disk_that_acknowledges_before_it_has_synced_is_found() {
    let found = found(Plant::AckBeforeFsync, 20);

    assert!(found.is_some());
}

#[test]
fn a_command_that_looks_at_the_clock_is_found() {
    let (_, broken) = found(Plant::ClockInApply, 2).expect("within two seeds");

    assert!(broken.iter().any(|breach| breach.contains("and elsewhere") || breach.contains("holds")), "{broken:?}");
}

#[test]
fn a_wiped_host_under_its_old_id_is_found() {
    let found = found(Plant::ReusedId, 20);

    assert!(found.is_some());
}

#[test]
fn a_change_that_is_asked_for_again_under_a_fresh_number_is_found() {
    let (_, broken) = found(Plant::LostDedup, 10).expect("within ten seeds");

    assert!(broken.iter().any(|breach| breach.contains("more than once") || breach.contains("was told")), "{broken:?}");
}
