use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_proto::unit::PerMille;

use super::logic::{Breaker, Effect, Event, Finding, REST_CAP, Source, Verdict};
use super::view::{Gate, Standing, Why};
use crate::layout::TargetRules;
use crate::traffic::{Epoch, Tally};

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rules() -> TargetRules {
    TargetRules {
        failures: 5,
        window: secs(10),
        share: PerMille::new(500),
        rest: secs(5),
        rest_max: secs(60),
        credential_rest: secs(1800),
        slow_start: secs(10),
        panic: PerMille::ZERO,
        concurrency: None,
    }
}

/// The middle of the spread: rests last exactly as long as the rules say.
fn middle(rest: Duration) -> u64 {
    u64::try_from((rest / 10).as_millis()).unwrap()
}

/// A breaker, and the calls it hears of.
struct Bench {
    breaker: Breaker,
    tally: Tally,
    now: Instant,
    rules: TargetRules,
}

impl Bench {
    fn new() -> Self {
        Self { breaker: Breaker::new(), tally: Tally::default(), now: start(), rules: rules() }
    }

    fn wait(&mut self, wait: Duration) -> &mut Self {
        self.now += wait;
        self
    }

    fn succeed(&mut self, times: u64) -> &mut Self {
        self.tally.answered += times;
        self.tally.succeeded += times;
        self
    }

    fn hear(&mut self, event: Event) -> Option<Effect> {
        self.breaker.on(event, self.now, middle(self.rules.rest), &self.rules)
    }

    fn ill(&mut self) -> Verdict {
        self.tally.answered += 1;
        self.tally.failed += 1;
        Verdict::Ill { is_unreachable: false, retry_after: None, tally: self.tally }
    }

    fn busy(&mut self, retry_after: Option<Duration>) -> Verdict {
        self.tally.answered += 1;
        self.tally.failed += 1;
        Verdict::Busy { retry_after, tally: self.tally }
    }

    fn fail(&mut self, times: usize) -> Option<Effect> {
        let mut effect = None;
        for _ in 0..times {
            let verdict = self.ill();
            effect = effect.or(self.hear(Event::Reported(verdict)));
        }
        effect
    }

    /// Waits out the rest in force and lets the one call on probation report.
    fn judge(&mut self, verdict: Verdict) -> Option<Effect> {
        if let Some((until, _)) = self.breaker.rest_in_force() {
            self.now = self.now.max(until);
        }
        self.hear(Event::Judged(verdict))
    }

    fn rests_for(&self, effect: Option<Effect>) -> Option<(Duration, Why)> {
        match effect {
            Some(Effect::Rests { until, why }) => Some((until - self.now, why)),
            Some(Effect::Ends | Effect::Resumes | Effect::Suspects) | None => None,
        }
    }
}

#[test]
fn the_fifth_failure_in_the_window_rests_the_target() {
    let mut bench = Bench::new();

    let four = bench.fail(4);
    let fifth = bench.fail(1);

    assert_eq!(four, None);
    assert_eq!(bench.rests_for(fifth), Some((secs(5), Why::Failures)));
}

#[test]
fn failures_spread_wider_than_the_window_rest_nothing() {
    let mut bench = Bench::new();

    for _ in 0..100 {
        assert_eq!(bench.wait(secs(3)).fail(1), None);
    }
}

#[test]
fn failures_that_are_a_small_share_of_the_calls_rest_nothing() {
    let mut bench = Bench::new();

    for _ in 0..1000 {
        let effect = bench.wait(Duration::from_millis(10)).succeed(9).fail(1);

        assert_eq!(effect, None);
    }
}

#[test]
fn a_busy_target_that_dies_rests_after_twice_the_failures_in_a_row() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.wait(Duration::from_millis(10)).succeed(20).fail(1);
    }

    let nine = bench.succeed(1).fail(9);
    let tenth = bench.fail(1);

    assert_eq!(nine, None);
    assert_eq!(bench.rests_for(tenth), Some((secs(5), Why::Failures)));
}

#[test]
fn half_of_the_calls_failing_rests_the_target_within_the_window() {
    let mut bench = Bench::new();
    bench.succeed(100_000);

    let rested = (0..10).any(|_| bench.wait(Duration::from_millis(100)).succeed(1).fail(1).is_some());

    assert!(rested);
}

