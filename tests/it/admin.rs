//! What operators see: probes, the token, and counters that tell what happened.

use std::collections::BTreeSet;

use http::Method;
use troupe_tests::ask::Dialect;
use troupe_tests::world::KEY;
use troupe_tests::{Client, World, until};

const PATH: &str = "/v1/chat/completions";

/// The names and labels of all series, without their values.
fn series(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[tokio::test]
async fn the_page_of_metrics_is_for_operators_only() {
    let world = World::new().start().await;
    let token = troupe_tests::world::ADMIN;
    let admin = Client::new(world.node.admin, None);

    for client in [admin.clone(), admin.clone().key("wrong"), admin.clone().key(KEY)] {
        let reply = client.get("/metrics").await;

        let problem = reply.json();
        assert_eq!((reply.status, reply.header("content-type")), (401, Some("application/problem+json")));
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!((problem["status"].as_u64(), problem["title"].as_str()), (Some(401), Some("Unauthorized")));
        assert!(!reply.text().contains(token) && !reply.text().contains("# HELP"));
    }
    let page = admin.clone().key(token).get("/metrics").await;
    assert_eq!((page.status, page.text().contains("# HELP")), (200, true));

    for path in ["/metrics", "/admin/v1/status"] {
        let reply = world.client().get(path).await;
        assert_eq!(reply.status, 404, "clients see {path}");
    }
    let reply = world.client().key(token).get("/v1/models").await;
    assert_eq!(reply.status, 401, "the operators' token is no key of clients");
}

#[tokio::test]
async fn probes_answer_on_both_ports_without_a_key() {
    let world = World::new().start().await;
    for client in [Client::new(world.addr(), None), Client::new(world.node.admin, None)] {
        for (path, words) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let reply = client.get(path).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, words), "{path}");
            let head = client.call(Method::HEAD, path, "").await.reply().await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            let options = client.call(Method::OPTIONS, path, "").await.reply().await;
            assert!([200, 204].contains(&options.status) && options.body.is_empty(), "{path}: {}", options.status);
            assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
        }
        assert!(client.get("/readyz?verbose").await.text().contains("[+] "));
    }
    assert_eq!(world.access_lines().len(), 0, "probes leave no lines");
}

#[tokio::test]
async fn counters_tell_what_known_traffic_came_to() {
    let world = World::new().once().start().await;
    let client = world.client();
    let ask = |model: &str| Dialect::OpenAi.ask(model);

    for _ in 0..3 {
        assert_eq!(client.post(PATH, ask("o-x+words=3")).await.status, 200);
        let stream = client.stream("/v1/messages", Dialect::Anthropic.ask_stream("claude-sonnet")).await;
        assert!(stream.reply().await.text().contains("message_stop"));
    }
    client.post(PATH, ask("o-x+status=500")).await;
    client.post(PATH, ask("a-x+status=401")).await;
    client.post(PATH, ask("o-x+status=400")).await;
    client.stream(PATH, Dialect::OpenAi.ask_stream("o-x+cut=2")).await.reply().await;
    client.post(PATH, ask("nope")).await;
    client.clone().key("sk-nobody").post(PATH, ask("o-x")).await;
    let mut left = client.stream(PATH, Dialect::OpenAi.ask_stream("o-x+hang-at=1")).await;
    assert!(left.next().await.is_some());
    drop(left);
    client.post(PATH, ask("o-x+status=429+retry-after=1")).await;
    until("the last line", || world.access_lines().len() == 14).await;

    let page = world.metrics().await;
    for (series, value) in [
        (r#"troupe_requests_total{operation="chat",model="o-*",status_class="2xx",outcome="finished"}"#, 3),
        (
            r#"troupe_requests_total{operation="messages",model="claude-sonnet",status_class="2xx",outcome="finished"}"#,
            3,
        ),
        (r#"troupe_requests_total{operation="chat",model="o-*",status_class="2xx",outcome="interrupted"}"#, 1),
        (r#"troupe_requests_total{operation="chat",model="o-*",status_class="2xx",outcome="client_gone"}"#, 1),
        (r#"troupe_requests_total{operation="chat",model="unknown",status_class="4xx",outcome="refused"}"#, 2),
        (r#"troupe_refused_total{code="model_not_found"}"#, 1),
        (r#"troupe_refused_total{code="key_unknown"}"#, 1),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="finished"}"#, 3),
        (r#"troupe_attempts_total{provider="a",model="claude-sonnet",outcome="finished"}"#, 3),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="provider"}"#, 1),
        (r#"troupe_attempts_total{provider="a",model="a-*",outcome="credential"}"#, 1),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="capacity"}"#, 1),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="client"}"#, 1),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="interrupted"}"#, 1),
        (r#"troupe_attempts_total{provider="o",model="o-*",outcome="client_gone"}"#, 1),
        (r#"troupe_time_to_first_token_seconds_count{operation="messages",model="claude-sonnet"}"#, 3),
        (r#"troupe_time_to_first_token_seconds_count{operation="chat",model="o-*"}"#, 5),
        (r#"troupe_request_duration_seconds_count{operation="chat",model="o-*"}"#, 8),
        ("troupe_requests_in_flight", 0),
        ("troupe_access_log_lines_total", 14),
        ("troupe_access_log_dropped_total", 0),
        ("troupe_panics_total", 0),
    ] {
        let line = format!("{series} {value}");
        assert!(page.lines().any(|seen| seen == line), "no {line} in\n{page}");
    }
    let closed = async { while world.metric("troupe_connections_open").await != 0.0 {} };
    tokio::time::timeout(troupe_tests::eventually::LONG, closed).await.expect("a connection is still counted");
}

#[tokio::test]
async fn names_that_clients_make_up_make_no_series() {
    let world = World::new().start().await;
    let client = world.client().http2().await;
    let call = |name: String| {
        let client = client.clone();
        async move { client.post(PATH, Dialect::OpenAi.ask(&name)).await.status }
    };
    assert_eq!((call("o-first".to_owned()).await, call("none".to_owned()).await), (200, 404));
    assert_eq!(client.post("/nowhere", serde_json::json!({})).await.status, 404);
    let before = series(&world.metrics().await);

    let mut calls = tokio::task::JoinSet::new();
    for n in 0..5000 {
        calls.spawn(call(if n % 2 == 0 { format!("o-{n}") } else { format!("none-{n}") }));
        if calls.len() >= 64 {
            calls.join_next().await.unwrap().unwrap();
        }
    }
    calls.join_all().await;

    let page = world.metrics().await;
    assert_eq!(series(&page), before);
    let asked = r#"troupe_requests_total{operation="chat",model="o-*",status_class="2xx",outcome="finished"} 2501"#;
    assert!(page.contains(asked), "{page}");
}
