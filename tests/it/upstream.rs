//! Providers by hand, for what no ordinary provider does to a connection.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use troupe_tests::World;
use troupe_tests::ask::Dialect;
use troupe_tests::eventually::LONG;

/// Answers each call on a connection as soon as its head is there; the body is left unread.
async fn answer_before_reading(mut socket: TcpStream) {
    let body = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "early",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "early"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    })
    .to_string();
    let reply =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(socket.read_u8().await.unwrap());
    }
    socket.write_all(reply.as_bytes()).await.unwrap();
    // It neither reads on nor hangs up.
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_provider_that_answers_before_it_read_the_request_keeps_no_later_call_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // By name, so that the name is looked up.
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer_before_reading(socket));
        }
    });
    let spec = format!(
        "[providers.e]\nwire = \"openai\"\nbase_url = \"http://localhost:{port}/v1\"\n[models.\"e-*\"]\ntargets = [{{ provider = \"e\" }}]"
    );
    let world = World::new().spec(&spec).flag("data-threads", "1").start().await;
    let (client, dialect) = (world.client(), Dialect::OpenAi);
    // More than the sockets between the two hold.
    let mut ask = dialect.ask("e-x");
    ask["messages"][0]["content"] = "x".repeat(24 << 20).into();

    for ask in [ask.clone(), ask, dialect.ask("e-x")] {
        let reply = timeout(LONG, client.post(dialect.path(), ask)).await.expect("no call waits for another's request");

        assert_eq!((reply.status, dialect.text(&reply.json())), (200, "early".to_owned()), "{}", reply.text());
    }
    let open = r#"troupe_upstream_connections{provider="e"}"#;
    let closed = timeout(LONG, async { while world.metric(open).await > 1.0 {} }).await;
    assert!(closed.is_ok(), "abandoned connections stay open: {}", world.metrics().await);
}