#[test]
fn each_rest_in_a_row_is_twice_as_long_up_to_the_longest() {
    let mut bench = Bench::new();
    let first = bench.fail(5);
    let mut rests = vec![bench.rests_for(first).unwrap().0];

    for _ in 0..6 {
        let verdict = bench.ill();
        let effect = bench.judge(verdict);
        rests.push(bench.rests_for(effect).unwrap().0);
    }

    // The die is the middle of the first rest's spread only, so later ones are up to a tenth shorter.
    let bounds = [5, 10, 20, 40, 60, 60, 60].map(secs);
    for (rest, bound) in rests.iter().zip(bounds) {
        assert!(*rest <= bound && *rest >= bound - bound / 10, "{rests:?}");
    }
}

#[test]
fn a_target_that_was_well_for_long_begins_with_the_shortest_rest_again() {
    let mut bench = Bench::new();
    bench.fail(5);
    let verdict = bench.ill();
    bench.judge(verdict);
    bench.judge(Verdict::Works);

    let effect = bench.wait(secs(300)).fail(5);

    assert_eq!(bench.rests_for(effect), Some((secs(5), Why::Failures)));
}

#[test]
fn the_call_on_probation_closes_the_breaker_and_the_weight_grows_from_then() {
    let mut bench = Bench::new();
    bench.fail(5);

    let effect = bench.judge(Verdict::Works);

    assert_eq!(effect, Some(Effect::Resumes));
    assert_eq!(bench.breaker.slow_from(), Some(bench.now));
    assert_eq!(bench.fail(4), None, "old failures are forgotten");
}

#[test]
fn calls_begun_before_the_rest_change_nothing() {
    let mut bench = Bench::new();
    bench.fail(5);
    let before = bench.breaker.clone();

    let effect = bench.fail(20);
    let works = bench.hear(Event::Reported(Verdict::Works));

    assert_eq!((effect, works), (None, None));
    assert_eq!(bench.breaker, before);
}

#[test]
fn a_refused_credential_rests_long_at_the_first() {
    let mut bench = Bench::new();

    let effect = bench.hear(Event::Reported(Verdict::Refused));

    assert_eq!(bench.rests_for(effect), Some((secs(1800), Why::Credential)));
}

#[test]
fn an_exhausted_account_rests_at_least_a_sixth_of_that() {
    let mut bench = Bench::new();

    let plain = bench.hear(Event::Reported(Verdict::Exhausted { retry_after: Some(secs(1)) }));
    let longer = bench.hear(Event::Reported(Verdict::Exhausted { retry_after: Some(secs(7200)) }));

    assert_eq!(bench.rests_for(plain), Some((secs(300), Why::Quota)));
    assert_eq!(bench.rests_for(longer), Some((secs(7200), Why::Quota)));
}

#[test]
fn retry_after_is_a_floor_up_to_a_day() {
    let mut bench = Bench::new();

    let verdict = bench.busy(Some(secs(7)));
    let week = bench.busy(Some(secs(7 * 24 * 3600)));
    let effect = bench.hear(Event::Reported(verdict));
    let long = bench.hear(Event::Reported(week));
    let shorter = bench.busy(Some(secs(9)));
    let short = bench.hear(Event::Reported(shorter));

    assert_eq!(bench.rests_for(effect), Some((secs(7), Why::RetryAfter)));
    assert_eq!(bench.rests_for(long), Some((REST_CAP, Why::RetryAfter)));
    assert_eq!(short, None, "a rest is never made shorter");
}

#[test]
fn a_failure_that_says_when_to_come_back_is_believed_once_it_rests() {
    let mut bench = Bench::new();
    bench.fail(4);

    let effect = bench.hear(Event::Reported(Verdict::Ill {
        is_unreachable: false,
        retry_after: Some(secs(90)),
        tally: bench.tally,
    }));

    assert_eq!(bench.rests_for(effect), Some((secs(90), Why::Failures)));
}

