//! The end of a node: balancers are told, streams finish, nothing waits for ever, every request has its line.

use std::future::{pending, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_node::telemetry::metrics::Learned;
use troupe_tests::ask::{Dialect, words};
use troupe_tests::eventually::LONG;
use troupe_tests::{Client, World};

const PATH: &str = "/v1/chat/completions";

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a metrics page says of a series.
fn value(page: &str, series: &str) -> f64 {
    page.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map_or(0.0, |value| value.parse().unwrap())
}

async fn is_refused(data: SocketAddr) -> bool {
    let refused = async { while TcpStream::connect(data).await.is_ok() {} };
    timeout(LONG, refused).await.is_ok()
}

/// Whether a connection takes no more requests.
async fn is_over(client: &Client) -> bool {
    let over = async { while client.try_call(Method::GET, "/healthz", "").await.is_ok() {} };
    timeout(LONG, over).await.is_ok()
}

#[tokio::test]
async fn a_draining_node_says_so_serves_whoever_comes_and_closes_its_door_behind_its_last_stream() {
    let world = World::new().flag("limits-drain-delay", "2s").flag("limits-drain-timeout", "30s").start().await;
    let (data, admin, log) = (world.addr(), Client::new(world.node.admin, None), world.dir().join("access.log"));
    let client = world.client();
    let shared = client.clone().http2().await;
    let kept = client.clone().kept().await;
    let ask = Dialect::OpenAi.ask_stream("o-x+words=100+drip=50ms");
    let mut streams = vec![client.stream(PATH, ask.clone()).await, shared.stream(PATH, ask).await];
    assert_eq!(kept.get("/readyz").await.status, 200);

    let World { mock, node, .. } = world;
    let draining = tokio::spawn(node.drain(pending()));

    let unready = async { while client.get("/readyz").await.status != 503 {} };
    timeout(Duration::from_secs(1), unready).await.expect("unready at once");
    assert_eq!((admin.get("/readyz").await.status, client.get("/healthz").await.status), (503, 200));
    assert_eq!(client.post(PATH, Dialect::OpenAi.ask("o-x")).await.status, 200);
    assert_eq!(kept.post(PATH, Dialect::OpenAi.ask("o-x")).await.status, 200);

    assert!(is_over(&shared).await, "no GOAWAY on h2");
    assert!(is_over(&kept).await, "an idle connection stays open");
    // A balancer that found the door closed would take the node for dead and cut the streams.
    let late = client.get("/readyz").await;
    assert_eq!((late.status, late.header("connection")), (503, Some("close")));
    let late = client.post(PATH, Dialect::OpenAi.ask("o-x")).await;
    assert_eq!((late.status, late.header("connection")), (200, Some("close")));
    assert!(!draining.is_finished());
    for stream in &mut streams {
        let text: String =
            stream.rest().await.iter().filter_map(|event| Dialect::OpenAi.piece(&event.json())).collect();
        assert_eq!((text, stream.is_cut), (words(100), false));
    }
    drop(streams);
    assert!(is_refused(data).await, "the door stays open");
    timeout(Duration::from_secs(3), draining).await.expect("it ends with its last stream").unwrap();

    let lines = lines(&log);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line["outcome"] == "finished"), "{lines:?}");
    assert_eq!(mock.closed_early(), []);
}

