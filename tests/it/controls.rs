//! What a client may say about its own call: deadline, no fallback, one target; and what is waited for on its behalf.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, Reply, World};

const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }, { name = "k2", secret = "secret-one-b" }]
[providers.two]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-two" }]
[models.pair]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m", priority = 1 }]
[models.with-fallback]
targets = [{ provider = "one", model = "f" }]
fallbacks = ["pair"]
[models.single]
targets = [{ provider = "two", model = "s" }]
[keys.pinner]
secret = "sk-pinner"
pin = true
"#;

async fn ask(client: &Client, model: &str) -> Reply {
    client.post("/v1/chat/completions", Dialect::OpenAi.ask(model)).await
}

#[tokio::test]
async fn a_deadline_by_header_ends_the_call_in_time() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("hang")).unwrap();
    world.mock2().fail(Strike::new("hang")).unwrap();

    for dialect in Dialect::ALL {
        for is_stream in [false, true] {
            let body = if is_stream { dialect.ask_stream("pair") } else { dialect.ask("pair") };
            let began = clock::now();
            let reply = world.client().header("x-troupe-deadline", "600ms").post(dialect.path(), body).await;
            let took = clock::now() - began;

            assert_eq!((reply.status, reply.header("x-troupe-error")), (504, Some("provider_timeout")), "{took:?}");
            assert!((Duration::from_millis(500)..Duration::from_millis(1000)).contains(&took), "{took:?}");
        }
    }
    // The first target did not use up the time of the second.
    assert!(world.mock2().counts().calls >= 1);
}

#[tokio::test]
async fn a_deadline_leaves_time_for_the_target_that_works() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("hang")).unwrap();

    let reply = ask(&world.client().header("x-troupe-deadline", "2s"), "pair").await;

    assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some("two/k/m")), "{}", reply.text());
}

#[tokio::test]
async fn headers_that_make_no_sense_are_refused_by_name() {
    let world = World::new().spec(SPEC).start().await;
    for (name, value) in [
        ("x-troupe-deadline", "soon"),
        ("x-troupe-deadline", "-1s"),
        ("x-troupe-deadline", ""),
        ("x-troupe-fallback", "maybe"),
        ("x-troupe-target", "no/such/target/at/all"),
        ("x-troupe-target", ""),
    ] {
        let client = world.client().key("sk-pinner").header(name, value);
        let reply = ask(&client, "pair").await;

        let told =
            (reply.status, reply.header("x-troupe-error").map(str::to_owned), reply.json()["error"]["param"].clone());
        assert_eq!(told, (400, Some("invalid_field".to_owned()), json!(name)), "{name}: {value}: {}", reply.text());
    }
    assert_eq!(world.mock.counts().calls + world.mock2().counts().calls, 0);
}

#[tokio::test]
async fn fallback_off_keeps_the_call_in_its_models_pool() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("status=500").model("f")).unwrap();

    let with = ask(&world.client(), "with-fallback").await;
    let without = ask(&world.client().header("x-troupe-fallback", "off"), "with-fallback").await;

    assert_eq!(with.status, 200, "{}", with.text());
    assert_eq!((without.status, without.header("x-troupe-error")), (500, Some("provider_error")), "{}", without.text());
}

#[tokio::test]
async fn a_pinned_call_goes_where_it_was_told_and_nowhere_else() {
    let world = World::new().spec(SPEC).start().await;
    let pinned =
        async |target: &str| ask(&world.client().key("sk-pinner").header("x-troupe-target", target), "pair").await;

    for (pin, served) in [
        ("two", "two/k/m"),
        ("two/k", "two/k/m"),
        ("one/k2", "one/k2/m"),
        ("one/k/m", "one/k/m"),
        ("two/k/m", "two/k/m"),
    ] {
        let reply = pinned(pin).await;
        assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some(served)), "{pin}: {}", reply.text());
    }
    // Nobody else serves it when that target fails.
    world.mock.fail(Strike::new("status=500")).unwrap();
    let before = world.mock2().counts().calls;
    let failed = pinned("one/k").await;
    assert_eq!((failed.status, world.mock2().counts().calls), (500, before), "{}", failed.text());
    // A target that the model does not have.
    let missing = pinned("three").await;
    assert!((400..=404).contains(&missing.status), "{} {}", missing.status, missing.text());
}

#[tokio::test]
async fn only_keys_that_may_pin() {
    let world = World::new().spec(SPEC).start().await;

    let reply = ask(&world.client().header("x-troupe-target", "two"), "pair").await;

    assert_eq!((reply.status, reply.header("x-troupe-error")), (403, Some("pin_forbidden")), "{}", reply.text());
    assert_eq!(world.mock2().counts().calls, 0);
}

#[tokio::test]
async fn control_headers_stay_with_the_gateway() {
    let world = World::new().spec(SPEC).start().await;
    let client = world.client().key("sk-pinner").header("x-troupe-deadline", "5s").header("x-troupe-target", "two");

    assert_eq!(ask(&client.header("x-troupe-fallback", "off"), "pair").await.status, 200);

    let received = world.mock2().received().remove(0);
    assert!(!received.headers.iter().any(|(name, _)| name.starts_with("x-troupe")), "{:?}", received.headers);
}

