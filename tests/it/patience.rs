//! How long calls are held up, and whose fault that is.

use std::time::Duration;

use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::{Client, Reply, World, until};

const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }]
[providers.two]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-two" }]
[models.single]
targets = [{ provider = "one", model = "m" }]
[models.pair]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m", priority = 1 }]
[models.hedged]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m", priority = 1 }]
hedge = { after = "50ms", budget = "0%" }
breaker = { failures = 1000 }
[models.long]
targets = [{ provider = "one", model = "m" }]
on_break = "continue"
breaker = { failures = 1000 }
"#;

async fn ask(client: &Client, model: &str) -> Reply {
    client.post("/v1/chat/completions", Dialect::OpenAi.ask(model)).await
}

#[tokio::test]
async fn a_spent_hedge_budget_takes_no_target_away() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("delay=150ms+status=503")).unwrap();
    let (client, dialect) = (world.client(), Dialect::OpenAi);

    let calls = (0..40).map(|_| async {
        let mut stream = client.stream(dialect.path(), dialect.ask_stream("hedged")).await;
        (stream.status, stream.rest().await.len())
    });
    let served = futures_util::future::join_all(calls).await;

    assert!(served.iter().all(|(status, events)| *status == 200 && *events > 10), "{served:?}");
}

#[tokio::test]
async fn a_client_without_patience_speaks_against_nobody() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("delay=300ms")).unwrap();
    let hasty = world.client().header("x-troupe-deadline", "30ms");

    for _ in 0..12 {
        assert_eq!(ask(&hasty, "single").await.status, 504);
    }

    assert_eq!(ask(&world.client(), "single").await.status, 200);
    assert!(world.metric(r#"troupe_target_resting{provider="one",credential="k",model="m"}"#).await < 0.5);
}

#[tokio::test]
async fn a_stream_that_hangs_behind_its_head_is_served_elsewhere_within_the_deadline() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("hang-at=0")).unwrap();
    let (client, dialect) = (world.client().header("x-troupe-deadline", "3s"), Dialect::OpenAi);
    let began = clock::now();

    let mut stream = client.stream(dialect.path(), dialect.ask_stream("pair")).await;
    let text: String = stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();

    assert_eq!((stream.status, text), (200, words(10)));
    assert!(clock::now() - began < Duration::from_millis(2900));
}

#[tokio::test]
async fn a_failed_provider_that_says_when_to_come_back_is_asked_then() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("status=503+retry-after=1").first(1)).unwrap();
    let began = clock::now();

    let reply = ask(&world.client(), "single").await;

    let took = clock::now() - began;
    assert_eq!((reply.status, reply.header("x-troupe-attempts")), (200, Some("2")), "{}", reply.text());
    assert!((Duration::from_millis(950)..Duration::from_millis(2500)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_provider_that_forbids_a_second_try_gets_none_and_others_do() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("status=500+no-retry")).unwrap();

    let alone = ask(&world.client(), "single").await;
    let calls = world.mock.counts().calls;
    let pair = ask(&world.client(), "pair").await;

    assert_eq!((alone.status, alone.header("x-troupe-attempts"), calls), (500, Some("1"), 1), "{}", alone.text());
    assert_eq!((pair.status, pair.header("x-troupe-attempts")), (200, Some("2")), "{}", pair.text());
}

#[tokio::test]
async fn clients_are_told_not_to_repeat_what_was_repeated_and_nothing_else() {
    for (knobs, attempts, told) in [("status=500", "3", Some("false")), ("status=409", "1", None)] {
        let world = World::new().spec(SPEC).start().await;
        world.mock.fail(Strike::new(knobs)).unwrap();

        let reply = ask(&world.client(), "single").await;

        assert_eq!(reply.header("x-troupe-attempts"), Some(attempts), "{knobs}");
        assert_eq!(reply.header("x-should-retry"), told, "{knobs}: {}", reply.text());
    }
}

#[tokio::test]
async fn nobody_waits_for_the_end_of_a_rest() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("delay=200ms+status=500")).unwrap();
    let client = world.client();
    let began = clock::now();

    let calls = (0..40).map(|_| ask(&client, "single"));
    let replies = futures_util::future::join_all(calls).await;

    assert!(replies.iter().all(|reply| reply.status >= 500));
    assert!(clock::now() - began < Duration::from_secs(3), "{:?}", clock::now() - began);
}

#[tokio::test]
async fn a_stream_is_continued_where_it_broke_if_there_is_nowhere_else() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("cut=3").first(2)).unwrap();
    let dialect = Dialect::OpenAi;

    let mut stream = world.client().stream(dialect.path(), dialect.ask_stream("long")).await;
    let text: String = stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();

    assert_eq!((text, stream.is_cut), (words(10), false));
}

#[tokio::test]
async fn every_call_in_flight_at_a_target_that_dies_is_made_good() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("delay=60s")).unwrap();
    let client = world.client();

    let calls = (0..300).map(|_| ask(&client, "pair"));
    let kill = async {
        until("all are under way", || world.mock.counts().in_flight == 300).await;
        // The pool's actor looks a hundred times a second.
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.mock.kill();
    };
    let (replies, ()) = futures_util::future::join(futures_util::future::join_all(calls), kill).await;

    let failed: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    let first = failed.first().map(|reply| (reply.header("x-troupe-tried"), reply.text()));
    assert!(failed.is_empty(), "{} of {}: {first:?}", failed.len(), replies.len());
}

#[tokio::test]
async fn behind_a_wildcard_one_name_rests_no_other() {
    let world = World::new().start().await;

    for knobs in ["status=429+retry-after=60", "status=500", "status=500"] {
        assert!(ask(&world.client(), &format!("o-a+{knobs}")).await.status >= 429);
    }

    assert_eq!(ask(&world.client(), "o-b").await.status, 200);
}

#[tokio::test]
async fn a_model_that_does_not_take_up_anothers_words_is_not_ill() {
    let spec = r#"
[models.begun]
targets = [{ provider = "one", model = "w" }, { provider = "two", model = "v", priority = 1 }]
on_break = "continue"
breaker = { failures = 1000 }
[models.other]
targets = [{ provider = "two", model = "v" }]
"#;
    let world = World::new().spec(&(SPEC.to_owned() + spec)).start().await;
    world.mock.fail(Strike::new("cut=3")).unwrap();
    // It answers, and well: but it begins anew, in other words.
    world.mock2().fail(Strike::new("unicode").model("v")).unwrap();
    let dialect = Dialect::OpenAi;

    for _ in 0..20 {
        let mut stream = world.client().stream(dialect.path(), dialect.ask_stream("begun")).await;
        stream.rest().await;
        assert!(stream.is_cut, "two halves that do not join are no answer");
    }

    assert_eq!(ask(&world.client(), "other").await.status, 200);
}
