//! Providers and clients that do what nobody asked for.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use troupe_node::clock;
use troupe_tests::{World, eventually, until};

use crate::raw;

/// A provider that says these bytes to every call, again and again if it is to, and resets the connection behind them.
async fn provider(said: String, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let said = said.clone();
            tokio::spawn(async move {
                let mut asked = vec![0; 64 << 10];
                let _read = socket.read(&mut asked).await.unwrap();
                for time in 0..times {
                    let part = if time == 0 { said.as_str() } else { said.split_once("\r\n\r\n").unwrap().1 };
                    if socket.write_all(part.as_bytes()).await.is_err() {
                        return;
                    }
                }
                // Time for what was said to be read: a reset overtakes it.
                tokio::time::sleep(Duration::from_millis(100)).await;
                socket.set_zero_linger().unwrap();
            });
        }
    });
    format!(
        "[providers.odd]\nwire = \"openai\"\nbase_url = \"http://{address}/v1\"\n[models.odd]\ntargets = [{{ provider = \"odd\" }}]\n"
    )
}

fn ask() -> serde_json::Value {
    json!({"model": "odd", "stream": true, "messages": [{"role": "user", "content": "hi"}]})
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const SPOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const FINISHED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn a_stream_that_said_all_is_finished_however_its_connection_ends() {
    let world = World::new().spec(&provider(format!("{HEAD}{SPOKEN}{FINISHED}"), 1).await).start().await;

    let mut stream = world.client().stream("/v1/chat/completions", ask()).await;
    let events = stream.rest().await;

    assert_eq!((stream.status, stream.is_cut, events.len()), (200, false, 2), "{events:?}");
    until("the line", || world.access_lines().iter().any(|line| line["outcome"] == "finished")).await;
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_said_is_taken_for_one() {
    let said = format!("HTTP/1.1 200 OK\r\n\r\n{SPOKEN}{FINISHED}data: [DONE]\n\n");
    let world = World::new().spec(&provider(said, 1).await).start().await;

    let mut stream = world.client().stream("/v1/chat/completions", ask()).await;

    assert_eq!((stream.status, stream.rest().await.len()), (200, 3));
}

#[tokio::test]
async fn a_provider_that_says_much_and_answers_nothing_fills_no_memory() {
    let flood = format!("{HEAD}: {}\n\n", "x".repeat(100 << 10));
    let world = World::new().spec(&provider(flood, 1000).await).start().await;

    let reply = world.client().post("/v1/chat/completions", ask()).await;

    assert_eq!((reply.status, reply.headers["x-troupe-error"].as_bytes()), (502, b"provider_invalid_reply".as_slice()));
}

#[tokio::test]
async fn a_client_that_leaves_bytes_behind_its_request_is_missed_all_the_same() {
    let world = World::new().start().await;
    for (model, behind) in [("o-x+hang", "\r\n"), ("o-x+hang", "GET /healthz HT"), ("o-x+hang-at=3", "\r\n")] {
        let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let headers = format!("content-length: {}\r\n", body.len());
        let mut took = Duration::MAX;
        for _ in 0..3 {
            world.mock.reset();
            let mut socket = world.raw().await;
            let head = raw::head("POST", "/v1/chat/completions", &headers);
            socket.write_all(format!("{head}{body}{behind}").as_bytes()).await.unwrap();
            until("the call is under way", || world.mock.counts().in_flight == 1).await;

            let left = clock::now();
            drop(socket);
            let noticed = eventually("the provider notices", || world.mock.closed_early().pop()).await;

            took = took.min(noticed.at.saturating_duration_since(left));
            if took < Duration::from_millis(100) {
                break;
            }
        }
        assert!(took < Duration::from_millis(100), "{model} and {behind:?}: {took:?}");
    }
}

#[tokio::test]
async fn chunks_that_are_none_are_the_clients_fault() {
    let world = World::new().start().await;
    let mut socket = world.raw().await;
    let headers = "transfer-encoding: chunked\r\n";
    let head = raw::head("POST", "/v1/chat/completions", headers);

    raw::write_all(&mut socket, [format!("{head}5\r\n{{\"mod\r\nzz\r\n").into_bytes()]).await.unwrap();
    let answer = raw::answer(&mut socket).await.unwrap();

    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("chunks"), "{answer:?}");
}

#[tokio::test]
async fn a_path_counts_as_a_header_and_is_not_repeated_whole() {
    let world = World::new().start().await;

    let long = world.client().get(&format!("/v1/{}", "x".repeat(40_000))).await;
    let shorter = world.client().get(&format!("/v1/{}", "x".repeat(4_000))).await;

    assert_eq!((long.status, shorter.status), (431, 404));
    assert!(shorter.body.len() < 1000, "{shorter:?}");
}
