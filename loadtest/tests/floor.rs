//! The floor as its clients see it.
#![expect(clippy::unwrap_used, reason = "helpers of an integration test may fail by panicking, as its tests do")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use troupe_loadtest::clock;
use troupe_loadtest::mock::{Mock, MockHandle, MockOptions};
use troupe_loadtest::{floor, load};

async fn start() -> (MockHandle, SocketAddr) {
    let mock = Mock::start(MockOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(floor::serve(listener, mock.addr.to_string().parse().unwrap()));
    (mock, addr)
}

async fn connect(addr: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(addr: SocketAddr, model: &str, stream: bool) -> http::Request<Full<Bytes>> {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]});
    let request = http::Request::post("/v1/chat/completions?x=1").header("host", addr.to_string());
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(5);
    while !holds() {
        assert!(clock::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn replies_pass_through_and_only_the_host_changes() {
    let (mock, addr) = start().await;

    let response = connect(addr).await.send_request(request(addr, "mock+words=2", false)).await.unwrap();
    let (head, body) = response.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();

    assert_eq!(head.status, 200);
    assert_eq!(head.headers["x-request-id"], "req_mock_0");
    assert_eq!(body["choices"][0]["message"]["content"], "w0 w1 ");
    let seen = mock.received().pop().unwrap();
    assert_eq!(seen.path, "/v1/chat/completions?x=1");
    assert_eq!(seen.header("host"), Some(mock.addr.to_string().as_str()));
}

#[tokio::test]
async fn one_upstream_connection_serves_one_client_after_another() {
    let (mock, addr) = start().await;

    for _ in 0..20 {
        let mut sender = connect(addr).await;
        for stream in [false, true] {
            let response = sender.send_request(request(addr, "mock", stream)).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    }

    assert_eq!((mock.counts().requests, mock.counts().connections), (40, 1));
}

#[tokio::test]
async fn streams_are_whole_and_not_held_back() {
    let (mock, addr) = start().await;

    let mut sender = connect(addr).await;
    let mut body = sender.send_request(request(addr, "mock+hang-at=1", true)).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    let settings = load::streams::Settings {
        base_url: format!("http://{addr}/v1").parse().unwrap(),
        key: None,
        wire: load::streams::Wire::OpenAi,
        streams: 50,
        events: 20,
        model: "mock+events=20+slow-bytes".to_owned(),
        http2: false,
        time_max: Duration::from_secs(20),
    };
    let outcome = load::streams::check(&settings).await;

    assert!(!first.into_data().unwrap().is_empty());
    assert_eq!((outcome.whole, outcome.faults.len()), (50, 0));
    assert_eq!(mock.counts().streams_open, 1, "the hanging one is still open");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upstream_connection_along() {
    let (mock, addr) = start().await;
    let mut sender = connect(addr).await;
    let response = sender.send_request(request(addr, "mock+hang-at=1", true)).await.unwrap();

    drop((response, sender));

    until("the mock sees it", || mock.counts().closed_early == 1 && mock.counts().connections_open == 0).await;
}

#[tokio::test]
async fn a_dead_upstream_is_a_502() {
    let (mock, addr) = start().await;
    mock.stop();

    let response = connect(addr).await.send_request(request(addr, "mock", false)).await.unwrap();

    assert_eq!(response.status(), 502);
}
