//! A target that fails is left alone: what it is still asked, counted at the provider.

use std::collections::BTreeMap;
use std::time::Duration;

use troupe_loadtest::mock::Strike;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, World, until};

/// Two providers of equal weight; `solo` has the first alone.
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
timeouts = { first_byte = "500ms" }
breaker = { rest = "500ms", rest_max = "1s", slow_start = "0s" }
[models.long]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m" }]
timeouts = { first_byte = "500ms" }
breaker = { rest = "10m", rest_max = "1h" }
[models.solo]
targets = [{ provider = "one", model = "m" }]
timeouts = { first_byte = "5s" }
breaker = { rest = "500ms", rest_max = "1s", slow_start = "0s" }
retries = { wait_max = "0s" }
[models.first]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m", priority = 1 }]
timeouts = { first_byte = "5s" }
breaker = { rest = "500ms", rest_max = "1s", slow_start = "0s" }
"#;

/// Statuses of so many calls at once, on one connection.
async fn storm(client: &Client, model: &str, calls: usize) -> BTreeMap<u16, usize> {
    let calls = (0..calls).map(|_| {
        let (client, ask) = (client.clone(), Dialect::OpenAi.ask(model));
        tokio::spawn(async move { client.post(Dialect::OpenAi.path(), ask).await.status })
    });
    let mut statuses = BTreeMap::new();
    for call in calls.collect::<Vec<_>>() {
        *statuses.entry(call.await.unwrap()).or_default() += 1;
    }
    statuses
}

/// Calls one after the other; all must be served.
async fn serve(client: &Client, model: &str, calls: usize) {
    for _ in 0..calls {
        let reply = client.post(Dialect::OpenAi.path(), Dialect::OpenAi.ask(model)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn a_target_that_fails_fast_draws_no_traffic() {
    for knobs in ["status=500", "status=503", "reset", "garbage"] {
        let world = World::new().spec(SPEC).start().await;
        let client = world.client().kept().await;
        serve(&client, "long", 40).await;
        world.mock.fail(Strike::new(knobs)).unwrap();
        let before = world.mock.counts().calls;

        serve(&client, "long", 300).await;

        // Five failures open the breaker; a few more may have been routed until every thread knew.
        let drawn = world.mock.counts().calls - before;
        assert!((1..=15).contains(&drawn), "{knobs}: {drawn} of 300 calls went to the target that fails at once");
    }
}

#[tokio::test]
async fn a_dead_target_gets_no_traffic_but_probes_and_is_back_when_they_succeed() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().kept().await;
    serve(&client, "long", 20).await;
    // It takes connections and answers nothing, neither calls nor probes.
    world.mock.fail(Strike::new("hang")).unwrap();
    serve(&client, "long", 40).await;
    let calls = world.mock.counts().calls;

    let probes = world.mock.counts().probes;
    until(&format!("three probes came: {}", world.standings()), || world.mock.counts().probes >= probes + 3).await;
    serve(&client, "long", 200).await;

    assert_eq!(world.mock.counts().calls, calls, "no call of 200 went to the dead target");
    // Its rest would last 10 minutes: a probe that is answered ends it.
    world.mock.heal();
    let asked = || async { client.post(Dialect::OpenAi.path(), Dialect::OpenAi.ask("long")).await.status };
    let mut statuses = Vec::new();
    let served = async {
        while world.mock.counts().calls < calls + 5 {
            statuses.push(asked().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served).await.expect("it is back without a restart");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // And probed no more.
    let probes = world.mock.counts().probes;
    serve(&client, "long", 50).await;
    assert!(world.mock.counts().probes <= probes + 1);
}

#[tokio::test]
async fn a_target_that_answers_with_errors_is_not_probed() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().kept().await;
    world.mock.fail(Strike::new("status=500").model("m")).unwrap();

    serve(&client, "long", 100).await;

    assert_eq!(world.mock.counts().probes + world.mock2().counts().probes, 0, "a list of models says nothing of calls");
}

#[tokio::test]
async fn half_open_lets_one_call_through_however_many_wait() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().http2().await;
    world.mock.fail(Strike::new("status=500")).unwrap();
    storm(&client, "first", 50).await;
    world.mock.heal();
    // It works again, but takes its time: whoever is let in meanwhile would show.
    world.mock.fail(Strike::new("delay=1500ms")).unwrap();
    let before = world.mock.counts().calls;
    let clients = [client, world.client().http2().await];
    let mut rounds = 0;

    while world.mock.counts().calls == before {
        rounds += 1;
        assert!(rounds < 1000, "nobody was let in");
        let [left, right] = &clients;
        let (left, right) = tokio::join!(storm(left, "first", 100), storm(right, "first", 100));
        assert_eq!((left, right), (BTreeMap::from([(200, 100)]), BTreeMap::from([(200, 100)])));
    }

    assert_eq!(world.mock.counts().calls - before, 1, "one of 200 at once");
    // That one decided: the next ones are let in.
    world.mock.heal();
    until("the breaker is closed", || world.mock.counts().in_flight == 0).await;
    let before = world.mock.counts().calls;
    storm(&clients[0], "first", 50).await;
    assert!(world.mock.counts().calls >= before + 40, "{} of 50", world.mock.counts().calls - before);
}

#[tokio::test]
async fn half_open_lets_one_call_through_when_there_is_nowhere_else_to_go() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().http2().await;
    world.mock.fail(Strike::new("status=500")).unwrap();
    storm(&client, "solo", 50).await;
    world.mock.heal();
    world.mock.fail(Strike::new("delay=1s")).unwrap();
    let before = world.mock.counts().calls;
    let mut rounds = 0;
    let statuses = loop {
        let statuses = storm(&client, "solo", 100).await;
        rounds += 1;
        assert!(rounds < 1000, "nobody was let in: {statuses:?}");
        if world.mock.counts().calls != before {
            break statuses;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };

    assert_eq!(world.mock.counts().calls - before, 1, "{statuses:?}");
    assert_eq!(statuses.get(&200), Some(&1), "{statuses:?}");
}

#[tokio::test]
async fn a_half_open_call_that_fails_rests_the_target_again() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().kept().await;
    world.mock.fail(Strike::new("status=500")).unwrap();
    serve(&client, "first", 30).await;
    let before = world.mock.counts().calls;

    // Rests of half a second and then a second: in two and a half seconds it is asked a few times, once each.
    let began = troupe_node::clock::now();
    let mut calls = 0;
    while troupe_node::clock::now() - began < Duration::from_millis(2500) {
        serve(&client, "first", 10).await;
        calls += 10;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let asked = world.mock.counts().calls - before;
    assert!((1..=5).contains(&asked), "{asked} of {calls}");
}

#[tokio::test]
async fn a_refused_credential_rests_at_once_and_its_twin_serves() {
    let spec = r#"
[providers.keys]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "bad", secret = "secret-bad" }, { name = "good", secret = "secret-good" }]
[models.keyed]
targets = [{ provider = "keys", model = "k" }]
"#;
    let world = World::new().spec(spec).start().await;
    let client = world.client().kept().await;
    world.mock.fail(Strike::new("status=401").credential("secret-bad")).unwrap();

    serve(&client, "keyed", 100).await;

    assert!(world.mock.counts().calls_by("secret-bad") <= 2, "{:?}", world.mock.counts().by_credential);
    assert!(world.mock.counts().calls_by("secret-good") >= 98, "{:?}", world.mock.counts().by_credential);
}

