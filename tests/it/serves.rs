//! The plain case, on every door there is.

use troupe_tests::ask::{Dialect, words};
use troupe_tests::{World, until};

#[tokio::test]
async fn both_dialects_are_served_by_both_wires_whole_and_streamed() {
    let world = World::new().start().await;
    let client = world.client();

    for dialect in Dialect::ALL {
        for model in ["o-x+words=3", "a-x+words=3"] {
            let whole = client.post(dialect.path(), dialect.ask(model)).await;
            let mut stream = client.stream(dialect.path(), dialect.ask_stream(model)).await;
            let pieces: Vec<String> =
                stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();

            assert_eq!((whole.status, dialect.text(&whole.json())), (200, words(3)), "{dialect:?} {model}");
            assert_eq!((stream.status, pieces.concat()), (200, words(3)), "{dialect:?} {model}");
            assert!(!stream.is_cut && pieces.len() == 3);
        }
    }
}

#[tokio::test]
async fn http1_and_http2_are_served_with_and_without_tls() {
    let dialect = Dialect::OpenAi;
    for builder in [World::new(), World::new().tls()] {
        let world = builder.start().await;

        for client in [world.client(), world.client().kept().await, world.client().http2().await] {
            for _ in 0..2 {
                let reply = client.post(dialect.path(), dialect.ask("gpt-4o")).await;

                assert_eq!((reply.status, dialect.text(&reply.json())), (200, words(10)));
            }
        }
    }
}

#[tokio::test]
async fn providers_are_called_over_tls_with_a_ca_of_their_own_by_either_protocol() {
    for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let world = World::new().mock_tls(&[alpn]).start().await;

        let reply = world.client().post("/v1/messages", Dialect::Anthropic.ask("a-x")).await;

        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(world.mock.received()[0].version, version);
    }
}

#[tokio::test]
async fn each_request_leaves_one_access_line_and_is_counted() {
    let world = World::new().start().await;

    let reply = world.client().post("/v1/messages", Dialect::Anthropic.ask("a-x")).await;

    until("an access line", || !world.access_lines().is_empty()).await;
    let lines = world.access_lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["request_id"].as_str(), reply.header("x-request-id"), "{lines:?}");
    let metrics = world.metrics().await;
    assert!(metrics.contains("troupe_"), "{metrics}");
}