#[tokio::test]
async fn a_node_that_was_taken_out_of_rotation_comes_back() {
    let world = World::new().flag("limits-drain-delay", "0s").start().await;
    let admin = Client::new(world.node.admin, None).key(troupe_tests::world::ADMIN);
    let client = world.client();
    let kept = client.clone().kept().await;
    assert_eq!(kept.get("/readyz").await.status, 200);

    assert_eq!(admin.call(Method::POST, "/admin/v1/node/drain", "").await.status, 200);
    assert!(is_over(&kept).await, "connections stay open");
    let served = client.post(PATH, Dialect::OpenAi.ask("o-x")).await;
    assert_eq!((client.get("/readyz").await.status, served.status), (503, 200));

    let page = async || admin.get("/metrics").await.text();
    let closed = "troupe_drain_connections_total{outcome=\"closed\"}";
    let counted = async { while value(&page().await, closed) != 1.0 {} };
    timeout(LONG, counted).await.expect("the connection is counted");
    assert_eq!(value(&page().await, "troupe_drains_total{by=\"operator\"}"), 1.0);

    assert_eq!(admin.call(Method::POST, "/admin/v1/node/undrain", "").await.status, 200);
    let back = page().await;
    assert_eq!(value(&back, "troupe_drain_duration_seconds_count"), 1.0, "{back}");
    let kept = client.clone().kept().await;
    for _ in 0..3 {
        assert_eq!(kept.get("/readyz").await.status, 200, "it is back, and keeps its connections");
    }
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_waits_for_its_streams_first() {
    let world = World::new().flag("limits-drain-delay", "0s").start().await;
    let admin = Client::new(world.node.admin, None).key(troupe_tests::world::ADMIN);
    let mut stream = world.client().stream(PATH, Dialect::OpenAi.ask_stream("o-x+words=20+drip=20ms")).await;
    assert!(stream.next().await.is_some());

    assert_eq!(admin.call(Method::POST, "/admin/v1/node/drain?stop", "").await.status, 200);
    assert!(timeout(Duration::from_millis(100), world.node.told_to_stop()).await.is_err(), "a stream is here");
    stream.rest().await;
    drop(stream);

    timeout(Duration::from_secs(3), world.node.told_to_stop()).await.expect("nobody is left");
}

#[tokio::test]
async fn a_stream_that_outlasts_the_drain_is_cut_and_still_has_its_line() {
    let world = World::new().flag("limits-drain-delay", "0s").flag("limits-drain-timeout", "400ms").start().await;
    let log = world.dir().join("access.log");
    let dialect = Dialect::Anthropic;
    let mut one = world.client().stream(dialect.path(), dialect.ask_stream("a-x+hang-at=1")).await;
    let mut two = world.client().http2().await.stream(dialect.path(), dialect.ask_stream("o-x+hang-at=1")).await;
    assert!(one.next().await.is_some() && two.next().await.is_some());
    let began = clock::now();

    let World { mock, node, .. } = world;
    let house = node.house.clone();
    timeout(LONG, node.drain(pending())).await.expect("the drain ends");

    let took = clock::now() - began;
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
    for stream in [&mut one, &mut two] {
        let rest = stream.rest().await;
        assert!(stream.is_cut, "it looks whole: {rest:?}");
    }
    troupe_tests::until("both calls are closed", || mock.closed_early().len() == 2).await;
    let page = house.metrics.render(&Learned::default());
    assert_eq!(value(&page, "troupe_drains_total{by=\"end\"}"), 1.0);
    assert_eq!(value(&page, "troupe_drain_requests_cut_total"), 2.0);
    assert_eq!(value(&page, "troupe_drain_connections_total{outcome=\"cut\"}"), 2.0);
    assert_eq!(value(&page, "troupe_drain_duration_seconds_count"), 1.0);
    assert!((0.4..5.0).contains(&value(&page, "troupe_drain_duration_seconds_sum")), "{page}");
    let lines = lines(&log);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line["outcome"] != "finished" && line["status"] == 200), "{lines:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_its_provider_is_answered_when_the_node_drains() {
    let spec = "[providers.p]\nwire = \"openai\"\nbase_url = \"{mock}/v1\"\n\
                [models.m]\ntargets = [{ provider = \"p\" }]\nretries = { wait_max = \"60s\" }\n";
    for dialect in Dialect::ALL {
        let world = World::new().flag("limits-drain-delay", "0s").flag("limits-drain-timeout", "30s").spec(spec);
        let world = world.start().await;
        world.mock.fail(Strike::new("status=429+retry-after=25")).unwrap();
        let client = world.client();
        let call = tokio::spawn(async move { client.post(dialect.path(), dialect.ask("m")).await });
        troupe_tests::until("the provider was asked", || world.mock.counts().calls == 1).await;

        let draining = tokio::spawn(world.node.drain(pending()));
        let reply = timeout(Duration::from_secs(5), call).await.expect("it is answered at once").unwrap();

        assert_eq!(reply.status, 429, "{}", reply.text());
        assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
        assert!(reply.json()["error"]["message"].is_string(), "{}", reply.text());
        timeout(Duration::from_secs(5), draining).await.expect("it holds the drain up no longer").unwrap();
    }
}

#[tokio::test]
async fn an_operator_who_cannot_wait_does_not() {
    let world = World::new().flag("limits-drain-delay", "60s").flag("limits-drain-timeout", "60s").start().await;
    let mut held = world.client().stream(PATH, Dialect::OpenAi.ask_stream("o-x+hang-at=1")).await;
    assert!(held.next().await.is_some());

    timeout(Duration::from_secs(3), world.node.drain(ready(()))).await.expect("it ends at once");

    held.rest().await;
    assert!(held.is_cut);
}

#[tokio::test]
async fn a_node_with_idle_connections_ends_at_once() {
    let world = World::new().flag("limits-drain-delay", "0s").flag("limits-drain-timeout", "60s").start().await;
    let kept = world.client().kept().await;
    let shared = world.client().http2().await;
    let silent = world.raw().await;
    assert_eq!((kept.get("/healthz").await.status, shared.get("/healthz").await.status), (200, 200));

    timeout(Duration::from_secs(3), world.node.drain(pending())).await.expect("idle connections hold nobody up");

    drop((kept, shared, silent));
}

#[tokio::test]
async fn a_data_thread_that_stands_still_is_left_behind() {
    let (release, held) = sync_channel::<()>(0);
    let (held, is_inside) = (Mutex::new(held), Arc::new(AtomicBool::new(false)));
    let inside = is_inside.clone();
    let stand_still = move |_: &str| {
        inside.store(true, Ordering::Release);
        held.lock().unwrap().recv().unwrap_or_default();
    };
    let world =
        World::new().flag("limits-drain-delay", "0s").flag("limits-drain-timeout", "100ms").on_call(stand_still);
    let world = world.start().await;
    let client = world.client();
    let call = tokio::spawn(async move {
        let ask = Dialect::OpenAi.ask("o-x").to_string();
        client.try_call(Method::POST, PATH, ask).await.is_ok()
    });
    troupe_tests::until("the call stands still", || is_inside.load(Ordering::Acquire)).await;

    let limit = world.node.drain_max() + Duration::from_secs(1);
    let drained = timeout(limit, world.node.drain(pending())).await;

    drop(release);
    drained.expect("the drain ends all the same");
    call.await.unwrap();
}
