//! Nobody is served at the cost of a neighbour: data threads share the work, and readers who stall hold up themselves.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::eventually::LONG;
use troupe_tests::world::KEY;
use troupe_tests::{Client, World, until};

use crate::cli::Site;

/// Time on a processor that each data thread of a process has had.
fn cpu_of_data_threads(process: u32) -> Vec<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
    let data = tasks
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("troupe-data-")));
    data.map(|task| {
        let spent = std::fs::read_to_string(task.join("schedstat")).unwrap();
        Duration::from_nanos(spent.split(' ').next().unwrap().parse().unwrap())
    })
    .collect()
}

async fn ask(client: &Client, times: usize) {
    for _ in 0..times {
        let reply = client.post(Dialect::OpenAi.path(), Dialect::OpenAi.ask("gpt-4o")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// The connections that are open at a port, by the kernel's own account.
fn connections(port: u16) -> usize {
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Established, or closed by the other side and not yet by ours.
    rows.filter(|row| row[1].ends_with(&local) && ["01", "08"].contains(&row[3])).count()
}

#[tokio::test]
async fn eight_connections_cost_two_data_threads_the_same_whoever_came_and_went_before() {
    let site = Site::new();
    let node = site.serve(&["--data-threads", "2", "--log-access", "off"]).await;
    let client = Client::new(node.data, None).key(node.key.as_deref().unwrap());
    let mut kept = Vec::new();
    for round in 0..8 {
        // Visitors in any number, who leave in another order than they came.
        let mut visitors = Vec::new();
        for _ in 0..=round % 3 {
            let visitor = client.clone().kept().await;
            ask(&visitor, round % 2 + 1).await;
            visitors.insert(visitors.len() / 2, visitor);
        }
        visitors.clear();
        until("the visitors have left", || connections(node.data.port()) == kept.len()).await;
        kept.push(client.clone().kept().await);
        ask(&kept[round], 1).await;
    }

    let before = cpu_of_data_threads(node.id());
    join_all(kept.iter().map(|client| ask(client, 150))).await;
    let after = cpu_of_data_threads(node.id());

    let spent: Vec<_> = after.into_iter().zip(before).map(|(after, before)| after - before).collect();
    let [one, other] = spent[..] else { panic!("two data threads: {spent:?}") };
    assert!(one.max(other).as_secs_f64() <= one.min(other).as_secs_f64() * 1.15, "{spent:?}");
}

/// An h2 client that takes at most `window` bytes of a stream that it does not read.
async fn connect(world: &World, window: u32) -> http2::SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(world.addr()).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window).initial_connection_window_size(window * 16);
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn begin(sender: &http2::SendRequest<Full<Bytes>>, model: &str) -> Incoming {
    let body = Dialect::OpenAi.ask_stream(model).to_string();
    let request = Request::post("http://gateway/v1/chat/completions").header("authorization", format!("Bearer {KEY}"));
    let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body))).unwrap();
    let response = timeout(LONG, sender.clone().send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Reads a stream to its end, and says how long that took.
async fn read(mut body: Incoming) -> Duration {
    let began = clock::now();
    let mut last = Bytes::new();
    while let Some(frame) = timeout(LONG, body.frame()).await.unwrap() {
        last = frame.unwrap().into_data().ok().filter(|data| !data.is_empty()).unwrap_or(last);
    }
    assert!(last.ends_with(b"data: [DONE]\n\n"), "{last:?}");
    clock::now() - began
}

/// Reads 97 streams beside `stalled` ones that nobody reads; gives how long the slowest took.
async fn slowest_of_97(world: &World, stalled: usize) -> Duration {
    let sender = connect(world, 64 << 10).await;
    // Far more than any window or buffer on the way holds.
    let mut left_lying = Vec::new();
    for _ in 0..stalled {
        left_lying.push(begin(&sender, "o-stalled+words=2000+size=8MiB").await);
    }
    let readers = (0..97).map(|_| async {
        let body = begin(&sender, "o-read+words=20+size=40KiB+drip=5ms").await;
        read(body).await
    });
    let slowest = join_all(readers).await.into_iter().max().unwrap();
    drop(left_lying);
    slowest
}

#[tokio::test]
async fn three_stalled_readers_do_not_slow_the_ninety_seven_beside_them() {
    for upstream in [None, Some("h2")] {
        let builder = World::new().flag("data-threads", "1").flag("log-access", "off");
        let world = match upstream {
            None => builder.start().await,
            Some(alpn) => builder.mock_tls(&[alpn]).start().await,
        };
        slowest_of_97(&world, 0).await;

        let alone = slowest_of_97(&world, 0).await;
        let beside = slowest_of_97(&world, 3).await;

        // Twenty events, five milliseconds apart; the machine may be busy with other tests.
        assert!(beside < alone.mul_f64(1.5) + Duration::from_millis(500), "{upstream:?}: {beside:?}, alone {alone:?}");
    }
}
