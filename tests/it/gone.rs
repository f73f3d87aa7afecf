//! STREAM-2: a client that goes away takes its upstream call with it, at once.

use std::time::Duration;

use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, World, eventually, until};

/// What the issue allows between a client's leaving and the provider's noticing.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A client of each kind: a connection of its own, and a stream on a shared h2 connection.
async fn clients(world: &World) -> [(&'static str, Client); 2] {
    [("HTTP/1.1", world.client()), ("h2", world.client().http2().await)]
}

/// Begins a call, lets it come as far as `reached` says, drops it, and measures how long the provider served nobody.
async fn measure(world: &World, client: &Client, dialect: Dialect, model: &str, is_stream: bool) -> Duration {
    world.mock.reset();
    let ask = if is_stream { dialect.ask_stream(model) } else { dialect.ask(model) };
    let call = {
        let client = client.clone();
        tokio::spawn(async move {
            let mut stream = client.stream(dialect.path(), ask).await;
            while stream.next().await.is_some() {}
        })
    };
    let is_silent = !is_stream || !model.contains("words");
    let is_streamed = || world.mock.counts().events >= 3 && world.node.house.metrics.streams_open() == 1;
    let is_there = || world.mock.counts().in_flight == 1 && (is_silent || is_streamed());
    until("the call is under way", is_there).await;

    let left = clock::now();
    call.abort();
    let noticed = eventually("the provider notices", || world.mock.closed_early().pop()).await;

    assert_eq!(noticed.model, model);
    noticed.at.saturating_duration_since(left)
}

#[tokio::test]
async fn an_upstream_call_ends_within_a_tenth_of_a_second_of_its_client() {
    let world = World::new().start().await;

    for (version, client) in clients(&world).await {
        for dialect in Dialect::ALL {
            for wire in ["o", "a"] {
                for (knobs, is_stream) in [
                    ("hang", false),
                    ("hang", true),
                    ("words=1000+drip=10ms", true),
                    ("words=1000+slow-bytes+drip=20ms", false),
                    ("hang-at=3", true),
                    ("delay=30s", true),
                ] {
                    let model = format!("{wire}-gone+{knobs}");
                    let what = format!("{model} to {dialect:?} over {version}, stream: {is_stream}");

                    // Other tests share the machine: what is late once may have waited for them, not for the gateway.
                    let mut took = Duration::MAX;
                    for _ in 0..3 {
                        took = took.min(measure(&world, &client, dialect, &model, is_stream).await);
                        if took < AT_ONCE {
                            break;
                        }
                    }

                    assert!(took < AT_ONCE, "{what}: {took:?}");
                    until("the connection is closed", || world.mock.counts().in_flight == 0).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn an_h2_upstream_stream_is_reset_and_its_connection_lives() {
    let world = World::new().mock_tls(&["h2"]).flag("data-threads", "1").start().await;
    let client = world.client().http2().await;

    for model in ["o-gone+hang", "o-gone+words=1000+drip=10ms"] {
        let took = measure(&world, &client, Dialect::OpenAi, model, true).await;

        assert!(took < AT_ONCE, "{model}: {took:?}");
    }
    let reply = client.post("/v1/chat/completions", Dialect::OpenAi.ask("o-x")).await;

    assert_eq!((reply.status, world.mock.counts().connections_open), (200, 1));
}

#[tokio::test]
async fn who_left_is_logged_and_counted() {
    let world = World::new().start().await;

    for (asked, (model, is_stream, status)) in
        [("o-gone+hang", true, 499), ("o-gone+words=1000+drip=10ms", true, 200), ("o-gone+hang", false, 499)]
            .into_iter()
            .enumerate()
    {
        measure(&world, &world.client(), Dialect::OpenAi, model, is_stream).await;

        until("the access line", || world.access_lines().len() > asked).await;
        let line = world.access_lines().pop().unwrap();
        assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("client_gone"), Some(status)), "{line}");
        assert_eq!(
            (line["error"].as_str(), &line["attempts"][0]["outcome"]),
            (Some("client_closed"), &"client_gone".into())
        );
    }
    until("no request is in flight", || world.node.house.in_flight() == 0).await;
    assert_eq!(world.node.house.metrics.streams_open(), 0);
    let attempts = world.metric(r#"troupe_attempts_total{provider="o",model="o-*",outcome="client_gone"}"#).await;
    assert!((attempts - 3.0).abs() < 0.5, "{}", world.metrics().await);
}
