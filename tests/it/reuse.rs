//! Connections to providers: kept, used again, and replaced when they are gone.

use std::collections::BTreeSet;

use troupe_tests::ask::Dialect;
use troupe_tests::{World, until};

#[tokio::test]
async fn a_hundred_calls_in_turn_need_one_connection() {
    for is_stream in [false, true] {
        let world = World::new().flag("data-threads", "1").start().await;
        let client = world.client();

        for dialect in Dialect::ALL {
            let model = if dialect == Dialect::OpenAi { "o-x" } else { "a-x" };
            for _ in 0..50 {
                let ask = if is_stream { dialect.ask_stream(model) } else { dialect.ask(model) };
                assert_eq!(client.post(dialect.path(), ask).await.status, 200);
            }
        }

        // The two providers are one host, so they share it.
        assert_eq!(world.mock.counts().connections, 1, "streams: {is_stream}");
        assert_eq!(world.mock.counts().requests, 100);
    }
}

#[tokio::test]
async fn each_data_thread_needs_one_connection() {
    let world = World::new().flag("data-threads", "2").start().await;

    for _ in 0..100 {
        assert_eq!(world.client().post("/v1/chat/completions", Dialect::OpenAi.ask("o-x")).await.status, 200);
    }

    assert!(world.mock.counts().connections <= 2, "{:?}", world.mock.counts());
}

#[tokio::test]
async fn a_connection_that_the_provider_closed_while_idle_costs_no_caller_an_error() {
    for tls in [None, Some("h2")] {
        let builder = World::new().flag("data-threads", "1");
        let builder = match tls {
            Some(alpn) => builder.mock_tls(&[alpn]),
            None => builder,
        };
        let world = builder.start().await;
        let client = world.client();

        for round in 0..5 {
            for dialect in Dialect::ALL {
                for wire in ["o", "a"] {
                    let reply = client.post(dialect.path(), dialect.ask(&format!("{wire}-x"))).await;
                    assert_eq!(reply.status, 200, "{tls:?}, round {round}: {}", reply.text());
                }
            }
            world.restart_mock();
        }
    }
}

#[tokio::test]
async fn a_reply_that_broke_leaves_no_connection_behind_that_serves_others() {
    let world = World::new().flag("data-threads", "1").once().start().await;
    let (client, dialect) = (world.client(), Dialect::OpenAi);

    for knobs in ["truncated", "reset", "garbage", "status=500"] {
        client.post(dialect.path(), dialect.ask(&format!("o-x+{knobs}"))).await;
        assert_eq!(client.post(dialect.path(), dialect.ask("o-x")).await.status, 200, "behind {knobs}");
    }
    for knobs in ["cut=2", "clean-cut=2", "error-at=2", "garbage"] {
        client.post(dialect.path(), dialect.ask_stream(&format!("o-x+{knobs}"))).await;
        assert_eq!(client.post(dialect.path(), dialect.ask("o-x")).await.status, 200, "behind {knobs}");
    }
    until("at most the good connection is open", || world.mock.counts().connections_open <= 1).await;
}

#[tokio::test]
async fn replies_over_one_connection_never_mix() {
    let world = World::new().mock_tls(&["h2"]).flag("data-threads", "1").start().await;
    let client = world.client().http2().await;

    let calls = (1..=60).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let dialect = Dialect::ALL[n % 2];
            let wire = if n % 4 < 2 { "o" } else { "a" };
            let reply = client.post(dialect.path(), dialect.ask(&format!("{wire}-x+words={n}+delay=20ms"))).await;
            (n, dialect.text(&reply.json()).split_whitespace().count())
        })
    });
    let mut seen = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let (asked, words) = call.await.unwrap();
        assert_eq!(asked, words);
        seen.insert(words);
    }

    assert_eq!(seen.len(), 60);
}
