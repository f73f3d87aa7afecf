//! A simulated provider and a client for it, for tests.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A simulated provider on a port of its own.
pub(in crate::dev) struct Simulated {
    pub(in crate::dev) addr: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

/// A reply, read to its end.
pub(in crate::dev) struct Got {
    pub(in crate::dev) status: u16,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Simulated {
    pub(in crate::dev) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        Self { addr, stop, task: tokio::spawn(super::serve(listener, shutdown)) }
    }

    pub(in crate::dev) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: String,
    ) -> Got {
        let io = TokioIo::new(TcpStream::connect(self.addr).await.unwrap());
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.addr.to_string());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(body));
        let (head, body) = sender.send_request(request.body(body).unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Got { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Got {
        self.send("POST", path, &[], body.to_string()).await
    }
}

impl Got {
    pub(in crate::dev) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(in crate::dev) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The data of each event, `[DONE]` left out, after checking that names are types.
    pub(super) fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for event in self.text().split_terminator("\n\n") {
            let (name, data) = match event.split_once('\n') {
                Some((name, data)) => (name.strip_prefix("event: "), data),
                None => (None, event),
            };
            let data = data.strip_prefix("data: ").unwrap();
            if data != "[DONE]" {
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(data.get("type").and_then(Value::as_str), name);
                events.push(data);
            }
        }
        events
    }
}

pub(super) fn strings<'a>(events: &'a [Value], path: &str) -> String {
    let all: Vec<&'a str> = events.iter().filter_map(|event| event.pointer(path)?.as_str()).collect();
    all.concat()
}

pub(super) fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types
}