#[test]
fn a_target_that_asks_to_slow_down_is_paced_and_never_ill() {
    let mut bench = Bench::new();

    let mut effects = Vec::new();
    for _ in 0..5 {
        let verdict = bench.busy(None);
        effects.push(bench.hear(Event::Reported(verdict)));
    }

    assert!(effects.iter().take(4).all(Option::is_none));
    assert_eq!(bench.rests_for(effects[4]), Some((secs(5), Why::Paced)));
    assert_eq!(bench.breaker.counts(bench.now, secs(10)), (0, 0));
}

#[test]
fn slowing_down_and_failing_are_counted_apart() {
    let mut bench = Bench::new();

    for _ in 0..4 {
        let busy = bench.busy(None);
        assert_eq!(bench.hear(Event::Reported(busy)), None);
        assert_eq!(bench.fail(1), None);
    }
}

#[test]
fn a_spent_quota_rests_until_it_is_full_again() {
    let mut bench = Bench::new();

    let effect = bench.hear(Event::Reported(Verdict::Spent { reset: Some(Duration::from_millis(120)) }));

    assert_eq!(bench.rests_for(effect), Some((Duration::from_millis(120), Why::Paced)));
    assert_eq!(bench.judge(Verdict::Works), Some(Effect::Resumes));
    assert_eq!(bench.breaker.slow_from(), None, "nothing cooled down in so short a time");
}

#[test]
fn refusals_in_a_row_count_those_of_calls_that_decide_until_one_works() {
    let mut bench = Bench::new();
    let refused = Event::Reported(Verdict::Refused);

    bench.hear(refused);
    bench.hear(refused);
    assert_eq!(bench.breaker.refusals(), 1, "the second began before the rest");
    bench.hear(Event::Probed(Finding::Alive, Source::Own));
    bench.hear(Event::Judged(Verdict::Refused));
    assert_eq!(bench.breaker.refusals(), 2, "a probe that finds the key good has not shown that calls are");
    bench.hear(Event::Probed(Finding::Alive, Source::Own));
    bench.hear(Event::Judged(Verdict::Works));

    assert_eq!(bench.breaker.refusals(), 0);
}

#[test]
fn a_refused_credential_is_not_forgotten_for_a_quota() {
    let mut bench = Bench::new();
    bench.rules.credential_rest = secs(10);
    bench.hear(Event::Reported(Verdict::Refused));

    let quota = bench.hear(Event::Reported(Verdict::Exhausted { retry_after: Some(secs(100)) }));

    assert_eq!(quota, None);
}

fn unreachable(bench: &mut Bench) -> Option<Effect> {
    let mut effect = None;
    for _ in 0..5 {
        bench.tally.answered += 1;
        let verdict = Verdict::Ill { is_unreachable: true, retry_after: None, tally: bench.tally };
        effect = bench.hear(Event::Reported(verdict));
    }
    effect
}

#[test]
fn a_probe_that_finds_the_target_alive_ends_the_rest_and_a_call_decides() {
    let mut bench = Bench::new();
    let effect = unreachable(&mut bench);
    assert_eq!(bench.rests_for(effect), Some((secs(5), Why::Unreachable)));

    let ended = bench.wait(secs(2)).hear(Event::Probed(Finding::Alive, Source::Own));

    assert_eq!(ended, Some(Effect::Ends));
    assert_eq!(bench.breaker.rest_in_force(), Some((bench.now, Why::Unreachable)));
    assert_eq!(bench.hear(Event::Judged(Verdict::Works)), Some(Effect::Resumes));
}

#[test]
fn a_dead_target_rests_for_as_long_as_probes_say_so() {
    let mut bench = Bench::new();
    unreachable(&mut bench);

    for _ in 0..100 {
        let effect = bench.wait(secs(2)).hear(Event::Probed(Finding::Dead, Source::Own));

        assert_eq!(bench.rests_for(effect).unwrap().1, Why::Unreachable);
        assert!(bench.breaker.rest_in_force().unwrap().0 > bench.now + secs(2));
    }
}

#[test]
fn a_probe_that_is_refused_rests_the_credential() {
    let mut bench = Bench::new();
    unreachable(&mut bench);

    let effect = bench.hear(Event::Probed(Finding::CredentialRefused, Source::Own));

    assert_eq!(bench.rests_for(effect), Some((secs(1800), Why::Credential)));
}

