//! TLS on both sides: whose certificates are trusted, which protocol is agreed on, how connections are shared.

use std::path::PathBuf;

use tempfile::TempDir;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::{World, until};

use crate::told::assert_told;

/// A certificate that signed nobody here.
fn stranger() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stranger.crt");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&path, made.cert.pem()).unwrap();
    (dir, path)
}

fn spec_with_ca(ca: &str) -> String {
    format!(
        "[providers.p]\nwire = \"openai\"\nbase_url = \"{{mock}}/v1\"\n{ca}\n[models.\"p-*\"]\ntargets = [{{ provider = \"p\" }}]"
    )
}

#[tokio::test]
async fn clients_are_served_over_tls_by_the_protocol_they_choose() {
    let world = World::new().tls().start().await;

    for client in [world.client(), world.client().kept().await, world.client().http2().await] {
        for dialect in Dialect::ALL {
            let mut stream = client.stream(dialect.path(), dialect.ask_stream("o-x+words=5")).await;
            let text: String = stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();
            assert_eq!((text, stream.is_cut), (words(5), false));
            drop(stream);

            let reply = client.post(dialect.path(), dialect.ask("nope")).await;
            assert_told(dialect, &reply, 404, "model_not_found", "nope");
        }
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_hung_up_on_and_hurts_nobody() {
    let world = World::new().tls().start().await;
    let mut socket = world.raw().await;
    crate::raw::write_all(&mut socket, [crate::raw::head("GET", "/v1/models", "").into_bytes()]).await.unwrap();

    let said = crate::raw::closed(&mut socket).await;

    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert_eq!(world.client().get("/v1/models").await.status, 200);
    assert_eq!(world.metric("troupe_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_provider_whose_certificate_is_not_trusted_is_unreachable_and_asked_once() {
    let (_dir, ca) = stranger();
    let by_stranger = spec_with_ca(&format!("ca = \"file:{}\"", ca.display()));
    for spec in [by_stranger, spec_with_ca("")] {
        let world = World::new().mock_tls(&["h2", "http/1.1"]).spec(&spec).once().start().await;

        for dialect in Dialect::ALL {
            world.mock.reset();
            for ask in [dialect.ask("p-x"), dialect.ask_stream("p-x")] {
                let reply = world.client().post(dialect.path(), ask).await;

                let message = assert_told(dialect, &reply, 502, "provider_unreachable", "provider");
                assert!(!message.to_lowercase().contains("certificate"), "inner matters: {message}");
            }
            assert_eq!((world.mock.counts().requests, world.mock.counts().connections), (0, 2));
        }
        let failed = r#"troupe_upstream_connects_total{provider="p",outcome="tls"}"#;
        assert_eq!(world.metric(failed).await, 4.0, "{}", world.metrics().await);
    }
}

#[tokio::test]
async fn many_streams_to_an_http2_provider_share_few_connections() {
    let world = World::new().mock_tls(&["h2", "http/1.1"]).flag("data-threads", "1").start().await;
    let client = world.client().http2().await;

    let asks = (0..100).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let dialect = Dialect::ALL[n % 2];
            let mut stream = client.stream(dialect.path(), dialect.ask_stream("o-x+words=20+drip=20ms")).await;
            stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect::<String>()
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap(), words(20));
    }

    let counts = world.mock.counts();
    assert_eq!(counts.requests, 100);
    // At most 64 streams on one.
    assert!((1..=2).contains(&counts.connections), "{counts:?}");
}

#[tokio::test]
async fn a_cancelled_stream_leaves_its_neighbours_on_the_same_connection_alone() {
    let world = World::new().mock_tls(&["h2"]).flag("data-threads", "1").start().await;
    let client = world.client().http2().await;
    let long = || client.stream("/v1/messages", Dialect::Anthropic.ask_stream("a-x+words=40+drip=20ms"));
    let mut neighbours = Vec::new();
    for _ in 0..5 {
        neighbours.push(long().await);
    }
    let hung = client.stream("/v1/messages", Dialect::Anthropic.ask_stream("a-left+hang-at=1")).await;

    drop(hung);
    until("the provider knows", || world.mock.closed_early().iter().any(|left| left.model.starts_with("a-left"))).await;

    for mut stream in neighbours {
        let text: String =
            stream.rest().await.iter().filter_map(|event| Dialect::Anthropic.piece(&event.json())).collect();
        assert_eq!((text, stream.is_cut), (words(40), false));
    }
    assert_eq!((world.mock.counts().connections, world.mock.closed_early().len()), (1, 1));
}

#[tokio::test]
async fn a_provider_over_tls_that_speaks_http1_is_called_at_once_by_many() {
    let world = World::new().mock_tls(&["http/1.1"]).flag("data-threads", "1").start().await;
    let client = world.client().http2().await;

    let asks = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.post("/v1/messages", Dialect::Anthropic.ask("a-x+delay=1s")).await.status })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap(), 200);
    }

    assert_eq!(world.mock.received()[0].version, "HTTP/1.1");
    assert!(world.mock.counts().connections >= 5, "calls waited for each other: {:?}", world.mock.counts());
}