#[tokio::test]
async fn a_retry_after_is_waited_for_within_the_deadline() {
    let world = World::new().spec(SPEC).start().await;
    world.mock2().fail(Strike::new("status=429+retry-after=1").first(1)).unwrap();
    let began = clock::now();

    let reply = ask(&world.client(), "single").await;

    let took = clock::now() - began;
    assert_eq!((reply.status, reply.header("x-troupe-attempts")), (200, Some("2")), "{}", reply.text());
    assert!((Duration::from_millis(950)..Duration::from_millis(2500)).contains(&took), "{took:?}");
    assert_eq!(world.mock2().counts().calls, 2);
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_or_the_longest_wait_is_told_at_once() {
    let world = World::new().spec(SPEC).start().await;
    for (retry_after, deadline) in [("3", "1s"), ("60", "5m")] {
        // A new target each time: this one rests until its Retry-After.
        let model = format!("s-{retry_after}");
        let spec = format!("[models.{model}]\ntargets = [{{ provider = \"two\", model = \"{model}\" }}]\n");
        let world = World::new().spec(&(SPEC.to_owned() + &spec)).start().await;
        world.mock2().fail(Strike::new(&format!("status=429+retry-after={retry_after}"))).unwrap();
        let began = clock::now();

        let reply = ask(&world.client().header("x-troupe-deadline", deadline), &model).await;

        let took = clock::now() - began;
        assert_eq!(reply.status, 429, "{}", reply.text());
        let wait: u64 = reply.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or_default();
        let told: u64 = retry_after.parse().unwrap();
        assert!((told.saturating_sub(1)..=told).contains(&wait), "{wait} of {told}");
        assert!(took < Duration::from_millis(700), "{took:?}");
        assert_eq!(world.mock2().counts().calls, 1);
        // While it rests it is not asked, and the client still hears when to come back.
        let again = ask(&world.client().header("x-troupe-deadline", deadline), &model).await;
        assert!(again.status == 429 || again.status == 503, "{} {}", again.status, again.text());
        assert!(again.header("retry-after").is_some(), "{:?}", again.headers);
        assert_eq!(world.mock2().counts().calls, 1);
    }
    drop(world);
}

#[tokio::test]
async fn a_capacity_error_of_one_target_is_served_by_another_and_that_one_is_left_in_peace() {
    let world = World::new().spec(SPEC).start().await;
    for credential in ["secret-one", "secret-one-b"] {
        world.mock.fail(Strike::new("status=429+retry-after=30").credential(credential)).unwrap();
    }

    for _ in 0..12 {
        let reply = ask(&world.client(), "pair").await;
        assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some("two/k/m")), "{}", reply.text());
    }

    assert!(world.mock.counts().calls <= 2, "each key once: {:?}", world.mock.counts());
}

#[tokio::test]
async fn a_quota_that_runs_out_is_paced_before_the_provider_refuses() {
    let spec = r#"
[models.paced]
targets = [{ provider = "one", model = "q+quota=20/2s" }, { provider = "two", model = "q" }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    let client = world.client().kept().await;

    for _ in 0..200 {
        let reply = ask(&client, "paced").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    let refused = world.mock.counts().by_status.get(&429).copied().unwrap_or(0);
    // Readings arrive with replies: the last calls of a window may already be under way.
    assert!(refused <= 4, "{refused} calls were sent into a spent quota: {:?}", world.mock.counts().by_status);
    assert!(world.mock.counts().calls >= 20, "what there was of it was used: {:?}", world.mock.counts().by_status);
}

#[tokio::test]
async fn calls_that_begin_alike_go_to_one_target_and_others_spread() {
    let spec = r#"
[models.sticky]
affinity = "prefix"
targets = [{ provider = "one", model = "a" }, { provider = "two", model = "a" }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    let client = world.client().kept().await;
    let conversation = |number: usize, turn: usize| {
        let system = format!("You are assistant number {number}. {}", "Be brief and be kind. ".repeat(100));
        let mut messages: Vec<Value> = vec![json!({"role": "system", "content": system})];
        for turn in 0..=turn {
            messages.push(json!({"role": "user", "content": format!("question {turn}")}));
        }
        json!({"model": "sticky", "messages": messages})
    };
    let mut homes = std::collections::BTreeSet::new();

    for number in 0..24 {
        let mut targets = std::collections::BTreeSet::new();
        for turn in 0..4 {
            let reply = client.post("/v1/chat/completions", conversation(number, turn)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            targets.insert(reply.header("x-troupe-target").unwrap().to_owned());
        }
        assert_eq!(targets.len(), 1, "conversation {number} moved: {targets:?}");
        homes.extend(targets);
    }

    assert!(homes.len() > 1, "all at {homes:?}");
    // A home that fails is left.
    world.mock.fail(Strike::new("status=500")).unwrap();
    for number in 0..24 {
        let reply = client.post("/v1/chat/completions", conversation(number, 0)).await;
        assert_eq!((reply.status, reply.header("x-troupe-target")), (200, Some("two/k/a")), "{}", reply.text());
    }
}
