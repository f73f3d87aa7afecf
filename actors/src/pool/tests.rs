use std::time::{Duration, Instant};

use proptest::prelude::*;
use troupe_proto::unit::PerMille;

use super::logic::{Learned, is_panicking, weight};
use super::view::MemberView;
use crate::layout::TargetRules;
use crate::target::QuotaReport;
use crate::traffic::Tally;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
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

/// A member and the counters it is read from.
struct Bench {
    learned: Learned,
    tally: Tally,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = start();
        let learned = Learned::resume(MemberView::neutral(1), Tally::default(), now);
        Self { learned, tally: Tally::default(), now }
    }

    fn after(&mut self, wait: Duration, succeeded: u64, first_token: Duration, failed: u64) -> &mut Self {
        self.now += wait;
        self.tally.succeeded += succeeded;
        self.tally.timed += succeeded;
        self.tally.failed += failed;
        self.tally.answered += succeeded + failed;
        self.tally.first_token_us += succeeded * u64::try_from(first_token.as_micros()).unwrap();
        self.learned.observe(self.tally, self.now);
        self
    }

    fn view(&self) -> MemberView {
        self.learned.view(1_000, 700_000, self.now)
    }
}

#[test]
fn the_first_answer_is_the_mean() {
    let mut bench = Bench::new();

    bench.after(millis(10), 1, millis(250), 0);

    assert_eq!(bench.view().latency_us, 250_000);
}

#[test]
fn the_mean_follows_with_a_time_constant_of_ten_seconds() {
    let mut bench = Bench::new();
    bench.after(millis(10), 1, millis(100), 0);

    for _ in 0..1000 {
        bench.after(millis(10), 3, millis(1100), 0);
    }

    // 1 - 1/e of the way after one time constant.
    let latency = bench.view().latency_us;
    assert!((720_000..745_000).contains(&latency), "{latency}");
}

#[test]
fn small_steps_are_not_lost_to_rounding() {
    let mut bench = Bench::new();
    bench.after(millis(10), 1, Duration::from_micros(1_000), 0);

    for _ in 0..10_000 {
        bench.after(millis(10), 1, Duration::from_micros(1_100), 0);
    }

    let latency = bench.view().latency_us;
    assert!((1_098..=1_100).contains(&latency), "{latency}");
}

#[test]
fn a_target_that_fails_fast_looks_slow() {
    let mut bench = Bench::new();
    bench.after(millis(10), 10, millis(100), 0);

    for _ in 0..500 {
        bench.after(millis(10), 0, millis(0), 10);
    }

    let view = bench.view();
    assert!(view.latency_us > 400_000, "{view:?}");
    assert!(view.failing > PerMille::new(390), "{view:?}");
}

#[test]
fn a_target_that_only_ever_failed_takes_the_latency_of_others_and_the_penalty() {
    let mut bench = Bench::new();

    bench.after(millis(10), 0, millis(0), 3);

    assert_eq!(bench.view(), MemberView { weight: 1_000, latency_us: 7_700_000, failing: PerMille::new(1000) });
}

#[test]
fn a_member_that_was_not_called_for_long_is_as_good_as_new() {
    let mut bench = Bench::new();
    bench.after(millis(10), 1, millis(900), 5);

    bench.after(secs(11), 0, millis(0), 0);

    assert_eq!(bench.view(), MemberView::neutral(1));
}

#[test]
fn a_successor_goes_on_from_the_view() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.after(millis(10), 1, millis(300), 1);
    }
    let before = bench.view();

    bench.learned = Learned::resume(before, bench.tally, bench.now);

    let after = bench.view();
    assert_eq!(after.failing, before.failing);
    assert!(before.latency_us.abs_diff(after.latency_us) <= 12, "{before:?} {after:?}");
}

#[test]
fn the_weight_grows_from_a_tenth_to_the_whole_after_a_rest() {
    let begin = start();
    let at = |after| weight(4, &rules(), Some(begin), None, begin + after);

    assert_eq!(
        [at(secs(0)), at(secs(5)), at(millis(9_999)), at(secs(10)), at(secs(99))],
        [400, 2_200, 3_996, 4_000, 4_000]
    );
    assert_eq!(weight(4, &rules(), None, None, begin), 4_000);
}

#[test]
fn little_quota_left_is_little_weight() {
    let quota = |left| Some(QuotaReport { remaining: PerMille::new(left), age: secs(0), reset: None });
    let of = |left| weight(1, &rules(), None, quota(left), start());

    assert_eq!([of(1000), of(100), of(50), of(10), of(0)], [1_000, 1_000, 500, 100, 10]);
}

#[test]
fn a_pool_panics_below_its_share_and_never_at_none() {
    assert!(is_panicking(1, 4, PerMille::new(500)));
    assert!(!is_panicking(2, 4, PerMille::new(500)));
    assert!(!is_panicking(0, 4, PerMille::ZERO));
    assert!(!is_panicking(0, 0, PerMille::new(500)));
}

proptest! {
    #[test]
    fn a_mean_stays_within_what_was_seen(
        steps in proptest::collection::vec((0u64..20_000, 1u64..10, 1u64..5_000), 1..200),
    ) {
        let mut bench = Bench::new();
        let (least, most) = steps.iter().fold((u64::MAX, 0), |(a, b), step| (a.min(step.2), b.max(step.2)));

        for (wait_ms, calls, latency_ms) in steps {
            bench.after(millis(wait_ms), calls, millis(latency_ms), 0);

            let latency = u64::from(bench.view().latency_us);
            prop_assert!(latency >= least * 1_000 - 1 && latency <= most * 1_000, "{latency}");
        }
    }

    #[test]
    fn a_weight_is_never_more_than_configured_and_never_nothing(
        configured in 1u64..1_000,
        slow_ms in proptest::option::of(0u64..30_000),
        left in proptest::option::of(0u16..=1000),
    ) {
        let (begin, now) = (start(), start() + secs(60));
        let slow_from = slow_ms.map(|ms| now - millis(ms));
        let quota = left.map(|left| QuotaReport { remaining: PerMille::new(left), age: secs(0), reset: None });

        let weight = weight(configured, &rules(), slow_from, quota, now);

        prop_assert!(begin <= now && weight >= 1 && weight <= configured * 1_000);
    }
}

#[test]
fn failures_before_a_rest_are_forgotten_when_it_is_over() {
    let mut bench = Bench::new();
    bench.after(Duration::ZERO, 0, Duration::ZERO, 5);
    let before = bench.learned.failing(bench.now);

    bench.learned.came_back(None);
    let resting = bench.learned.failing(bench.now);
    let back = bench.now + Duration::from_millis(1);
    bench.learned.came_back(Some(back));
    let after = bench.learned.failing(bench.now);
    bench.after(Duration::from_millis(2), 0, Duration::ZERO, 1);
    bench.learned.came_back(Some(back));

    assert_eq!((before, resting, after), (PerMille::new(1000), PerMille::new(1000), PerMille::ZERO));
    assert!(bench.learned.failing(bench.now) > PerMille::ZERO, "what fails after that counts");
}
