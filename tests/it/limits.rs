//! What one client, and all of them together, may take of a node.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};
use troupe_loadtest::mock::Snapshot;
use troupe_node::clock;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::eventually::LONG;
use troupe_tests::{World, until};

use crate::raw;
use crate::told::assert_told;

const QUICK: Duration = Duration::from_millis(300);

/// Looks at a metric until it has a value.
async fn metric_becomes(world: &World, series: &str, value: f64) {
    let reached = async { while world.metric(series).await != value {} };
    if timeout(LONG, reached).await.is_err() {
        panic!("{series} is {} and never {value}", world.metric(series).await);
    }
}

#[tokio::test]
async fn headers_beyond_the_limit_are_a_431_in_the_callers_dialect() {
    let world = World::new().start().await;
    let many = (0..90).fold(world.client(), |client, n| client.header(&format!("x-{n}"), &"v".repeat(400)));
    let large = (0..40).fold(world.client(), |client, n| client.header(&format!("x-{n}"), &"v".repeat(1000)));
    let one = world.client().header("x-one", &"v".repeat(40_000));

    for client in [many, large, one] {
        for dialect in Dialect::ALL {
            let reply = client.post(dialect.path(), dialect.ask("o-x")).await;
            assert_told(dialect, &reply, 431, "headers_too_large", "32768");
        }
    }

    assert_eq!(world.mock.counts().requests, 0);
    assert_eq!(world.metric(r#"troupe_refused_total{code="headers_too_large"}"#).await, 6.0);
}

#[tokio::test]
async fn a_header_bomb_is_a_431_that_a_client_sees_which_sends_all_of_it_first() {
    let world = World::new().start().await;
    let many: String = (0..64).map(|n| format!("x-{n}: {}\r\n", "v".repeat(1024))).collect();
    let numerous: String = (0..200).map(|n| format!("x-{n}: v\r\n")).collect();
    let huge = format!("x-bomb: {}\r\n", "v".repeat(1 << 20));

    for headers in [many, numerous, huge] {
        for (path, kind) in
            [("/v1/models", "invalid_request_error"), ("/v1/messages?beta=true", "invalid_request_error")]
        {
            let mut socket = world.raw().await;
            raw::write_all(&mut socket, [raw::head("GET", path, &headers).into_bytes()]).await.unwrap();

            let answer = raw::answer(&mut socket).await.unwrap();

            assert_eq!(answer.status, 431, "{answer:?}");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["error"]["type"], kind, "{body}");
            assert_eq!(body["type"] == "error", path.contains("messages"), "{path}: {body}");
        }
    }
    assert_eq!(world.metric(r#"troupe_refused_total{code="headers_too_large"}"#).await, 6.0);
    assert_eq!(world.client().get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn a_header_bomb_over_http2_hurts_its_own_request_only() {
    let world = World::new().start().await;
    let client = world.client().http2().await;

    for bytes in [40_000, 64 << 10, 300 << 10] {
        let bomb = client.clone().header("x-bomb", &"v".repeat(bytes));
        match bomb.try_call(Method::GET, "/v1/models", "").await {
            Ok(stream) => assert_eq!(stream.status, 431, "{bytes}"),
            // Beyond what any client could mean the connection itself is given up.
            Err(_) => assert!(bytes > 100_000, "{bytes}"),
        }
    }

    let reply = world.client().http2().await.get("/v1/models").await;
    assert_eq!(reply.status, 200);
    assert_eq!(world.metric("troupe_panics_total").await, 0.0);
}

/// Sends a byte at a time until the other side hangs up or answers; gives what it said, and how long it took.
async fn dribble(socket: TcpStream, bytes: &[u8]) -> (String, Duration) {
    let began = clock::now();
    let (mut read, mut write) = socket.into_split();
    let sending = async {
        let mut pace = interval(Duration::from_millis(20));
        for byte in bytes.iter().cycle() {
            pace.tick().await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut said = [0; 2048];
    let heard = tokio::select! {
        heard = timeout(LONG, read.read(&mut said)) => heard.expect("still listening"),
        () = sending => unreachable!("it waits for ever"),
    };
    // A reset says as much as an end.
    let heard = heard.unwrap_or(0);
    (String::from_utf8_lossy(&said[..heard]).into_owned(), clock::now() - began)
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_hung_up_on() {
    let world = World::new().flag("limits-header-timeout", "300ms").start().await;
    let kept = world.raw().await;
    let mut second = world.raw().await;
    raw::write_all(&mut second, [raw::head("GET", "/v1/models", "").into_bytes()]).await.unwrap();
    raw::answer(&mut second).await.unwrap();

    for (socket, what) in [(kept, "first request"), (second, "second request")] {
        let (said, took) = dribble(socket, b"GET /v1/models HTTP/1.1\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaa").await;

        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{what}: {said}");
        assert!(took >= QUICK && took < QUICK * 10, "{what}: {took:?}");
    }
    let (said, took) = dribble(world.raw().await, b"PRI * HTTP/2.0\r\n\r\nSM\r").await;
    assert!(said.is_empty() && took < QUICK * 10, "preface: {said} {took:?}");
    metric_becomes(&world, "troupe_connections_open", 0.0).await;
}

#[tokio::test]
async fn a_tls_handshake_that_never_comes_is_hung_up_on() {
    let world = World::new().tls().flag("limits-header-timeout", "300ms").start().await;
    let mut silent = world.raw().await;

    assert!(raw::closed(&mut silent).await.is_empty());

    let (_, took) = dribble(world.raw().await, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(took < QUICK * 10, "{took:?}");
    assert_eq!(world.client().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_between_requests_may_stay() {
    let world = World::new().flag("limits-header-timeout", "100ms").flag("limits-body-timeout", "100ms").start().await;

    for client in [world.client().kept().await, world.client().http2().await] {
        assert_eq!(client.get("/v1/models").await.status, 200);
        tokio::time::sleep(QUICK).await;
        assert_eq!(client.get("/v1/models").await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_or_comes_too_slowly_is_a_408() {
    let world = World::new().flag("limits-body-timeout", "300ms").start().await;

    for dialect in Dialect::ALL {
        for length in ["content-length: 100000\r\n", "transfer-encoding: chunked\r\n"] {
            let begun =
                raw::head("POST", dialect.path(), length) + if length.starts_with('c') { "{" } else { "1\r\n{\r\n" };
            let mut stopped = world.raw().await;
            raw::write_all(&mut stopped, [begun.into_bytes()]).await.unwrap();
            let answer = raw::answer(&mut stopped).await.unwrap();
            assert_eq!((answer.status, answer.header("x-troupe-error")), (408, Some("request_timeout")), "{answer:?}");
            assert_eq!(answer.body.contains(r#""type":"error""#), dialect == Dialect::Anthropic, "{answer:?}");
        }
        let mut slow = world.raw().await;
        raw::write_all(&mut slow, [raw::head("POST", dialect.path(), "content-length: 100000\r\n").into()])
            .await
            .unwrap();
        let (said, took) = dribble(slow, b" ").await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert!(took < QUICK * 10, "{took:?}");
    }
    assert_eq!(world.mock.counts().requests, 0);
    metric_becomes(&world, "troupe_requests_in_flight", 0.0).await;
}

/// A client that asks for much and reads none of it.
async fn ask_and_read_nothing(world: &World, dialect: Dialect, body: &Value) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut socket = socket.connect(world.addr()).await.unwrap();
    let body = body.to_string();
    let head = raw::head("POST", dialect.path(), &format!("content-length: {}\r\n", body.len()));
    raw::write_all(&mut socket, [head.into_bytes(), body.into_bytes()]).await.unwrap();
    socket
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_its_provider_let_go() {
    let world = World::new().flag("limits-body-timeout", "300ms").start().await;
    for dialect in Dialect::ALL {
        for body in [dialect.ask("o-x+size=64MiB"), dialect.ask_stream("o-x+words=5000+size=64MiB")] {
            if dialect == Dialect::Anthropic && body.get("stream").is_none() {
                // Translated replies of that size are refused; see the faults.
                continue;
            }
            world.mock.reset();

            let held = ask_and_read_nothing(&world, dialect, &body).await;

            let is_closed = |counts: Snapshot| counts.connections == 1 && counts.connections_open == 0;
            until("the provider's connection is closed", || is_closed(world.mock.counts())).await;
            metric_becomes(&world, "troupe_requests_in_flight", 0.0).await;
            drop(held);
        }
    }
    until("the lines", || world.access_lines().len() == 3).await;
    assert!(world.access_lines().iter().all(|line| line["outcome"] == "client_gone"), "{:?}", world.access_lines());
}

#[tokio::test]
async fn an_http2_stream_that_is_not_read_is_cut_and_its_neighbours_live() {
    let world = World::new().flag("limits-body-timeout", "300ms").start().await;
    let client = world.client().http2().await;
    for dialect in Dialect::ALL {
        world.mock.reset();

        let held = client.stream(dialect.path(), dialect.ask_stream("o-x+words=5000+size=64MiB")).await;

        assert_eq!(held.status, 200);
        until("the provider's connection is closed", || world.mock.closed_early().len() == 1).await;
        metric_becomes(&world, "troupe_requests_in_flight", 0.0).await;
        let reply = client.post(dialect.path(), dialect.ask("o-x+words=3")).await;
        assert_eq!(dialect.text(&reply.json()), words(3));
        let rest = held.reply().await;
        assert!(rest.is_cut, "a stream that was cut looks whole");
    }
}

#[tokio::test]
async fn a_slow_reader_that_does_read_is_never_cut() {
    let world = World::new().flag("limits-body-timeout", "300ms").start().await;
    for client in [world.client(), world.client().http2().await] {
        let mut stream =
            client.stream("/v1/chat/completions", Dialect::OpenAi.ask_stream("o-x+words=400+size=8MiB")).await;
        let mut pieces = 0;
        // A pause of a third of the patience every megabyte.
        while let Some(piece) = stream.piece().await {
            pieces += piece.len();
            if pieces > 1 << 20 {
                pieces = 0;
                tokio::time::sleep(QUICK / 3).await;
            }
        }
        assert!(!stream.is_cut && stream.raw.ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_full_node_refuses_with_503_and_when_to_come_again() {
    let world = World::new().flag("limits-in-flight", "2").start().await;
    let client = world.client().http2().await;
    let first = client.stream("/v1/messages", Dialect::Anthropic.ask_stream("a-x+hang-at=1")).await;
    let second = client.stream("/v1/chat/completions", Dialect::OpenAi.ask_stream("o-x+hang-at=1")).await;
    assert_eq!((first.status, second.status), (200, 200));

    for dialect in Dialect::ALL {
        for client in [world.client(), client.clone()] {
            let reply = client.post(dialect.path(), dialect.ask("o-x")).await;
            assert_told(dialect, &reply, 503, "overloaded", "");
            assert_eq!((reply.header("retry-after"), reply.header("x-should-retry")), (Some("1"), None));
        }
    }
    assert_eq!(world.metric(r#"troupe_refused_total{code="overloaded"}"#).await, 4.0);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(world.mock.counts().requests, 2);

    drop((first, second));
    metric_becomes(&world, "troupe_requests_in_flight", 0.0).await;
    let reply = client.post("/v1/messages", Dialect::Anthropic.ask("a-x")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_closes() {
    let world = World::new().flag("limits-connections", "2").start().await;
    let first = world.client().kept().await;
    let second = world.client().kept().await;
    assert_eq!((first.get("/healthz").await.status, second.get("/healthz").await.status), (200, 200));
    let third = world.client();
    let waiting = third.get("/healthz");
    tokio::pin!(waiting);

    assert!(timeout(QUICK, waiting.as_mut()).await.is_err(), "a third connection was served");
    drop(first);

    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn an_old_connection_ends_behind_its_last_reply() {
    let world = World::new().flag("limits-connection-max-age", "1s").start().await;
    let idle = world.client().kept().await;
    assert_eq!(idle.get("/healthz").await.status, 200);
    for is_http2 in [false, true] {
        let client = if is_http2 { world.client().http2().await } else { world.client().kept().await };
        let ask = Dialect::OpenAi.ask_stream("o-x+words=20+drip=100ms");

        let mut stream = client.stream("/v1/chat/completions", ask).await;
        let events = stream.rest().await;

        assert!(!stream.is_cut && events.last().unwrap().data == "[DONE]", "{events:?}");
        drop(stream);
        if !is_http2 {
            // The stream's head was out before its time was up. Closed behind it, the connection would fail this call.
            let last = client.get("/healthz").await;
            assert_eq!((last.status, last.header("connection")), (200, Some("close")));
        }
        let next = async { while client.try_call(Method::GET, "/healthz", "").await.is_ok() {} };
        timeout(LONG, next).await.expect("the connection is still served");
    }
    metric_becomes(&world, "troupe_connections_open", 0.0).await;
    assert_eq!(world.client().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn more_streams_than_a_connection_may_have_wait_their_turn() {
    let world = World::new().flag("limits-h2-streams", "4").start().await;
    let client = world.client().http2().await;
    client.get("/healthz").await;

    let asks = (0..16).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            client.post("/v1/messages", Dialect::Anthropic.ask_stream("a-x+words=3+drip=10ms")).await
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        let reply = ask.await.unwrap();
        assert!(reply.status == 200 && reply.text().contains("message_stop"), "{}", reply.text());
    }

    let most = world.mock.counts().streams_open_max;
    assert!((1..=4).contains(&most), "{most}");
}

#[tokio::test]
async fn a_stream_that_never_rests_ends_at_its_deadline() {
    let world = World::new()
        .spec("[providers.short]\nwire = \"openai\"\nbase_url = \"{mock}/v1\"\ntimeouts = { total = \"600ms\" }")
        .spec("[models.\"short-*\"]\ntargets = [{ provider = \"short\" }]")
        .start()
        .await;

    for dialect in Dialect::ALL {
        let began = clock::now();
        let ask = dialect.ask_stream("short-x+words=200+drip=50ms");
        let mut stream = world.client().stream(dialect.path(), ask).await;
        let events = stream.rest().await;

        let took = clock::now() - began;
        let last = events.last().unwrap().json();
        assert!(last.to_string().contains("in time"), "{last}");
        assert!(stream.is_cut && took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
    }
    until("both calls are closed", || world.mock.closed_early().len() == 2).await;
}

#[tokio::test]
async fn a_client_that_says_how_long_it_waits_is_answered_by_then() {
    let world = World::new().once().start().await;
    let hasty = world.client().header("x-stainless-read-timeout", "0.4");

    for dialect in Dialect::ALL {
        for ask in [dialect.ask("o-x+delay=9s"), dialect.ask_stream("o-x+delay=9s")] {
            let began = clock::now();
            let reply = hasty.post(dialect.path(), ask).await;

            let took = clock::now() - began;
            assert_told(dialect, &reply, 504, "provider_timeout", "in time");
            assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
        }
    }
}