#[test]
fn probes_shorten_no_rest_whose_cause_they_cannot_see() {
    for verdict in [
        Verdict::Exhausted { retry_after: None },
        Verdict::Busy { retry_after: Some(secs(60)), tally: Tally::default() },
        Verdict::Spent { reset: Some(secs(60)) },
    ] {
        let mut bench = Bench::new();
        bench.hear(Event::Reported(verdict));

        for finding in [Finding::Alive, Finding::Dead, Finding::CredentialRefused] {
            assert_eq!(bench.hear(Event::Probed(finding, Source::Own)), None, "{verdict:?} {finding:?}");
        }
    }
}

#[test]
fn a_place_left_without_a_verdict_is_free_and_one_with_a_verdict_waits_for_the_actor() {
    let (gate, begin) = (Gate::default(), start());
    let epoch = Epoch::new(begin);
    gate.rests(begin + secs(1), Why::Failures, epoch);
    let after = begin + secs(2);

    assert_eq!(gate.take_place(begin + secs(2), epoch).map(|place| gate.leave(&place)), Some(()));
    let mut place = gate.take_place(after, epoch).unwrap();
    assert_eq!(gate.standing(after, false, epoch), Standing::Probed);
    gate.hand_over(&mut place, after, epoch);

    assert_eq!(gate.take_place(after + Duration::from_millis(900), epoch), None);
    // An actor that fell with the verdict in hand does not keep the target out for ever.
    assert_eq!(gate.standing(after + Duration::from_millis(1_100), false, epoch), Standing::Probation);
}

#[test]
fn a_late_call_cannot_give_up_the_place_of_another() {
    let (gate, begin) = (Gate::default(), start());
    let epoch = Epoch::new(begin);
    let mut late = gate.take_place(begin, epoch).unwrap();
    let stale = gate.take_place(begin, epoch);
    gate.hand_over(&mut late, begin, epoch);
    let second = gate.take_place(begin + secs(2), epoch).unwrap();

    gate.leave(&late);

    assert_eq!(stale, None);
    assert_eq!(gate.take_place(begin + secs(2), epoch), None, "{second:?} still has it");
}

#[test]
fn a_panicking_pool_ignores_our_own_conclusions_and_nothing_a_provider_said() {
    let begin = start();
    let epoch = Epoch::new(begin);

    for why in Why::ALL {
        let gate = Gate::default();
        gate.rests(begin + secs(5), why, epoch);

        let is_ready = gate.standing(begin, true, epoch) == Standing::Ready;

        assert_eq!(is_ready, why.is_soft(), "{why:?}");
        assert!(matches!(gate.standing(begin, false, epoch), Standing::Resting { .. }));
    }
}

#[test]
fn a_call_that_got_through_says_more_than_a_probe_that_did_not() {
    let mut bench = Bench::new();
    unreachable(&mut bench);
    bench.wait(secs(5)).hear(Event::Probed(Finding::Dead, Source::Own));

    let effect = bench.hear(Event::Judged(Verdict::Works));

    assert_eq!(effect, Some(Effect::Resumes));
}

#[test]
fn no_rules_are_too_large_to_rest_by() {
    let mut bench = Bench::new();
    bench.rules.rest = Duration::MAX;
    bench.rules.rest_max = Duration::MAX;
    bench.rules.credential_rest = Duration::MAX;
    bench.rules.window = Duration::MAX;

    let mut rests = Vec::new();
    for _ in 0..5 {
        bench.tally.answered += 1;
        let verdict = Verdict::Ill { is_unreachable: true, retry_after: Some(Duration::MAX), tally: bench.tally };
        rests.push(bench.breaker.on(Event::Reported(verdict), bench.now, 0, &bench.rules));
    }
    rests.push(bench.breaker.on(Event::Probed(Finding::Dead, Source::Own), bench.now, 0, &bench.rules));
    rests.push(bench.breaker.on(Event::Reported(Verdict::Refused), bench.now, 0, &bench.rules));

    assert!(rests.iter().any(Option::is_some));
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let wait = || prop_oneof![Just(None), (1u64..10_000_000).prop_map(|ms| Some(Duration::from_millis(ms)))];
    let tally = || {
        (0u64..1000, 0u64..1000).prop_map(|(ok, failed)| Tally {
            answered: ok + failed,
            succeeded: ok,
            timed: ok,
            failed,
            first_token_us: 0,
        })
    };
    prop_oneof![
        Just(Verdict::Works),
        (any::<bool>(), wait(), tally()).prop_map(|(is_unreachable, retry_after, tally)| Verdict::Ill {
            is_unreachable,
            retry_after,
            tally
        }),
        (wait(), tally()).prop_map(|(retry_after, tally)| Verdict::Busy { retry_after, tally }),
        Just(Verdict::Refused),
        wait().prop_map(|retry_after| Verdict::Exhausted { retry_after }),
        wait().prop_map(|reset| Verdict::Spent { reset }),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        verdicts().prop_map(Event::Reported),
        verdicts().prop_map(Event::Judged),
        (
            prop_oneof![Just(Finding::Alive), Just(Finding::Dead), Just(Finding::CredentialRefused)],
            prop_oneof![Just(Source::Own), Just(Source::Others)],
        )
            .prop_map(|(finding, source)| Event::Probed(finding, source)),
    ]
}

