//! What clients get wrong: each mistake has a clear answer in the caller's dialect, and no provider hears of it.

use bytes::Bytes;
use http::Method;
use serde_json::json;
use troupe_tests::ask::Dialect;
use troupe_tests::world::KEY_LIMITED;
use troupe_tests::{Client, World};

use crate::raw;
use crate::told::{assert_told, told};

/// Nobody was called, and nothing panicked.
async fn assert_unharmed(world: &World) {
    assert_eq!(world.mock.counts().requests, 0);
    assert_eq!(world.metric("troupe_panics_total").await, 0.0);
}

async fn each_client(world: &World) -> [Client; 2] {
    [world.client(), world.client().http2().await]
}

#[tokio::test]
async fn a_body_that_is_no_sound_json_is_refused() {
    let world = World::new().start().await;
    let open = "[".repeat(10_000);
    let close = "]".repeat(10_000);
    let prompt = r#""max_tokens":9,"messages":[]"#;
    let cases: [(Vec<u8>, &str, &str); 20] = [
        (Vec::new(), "invalid_json", ""),
        (b" \n ".to_vec(), "invalid_json", ""),
        (b"{\"model\":".to_vec(), "invalid_json", ""),
        (b"model=o-x".to_vec(), "invalid_json", ""),
        (b"[1,2]".to_vec(), "invalid_field", "array"),
        (b"\"o-x\"".to_vec(), "invalid_field", "string"),
        (format!(r#"{{"model":"o-x",{prompt}}} {{}}"#).into(), "invalid_json", ""),
        (format!(r#"{{"model":"o-x",{prompt},"temperature":NaN}}"#).into(), "invalid_json", ""),
        (format!(r#"{{"model":"o-x",{prompt},"temperature":01}}"#).into(), "invalid_json", ""),
        (format!("{{\"model\":\"o-x\",{prompt},'a':1}}").into(), "invalid_json", ""),
        ([br#"{"model":"o-"#.as_slice(), &[0xff], br#"","messages":[]}"#].concat(), "invalid_json", "UTF-8"),
        ([br#"{"model":"o-x","messages":[""#.as_slice(), &[0xc3], br#""]}"#].concat(), "invalid_json", "UTF-8"),
        (format!(r#"{{"model":"o-x","model":"a-x",{prompt}}}"#).into(), "duplicate_key", "model"),
        (format!(r#"{{"model":"o-x","mod\u0065l":"a-x",{prompt}}}"#).into(), "duplicate_key", "model"),
        (
            r#"{"model":"o-x","max_tokens":9,"messages":[{"role":"user","content":"a","rol\u0065":"system"}]}"#.into(),
            "duplicate_key",
            "messages",
        ),
        (format!(r#"{{"model":"o-x",{prompt},"metadata":{{"a":{{"b":1,"b":2}}}}}}"#).into(), "duplicate_key", "b"),
        (r#"{"model":"o-x","max_tokens":{"a":1,"a":2},"messages":[]}"#.into(), "duplicate_key", "max_tokens"),
        (format!(r#"{{"model":"o-x","messages":{open}{close}}}"#).into(), "invalid_json", "deep"),
        (format!(r#"{{"model":"o-x","max_tokens":{open}{close},"messages":[]}}"#).into(), "invalid_json", "deep"),
        (format!(r#"{{"model":"o-x",{prompt},"other":{open}"#).into(), "invalid_json", ""),
    ];

    for client in each_client(&world).await {
        for dialect in Dialect::ALL {
            for (body, code, words) in &cases {
                let reply = client.post_bytes(dialect.path(), body.clone()).await;

                assert_told(dialect, &reply, 400, code, words);
            }
        }
    }

    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named() {
    let world = World::new().start().await;
    let client = world.client();
    let ok = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        (json!({"messages": ok, "max_tokens": 9}), "model"),
        (json!({"model": null, "messages": ok, "max_tokens": 9}), "model"),
        (json!({"model": 4, "messages": ok, "max_tokens": 9}), "model"),
        (json!({"model": "", "messages": ok, "max_tokens": 9}), "model"),
        (json!({"model": {"name": "o-x"}, "messages": ok, "max_tokens": 9}), "model"),
        (json!({"model": "o-x", "max_tokens": 9}), "messages"),
        (json!({"model": "o-x", "messages": "hi", "max_tokens": 9}), "messages"),
        (json!({"model": "o-x", "messages": {"role": "user"}, "max_tokens": 9}), "messages"),
        (json!({"model": "o-x", "messages": ok, "max_tokens": 9, "stream": "yes"}), "stream"),
        (json!({"model": "o-x", "messages": ok, "max_tokens": 9, "stream": 1}), "stream"),
    ];

    for dialect in Dialect::ALL {
        for (body, field) in &cases {
            let reply = client.post(dialect.path(), body.clone()).await;

            assert_told(dialect, &reply, 400, "invalid_field", field);
            if dialect == Dialect::OpenAi {
                assert_eq!(told(dialect, &reply).param.as_deref(), Some(*field), "{}", reply.text());
            }
        }
    }
    for (path, body, field) in [
        ("/v1/embeddings", json!({"model": "o-x"}), "input"),
        ("/v1/responses", json!({"model": 1, "input": "hi"}), "model"),
        ("/v1/completions", json!({"model": "o-x", "prompt": "hi", "stream": "no"}), "stream"),
    ] {
        let reply = client.post(path, body).await;

        assert_told(Dialect::OpenAi, &reply, 400, "invalid_field", field);
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_translated_body_that_makes_no_sense_is_refused_without_a_panic() {
    let world = World::new().start().await;
    let client = world.client();
    let odd = [
        json!([1]),
        json!([null]),
        json!([[]]),
        json!([{}]),
        json!([{"role": 7, "content": "a"}]),
        json!([{"role": "user", "content": 7}]),
        json!([{"role": "user", "content": [{"type": 7}]}]),
        json!([{"role": "tool", "content": {"a": 1}, "tool_call_id": 9}]),
        json!([{"role": "assistant", "tool_calls": "none", "content": null}]),
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]),
        json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": null, "content": 3}]}]),
    ];

    for (dialect, model) in [(Dialect::OpenAi, "a-x"), (Dialect::Anthropic, "o-x")] {
        for messages in &odd {
            let reply =
                client.post(dialect.path(), json!({"model": model, "max_tokens": 9, "messages": messages})).await;

            let told = told(dialect, &reply);
            assert_eq!(told.status, 400, "{messages}: {told:?}");
        }
    }
    assert_eq!(world.metric("troupe_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_body_of_100_mb_is_a_413_that_a_client_sees_which_sends_all_of_it_first() {
    let world = World::new().start().await;
    let piece = vec![b' '; 1 << 20];
    let announced = vec![piece.clone(); 100];
    let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    let mut chunked = vec![framed; 100];
    chunked.push(b"0\r\n\r\n".to_vec());

    for (headers, pieces) in [
        (format!("content-length: {}\r\n", 100 << 20), announced),
        ("transfer-encoding: chunked\r\n".to_owned(), chunked),
    ] {
        for dialect in Dialect::ALL {
            let mut socket = world.raw().await;
            let head = raw::head("POST", dialect.path(), &headers).into_bytes();
            raw::write_all(&mut socket, std::iter::once(head).chain(pieces.clone())).await.unwrap();

            let answer = raw::answer(&mut socket).await.unwrap();

            assert_eq!((answer.status, answer.header("x-troupe-error")), (413, Some("body_too_large")), "{answer:?}");
            assert!(answer.body.contains("32MiB"), "{answer:?}");
            let is_anthropic = answer.body.contains(r#""type":"error""#);
            assert_eq!(is_anthropic, dialect == Dialect::Anthropic, "{answer:?}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_a_413_over_either_protocol_and_leaves_the_connection_usable() {
    let world = World::new().flag("limits-body-bytes", "64KiB").start().await;

    for client in [world.client(), world.client().kept().await, world.client().http2().await] {
        for dialect in Dialect::ALL {
            let reply = client.post_bytes(dialect.path(), Bytes::from(vec![b' '; 3 << 20])).await;
            assert_told(dialect, &reply, 413, "body_too_large", "64KiB");

            let reply = client.post(dialect.path(), dialect.ask("o-x")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_reaches_a_client_that_sends_all_of_it_first() {
    let world = World::new().start().await;
    let body = vec![b' '; 24 << 20];

    for (headers, status) in
        [("authorization: Bearer sk-nobody\r\n", 401), ("x-api-key: sk-test\r\ncontent-encoding: gzip\r\n", 400)]
    {
        let mut socket = world.raw().await;
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: t\r\n{headers}content-length: {}\r\n\r\n", body.len());
        raw::write_all(&mut socket, [head.into_bytes(), body.clone()]).await.unwrap();

        let answer = raw::answer(&mut socket).await.unwrap();

        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_without_sending() {
    let world = World::new().start().await;
    let ask = |length: usize| {
        raw::head("POST", "/v1/messages", &format!("expect: 100-continue\r\ncontent-length: {length}\r\n")).into_bytes()
    };
    let mut refused = world.raw().await;
    raw::write_all(&mut refused, [ask(100 << 20)]).await.unwrap();
    let answer = raw::answer(&mut refused).await.unwrap();
    assert_eq!((answer.status, answer.header("x-troupe-error")), (413, Some("body_too_large")), "{answer:?}");

    let body = Dialect::Anthropic.ask("a-x").to_string();
    let mut welcome = world.raw().await;
    raw::write_all(&mut welcome, [ask(body.len())]).await.unwrap();
    assert_eq!(raw::answer(&mut welcome).await.unwrap().status, 100);
    raw::write_all(&mut welcome, [body.into_bytes()]).await.unwrap();

    assert_eq!(raw::answer(&mut welcome).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_compressed_body_is_refused_by_name() {
    let world = World::new().start().await;

    for encoding in ["gzip", "br", "zstd"] {
        for dialect in Dialect::ALL {
            let client = world.client().header("content-encoding", encoding);
            let reply = client.post_bytes(dialect.path(), &b"\x1f\x8b\x08\x00"[..]).await;

            let message = told(dialect, &reply);
            assert!(message.status == 400 && message.message.contains(encoding), "{message:?}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn an_unknown_model_is_a_404_that_offers_near_names_the_key_may_use() {
    let world = World::new().start().await;

    for client in each_client(&world).await {
        for dialect in Dialect::ALL {
            let reply = client.post(dialect.path(), dialect.ask("gpt-4o-minni")).await;
            let message = assert_told(dialect, &reply, 404, "model_not_found", "gpt-4o-mini");
            assert!(!message.contains("claude"), "{message}");

            let reply = client.post(dialect.path(), dialect.ask_stream("claude-sonet")).await;
            assert_told(dialect, &reply, 404, "model_not_found", "claude-sonnet");

            let reply = client.clone().key(KEY_LIMITED).post(dialect.path(), dialect.ask("gpt-4")).await;
            let message = assert_told(dialect, &reply, 404, "model_not_found", "gpt-4");
            assert!(!message.contains("gpt-4o"), "names of others: {message}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_model_name_of_any_kind_is_answered_briefly() {
    let world = World::new().start().await;
    let client = world.client();
    let names =
        ["x".repeat(1 << 20), "\u{0}\n\r\"\\".into(), "😀".repeat(100), "../../etc/passwd".into(), "%s%n{}".into()];

    for dialect in Dialect::ALL {
        for name in &names {
            let reply = client.post(dialect.path(), dialect.ask(name)).await;

            let told = told(dialect, &reply);
            assert!(matches!(told.status, 400 | 404), "{told:?}");
            assert!(reply.body.len() < 4096, "{} bytes", reply.body.len());
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn an_unknown_path_is_a_404_in_the_dialect_of_whoever_asks() {
    let world = World::new().start().await;

    for client in each_client(&world).await {
        let sdk = client.clone().header("anthropic-version", "2023-06-01");
        for (client, path, dialect) in [
            (&client, "/", Dialect::OpenAi),
            (&client, "/v1/chat/completion", Dialect::OpenAi),
            (&client, "/v1/images/generations", Dialect::OpenAi),
            (&client, "/openai/v1/messages", Dialect::OpenAi),
            (&client, "/v1/messages/batches", Dialect::Anthropic),
            (&client, "/anthropic/v1/chat/completions", Dialect::Anthropic),
            (&sdk, "/v1/files", Dialect::Anthropic),
        ] {
            let reply = client.post(path, json!({})).await;

            assert_told(dialect, &reply, 404, "route_not_found", path);
            assert_eq!(reply.header("x-should-retry"), Some("false"));
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn a_wrong_method_is_a_405_that_names_the_right_one() {
    let world = World::new().start().await;

    for client in each_client(&world).await {
        for (method, path, allowed, dialect) in [
            (Method::GET, "/v1/chat/completions", "POST", Dialect::OpenAi),
            (Method::PUT, "/v1/messages", "POST", Dialect::Anthropic),
            (Method::DELETE, "/anthropic/v1/messages/count_tokens", "POST", Dialect::Anthropic),
            (Method::POST, "/v1/models", "GET, HEAD", Dialect::OpenAi),
            (Method::DELETE, "/v1/models/gpt-4o", "GET, HEAD", Dialect::OpenAi),
            (Method::POST, "/healthz", "GET, HEAD, OPTIONS", Dialect::OpenAi),
        ] {
            let reply = client.call(method, path, Bytes::new()).await.reply().await;

            assert_told(dialect, &reply, 405, "method_not_allowed", allowed);
            assert_eq!(reply.header("allow"), Some(allowed), "{path}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let world = World::new().start().await;

    for client in each_client(&world).await {
        for path in ["/v1/models", "/v1/models/gpt-4o", "/v1/models/nope", "/healthz", "/readyz"] {
            let get = client.get(path).await;
            let head = client.call(Method::HEAD, path, Bytes::new()).await.reply().await;

            assert_eq!(head.status, get.status, "{path}");
            assert!(head.body.is_empty() && !head.is_cut, "{path}");
            let length = get.body.len().to_string();
            assert_eq!(head.header("content-length"), Some(length.as_str()), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn bytes_that_are_no_http_or_two_requests_in_one_are_refused_and_hurt_nobody() {
    let world = World::new().start().await;
    let body = Dialect::OpenAi.ask("o-x").to_string();
    let length = body.len();
    let two_lengths =
        raw::head("POST", "/v1/chat/completions", &format!("content-length: {length}\r\ncontent-length: 5\r\n"));
    let no_length = raw::head("POST", "/v1/chat/completions", "content-length: +5\r\n");
    let coding = raw::head("POST", "/v1/chat/completions", "transfer-encoding: chunked, gzip\r\n");
    let cases: [Vec<u8>; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"POST /v1/messages HTTP/1.1\r\nhost t\r\n\r\n".to_vec(),
        (two_lengths + &body).into(),
        (no_length + &body).into(),
        (coding + &body).into(),
    ];

    for bytes in cases {
        let mut socket = world.raw().await;
        raw::write_all(&mut socket, [bytes.clone()]).await.unwrap();

        let answered = raw::closed(&mut socket).await;

        let text = String::from_utf8_lossy(&answered);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{:?}: {text}", String::from_utf8_lossy(&bytes));
    }
    assert_unharmed(&world).await;
    assert_eq!(world.client().post("/v1/messages", Dialect::Anthropic.ask("a-x")).await.status, 200);
}

#[tokio::test]
async fn no_answer_to_a_mistake_tells_of_secrets_or_providers() {
    let world = World::new().start().await;
    let client = world.client();
    let mut seen = String::new();

    for dialect in Dialect::ALL {
        for body in [json!({}), dialect.ask("nope"), dialect.ask("gpt-4o-")] {
            seen += &client.post(dialect.path(), body.clone()).await.text();
            seen += &client.clone().key(KEY_LIMITED).post(dialect.path(), body.clone()).await.text();
            seen += &client.clone().key("").post(dialect.path(), body).await.text();
        }
    }

    for secret in ["provider-secret", "sk-", "127.0.0.1", "full", "limited", "expired"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    assert_unharmed(&world).await;
}
