//! An outage is not answered by a storm: retries stay within their budget when every target fails.

use std::time::Duration;

use troupe_loadtest::mock::Strike;
use troupe_tests::ask::Dialect;
use troupe_tests::load::Load;
use troupe_tests::{World, until};

const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }]
[providers.two]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-two" }]
[models.both]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m" }]
{rules}
"#;
/// A breaker that never opens at this rate: what is left is the budget.
const NO_BREAKER: &str = "breaker = { failures = 1000, window = \"100ms\" }";
/// Calls a second; the drill program does the same at 2,000.
const RATE: u64 = 300;
/// Calls per outage.
const CALLS: u64 = 1500;
/// The floor of the budget: 10 a second over its window of 10 s.
const FLOOR: u64 = 100;

/// Upstream calls, and client calls, of an outage.
async fn outage(rules: &str, knobs: &str) -> (u64, u64) {
    let world = World::new().spec(&SPEC.replace("{rules}", rules)).start().await;
    for mock in [&world.mock, world.mock2()] {
        // Calls only: a probe that fails as well would rest the target, and then nothing is asked.
        mock.fail(Strike::new(knobs).model("m")).unwrap();
    }
    let load = Load::whole("both", RATE).start(&world.client()).await;
    until("the outage lasts", || load.tally().sent >= CALLS).await;
    let tally = load.end().await;
    assert_eq!((tally.good, tally.failed()), (0, tally.sent), "{tally:?}");
    // A call may wait for a target to be ready again, 5 s at most, and no longer.
    assert!(tally.slowest < Duration::from_secs(8), "{tally:?}");
    (world.mock.counts().calls + world.mock2().counts().calls, tally.sent)
}

#[tokio::test]
async fn an_outage_raises_upstream_calls_by_the_retry_budget_at_most() {
    for knobs in ["status=500", "status=529", "reset"] {
        let (upstream, asked) = outage(NO_BREAKER, knobs).await;

        assert!(upstream >= asked, "{knobs}: {upstream} upstream calls of {asked} requests: the breaker must not help");
        let most = asked + asked / 5 + FLOOR;
        assert!(upstream <= most, "{knobs}: {upstream} upstream calls of {asked} requests, {most} at most");
    }
}

#[tokio::test]
async fn breakers_make_an_outage_quieter_than_no_outage() {
    let (upstream, asked) = outage("", "status=500").await;

    assert!(upstream < asked / 5, "{upstream} upstream calls of {asked} requests");
}

#[tokio::test]
async fn a_smaller_budget_is_kept_too_and_one_attempt_means_one() {
    let (upstream, asked) = outage(&format!("{NO_BREAKER}\nretries = {{ budget = \"0%\" }}"), "status=500").await;
    assert!(upstream <= asked + FLOOR, "{upstream} of {asked}");

    let (upstream, asked) = outage(&format!("{NO_BREAKER}\nretries = {{ attempts = 1 }}"), "status=500").await;
    assert_eq!(upstream, asked);
}

#[tokio::test]
async fn clients_are_told_not_to_retry_what_was_retried() {
    let world = World::new().spec(&SPEC.replace("{rules}", NO_BREAKER)).start().await;
    for mock in [&world.mock, world.mock2()] {
        mock.fail(Strike::new("status=500")).unwrap();
    }

    for dialect in Dialect::ALL {
        for ask in [dialect.ask("both"), dialect.ask_stream("both")] {
            let reply = world.client().post(dialect.path(), ask).await;

            assert_eq!((reply.status, reply.header("x-should-retry")), (500, Some("false")), "{:?}", reply.headers);
        }
    }
}