proptest! {
    #[test]
    fn a_rest_is_bounded_and_the_target_recovers_once_calls_succeed(
        steps in proptest::collection::vec((events(), 0u64..20_000, any::<u64>()), 1..100),
    ) {
        let (mut breaker, rules, mut now) = (Breaker::new(), rules(), start());
        for (event, wait_ms, dice) in steps {
            now += Duration::from_millis(wait_ms);
            if let Some(Effect::Rests { until, why }) = breaker.on(event, now, dice, &rules) {
                let said = matches!(
                    event,
                    Event::Reported(Verdict::Ill { retry_after: Some(_), .. })
                        | Event::Judged(Verdict::Ill { retry_after: Some(_), .. })
                );
                let most = match why {
                    Why::Failures | Why::Unreachable if !said => rules.rest_max,
                    Why::Credential => rules.credential_rest,
                    Why::Failures | Why::Unreachable | Why::Quota | Why::RetryAfter | Why::Paced => REST_CAP,
                };
                prop_assert!(until - now <= most, "{event:?} rests {:?}", until - now);
            }
        }

        now += REST_CAP;
        breaker.on(Event::Judged(Verdict::Works), now, 0, &rules);

        prop_assert_eq!(breaker.rest_in_force(), None);
    }

    #[test]
    fn asking_to_slow_down_is_never_ill_health(
        steps in proptest::collection::vec((0u64..3_000, proptest::option::of(1u64..100_000), any::<u64>()), 1..200),
    ) {
        let mut bench = Bench::new();
        for (wait_ms, retry_after, dice) in steps {
            bench.wait(Duration::from_millis(wait_ms));
            let verdict = bench.busy(retry_after.map(Duration::from_millis));
            let event = if bench.breaker.rest_in_force().is_some() { Event::Judged(verdict) } else { Event::Reported(verdict) };

            let effect = bench.breaker.on(event, bench.now, dice, &bench.rules);

            if let Some(Effect::Rests { why, .. }) = effect {
                prop_assert!(!why.is_soft(), "{why:?}");
            }
            prop_assert_eq!(bench.breaker.counts(bench.now, secs(10)), (0, 0));
        }
    }

    #[test]
    fn never_two_calls_on_probation_at_once(
        steps in proptest::collection::vec((0usize..8, 0u8..5, 0u64..700), 1..300),
    ) {
        // Eight calls take, leave or judge in any order; a judged place counts as held until the actor clears it.
        let (gate, begin) = (Gate::default(), start());
        let epoch = Epoch::new(begin);
        let mut now = begin + secs(10);
        let mut live: [Option<super::view::Place>; 8] = Default::default();
        let mut handed = Vec::new();
        for (who, what, wait_ms) in steps {
            now += Duration::from_millis(wait_ms);
            match what {
                0 | 1 if live[who].is_none() => live[who] = gate.take_place(now, epoch),
                2 => {
                    if let Some(place) = live[who].take() {
                        gate.leave(&place);
                    }
                }
                3 => {
                    if let Some(mut place) = live[who].take() {
                        gate.hand_over(&mut place, now, epoch);
                        handed.push(place);
                    }
                }
                _ => {
                    for place in handed.drain(..) {
                        gate.leave(&place);
                    }
                }
            }
            prop_assert!(live.iter().flatten().count() <= 1);
        }
    }
}