#[tokio::test]
async fn a_breaker_speaks_for_one_model_only() {
    let spec = r#"
[models.ill]
targets = [{ provider = "one", model = "ill" }, { provider = "two", model = "ill", priority = 1 }]
[models.well]
targets = [{ provider = "one", model = "well" }, { provider = "two", model = "well", priority = 1 }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    let client = world.client().kept().await;
    world.mock.fail(Strike::new("status=500").model("ill")).unwrap();

    serve(&client, "ill", 40).await;
    serve(&client, "well", 40).await;

    let counts = world.mock.counts();
    assert!(counts.calls_of("ill") <= 10, "{:?}", counts.by_model);
    assert_eq!(counts.calls_of("well"), 40);
}

#[tokio::test]
async fn what_clients_do_wrong_rests_nobody() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().kept().await;
    for status in [400, 413, 422] {
        world.mock.heal();
        world.mock.fail(Strike::new(&format!("status={status}"))).unwrap();
        for _ in 0..20 {
            let reply = client.post(Dialect::OpenAi.path(), Dialect::OpenAi.ask("first")).await;
            assert_eq!(reply.status, status, "{}", reply.text());
        }
    }
    assert_eq!((world.mock.counts().calls, world.mock2().counts().calls), (60, 0));
}

#[tokio::test]
async fn a_share_of_failures_below_the_threshold_opens_nothing() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().kept().await;
    world.mock.fail(Strike::new("status=500").share(100)).unwrap();

    serve(&client, "first", 200).await;

    let asked = world.mock.counts().calls;
    assert!(asked > 190, "a tenth of its calls failed, and {asked} of 200 went there; {}", world.standings());
}
