//! A balancer says whose each connection is.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use troupe_tests::World;
use troupe_tests::ask::Dialect;
use troupe_tests::world::KEY;

/// What a balancer sends first for the client 10.1.2.3:12345.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x0a\x00\x00\x01\x30\x39\x00\x50";

#[tokio::test]
async fn a_client_is_known_by_what_its_balancer_says_and_nobody_by_themselves() {
    let world = World::new().flag("listen-proxy-protocol", "true").start().await;
    let (body, log) = (Dialect::OpenAi.ask("o-x").to_string(), world.dir().join("access.log"));
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );

    let mut announced = world.raw().await;
    announced.write_all(HEADER).await.unwrap();
    announced.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    announced.read_to_string(&mut reply).await.unwrap();
    let mut bare = world.raw().await;
    bare.write_all(request.as_bytes()).await.unwrap();
    let mut refused = Vec::new();
    // A reset says the same as an end here.
    bare.read_to_end(&mut refused).await.ok();

    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(refused, b"");
    let is_known = || std::fs::read_to_string(&log).unwrap_or_default().contains("\"10.1.2.3\"");
    troupe_tests::until("the line names the client", is_known).await;
}
