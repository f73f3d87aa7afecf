//! A stream that is slow to begin is begun a second time; the first to speak is taken and the other cancelled.

use std::time::Duration;

use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::{Stream, World, until};

const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }]
[providers.two]
wire = "anthropic"
base_url = "{mock2}"
keys = [{ name = "k", secret = "secret-two" }]
[models.hedged]
targets = [{ provider = "one", model = "h" }, { provider = "two", model = "h", priority = 1 }]
hedge = { after = "300ms", budget = "50%" }
[models.plain]
targets = [{ provider = "one", model = "h" }, { provider = "two", model = "h", priority = 1 }]
"#;

async fn text(dialect: Dialect, stream: &mut Stream) -> String {
    stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect()
}

#[tokio::test]
async fn the_loser_of_a_hedge_is_cancelled_and_the_winner_is_the_only_one_heard() {
    for dialect in Dialect::ALL {
        for knobs in ["delay=20s", "hang-at=0"] {
            let world = World::new().spec(SPEC).start().await;
            world.mock.fail(Strike::new(knobs)).unwrap();
            let began = clock::now();

            let mut stream = world.client().stream(dialect.path(), dialect.ask_stream("hedged")).await;
            let (took, said) = (clock::now() - began, text(dialect, &mut stream).await);

            assert_eq!((stream.status, said), (200, words(10)), "{knobs}");
            let target = stream.headers.get("x-troupe-target").map(|target| target.to_str().unwrap().to_owned());
            assert_eq!(target.as_deref(), Some("two/k/h"), "{knobs}");
            assert!((Duration::from_millis(290)..Duration::from_secs(2)).contains(&took), "{took:?}");
            until("the loser is cancelled", || world.mock.counts().in_flight == 0).await;
            assert_eq!((world.mock.counts().closed_early, world.mock.counts().calls), (1, 1));
            assert_eq!(world.mock2().counts().calls, 1);
            // The loser is no failure of its target.
            until("the access line", || world.access_lines().len() == 1).await;
            let line = world.access_lines().remove(0);
            let ends: Vec<&str> = line["attempts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|attempt| attempt["outcome"].as_str().unwrap())
                .collect();
            assert!(ends.contains(&"cancelled") && ends.contains(&"finished"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_first_target_that_speaks_after_all_wins_and_the_second_is_cancelled() {
    let world = World::new().spec(SPEC).start().await;
    world.mock.fail(Strike::new("delay=900ms")).unwrap();
    world.mock2().fail(Strike::new("delay=20s")).unwrap();
    let dialect = Dialect::OpenAi;

    let mut stream = world.client().stream(dialect.path(), dialect.ask_stream("hedged")).await;
    let said = text(dialect, &mut stream).await;

    assert_eq!((stream.status, said), (200, words(10)));
    assert_eq!(stream.headers["x-troupe-target"], "one/k/h");
    until("the loser is cancelled", || world.mock2().counts().closed_early == 1).await;
    assert_eq!((world.mock.counts().calls, world.mock2().counts().calls), (1, 1));
}

#[tokio::test]
async fn a_quick_stream_a_whole_reply_and_a_model_without_hedge_start_once() {
    let world = World::new().spec(SPEC).start().await;
    let dialect = Dialect::OpenAi;
    let client = world.client();

    client.post(dialect.path(), dialect.ask_stream("hedged")).await;
    world.mock.fail(Strike::new("delay=800ms")).unwrap();
    client.post(dialect.path(), dialect.ask("hedged")).await;
    client.post(dialect.path(), dialect.ask_stream("plain")).await;

    assert_eq!((world.mock.counts().calls, world.mock2().counts().calls), (3, 0));
}

#[tokio::test]
async fn hedges_stay_within_their_budget() {
    let spec = SPEC.replace("300ms", "50ms").replace("50%", "5%");
    let world = World::new().spec(&spec).start().await;
    world.mock.fail(Strike::new("delay=250ms")).unwrap();
    let (dialect, client) = (Dialect::OpenAi, world.client().http2().await);

    let calls = (0..200).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.post(dialect.path(), dialect.ask_stream("hedged")).await.status })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }

    // 5 % of 200 and the floor of one a second in a window of ten.
    let hedges = world.mock2().counts().calls;
    assert!((1..=25).contains(&hedges), "{hedges} hedges");
}
