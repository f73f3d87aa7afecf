//! FAULT-1: one request's panic fails nothing but itself.

use troupe_tests::ask::{Dialect, words};
use troupe_tests::{World, until};

#[tokio::test]
async fn a_panic_in_one_request_leaves_its_neighbours_on_the_same_connection_alone() {
    let world = World::new().on_call(|model| assert!(!model.contains("panic"), "planted by a test")).start().await;
    let client = world.client().http2().await;
    let dialect = Dialect::OpenAi;
    let mut neighbours = Vec::new();
    for model in ["o-x+words=40+drip=10ms", "a-x+words=40+drip=10ms"] {
        let mut stream = client.stream(dialect.path(), dialect.ask_stream(model)).await;
        assert!(stream.next().await.is_some());
        neighbours.push(stream);
    }
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.post(dialect.path(), dialect.ask("o-x+delay=300ms")).await })
    };

    for caller in Dialect::ALL {
        for ask in [caller.ask("o-panic"), caller.ask_stream("o-panic")] {
            let reply = client.post(caller.path(), ask).await;

            assert_eq!((reply.status, reply.header("x-troupe-error")), (500, Some("internal")));
            let kind = reply.json()["error"]["type"].as_str().unwrap().to_owned();
            assert_eq!(kind, if caller == Dialect::OpenAi { "server_error" } else { "api_error" });
            assert!(!reply.text().contains("planted") && !reply.text().contains(".rs"), "{}", reply.text());
            let id = reply.header("x-request-id").unwrap().to_owned();
            until("its access line", || world.access_lines().iter().any(|line| line["request_id"] == id)).await;
            let line = world.access_lines().into_iter().find(|line| line["request_id"] == id).unwrap();
            assert_eq!((line["status"].as_u64(), line["error"].as_str()), (Some(500), Some("internal")), "{line}");
        }
    }

    for stream in &mut neighbours {
        let text: String = stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();
        assert!(words(40).ends_with(&text) && text.ends_with("w39 ") && !stream.is_cut, "{text}");
    }
    assert_eq!(waiting.await.unwrap().status, 200);
    assert_eq!(client.post(dialect.path(), dialect.ask("o-x")).await.status, 200);
    assert!((world.metric("troupe_panics_total").await - 4.0).abs() < 0.5, "{}", world.metrics().await);
    until("nothing is left in flight", || world.node.house.in_flight() == 0).await;
}