#[test]
fn one_call_that_reached_nobody_makes_a_target_suspect_and_a_probe_decides() {
    for (finding, is_resting) in [(Finding::Dead, true), (Finding::Alive, false), (Finding::Answers, false)] {
        let mut bench = Bench::new();
        bench.tally.answered += 1;
        let unreachable = Verdict::Ill { is_unreachable: true, retry_after: None, tally: bench.tally };

        assert_eq!(bench.hear(Event::Reported(unreachable)), Some(Effect::Suspects));
        assert!(bench.breaker.is_suspect(bench.now));
        let effect = bench.hear(Event::Probed(finding, Source::Own));

        assert_eq!(matches!(effect, Some(Effect::Rests { why: Why::Unreachable, .. })), is_resting, "{finding:?}");
        assert!(!bench.breaker.is_suspect(bench.now), "one probe is enough");
        if !is_resting {
            assert_eq!(
                bench.hear(Event::Probed(Finding::Dead, Source::Own)),
                None,
                "without suspicion no probe rests it"
            );
        }
    }
}

#[test]
fn probes_are_not_believed_for_ever() {
    let mut bench = Bench::new();
    let unreachable = Verdict::Ill { is_unreachable: true, retry_after: None, tally: bench.tally };
    bench.hear(Event::Reported(unreachable));
    bench.hear(Event::Probed(Finding::Dead, Source::Own));

    let mut is_open = false;
    for _ in 0..1_000 {
        bench.now += Duration::from_secs(2);
        bench.hear(Event::Probed(Finding::Dead, Source::Own));
        is_open |= bench.breaker.rest_in_force().is_some_and(|(until, _)| until <= bench.now);
    }

    assert!(is_open, "a live call may try a target whose list of models never comes");
}

#[test]
fn a_server_that_lists_its_models_and_serves_none_rests_its_time_in_the_end() {
    let mut bench = Bench::new();
    let ill = |bench: &Bench| Verdict::Ill { is_unreachable: true, retry_after: None, tally: bench.tally };
    let first = ill(&bench);
    bench.hear(Event::Reported(first));
    bench.hear(Event::Probed(Finding::Dead, Source::Own));

    let mut reasons = Vec::new();
    for _ in 0..3 {
        reasons.push(bench.breaker.rest_in_force().map(|(_, why)| why));
        bench.hear(Event::Probed(Finding::Alive, Source::Own));
        let again = ill(&bench);
        bench.judge(again);
    }
    reasons.push(bench.breaker.rest_in_force().map(|(_, why)| why));
    bench.judge(Verdict::Works);
    let back = ill(&bench);
    bench.hear(Event::Reported(back));
    bench.hear(Event::Probed(Finding::Dead, Source::Own));

    let (probed, runs) = (Some(Why::Unreachable), Some(Why::Failures));
    assert_eq!(reasons, [probed, probed, runs, runs]);
    assert_eq!(bench.breaker.rest_in_force().map(|(_, why)| why), probed, "one that worked is believed again");
}

#[test]
fn what_others_reach_and_this_node_does_not_is_probed_by_itself_and_one_answer_ends_the_rest() {
    let mut bench = Bench::new();
    let ill = |bench: &Bench| Verdict::Ill { is_unreachable: true, retry_after: None, tally: bench.tally };
    let first = ill(&bench);
    bench.hear(Event::Reported(first));
    bench.hear(Event::Probed(Finding::Dead, Source::Own));

    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(bench.hear(Event::Probed(Finding::Alive, Source::Others)));
        let again = ill(&bench);
        bench.judge(again);
    }

    assert_eq!(said, [Some(Effect::Ends), None, None, None], "one word of others that proved wrong here is enough");
    assert!(bench.breaker.is_alone());
    assert_eq!(bench.breaker.rest_in_force().map(|(_, why)| why), Some(Why::Unreachable), "probes go on");
    assert_eq!(bench.hear(Event::Probed(Finding::Alive, Source::Own)), Some(Effect::Ends));
    assert_eq!(bench.judge(Verdict::Works), Some(Effect::Resumes));
    assert!(!bench.breaker.is_alone(), "one that worked is believed by others' word again");
}
