//! Many streams at once, every event of each checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::clock;

/// Streams that share one HTTP/2 connection.
const STREAMS_PER_CONNECTION: usize = 100;
/// Longest line kept: no event of the mock comes near it.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Whose streams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
}

/// What a check opens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As the wire's own SDK takes it: with `/v1` for OpenAI, without for Anthropic.
    pub base_url: Uri,
    /// Sent as Bearer.
    pub key: Option<String>,
    /// Whose streams.
    pub wire: Wire,
    /// Streams open at once.
    pub streams: usize,
    /// Content events of each.
    pub events: u64,
    /// Model asked for; it must answer with the mock's numbered words.
    pub model: String,
    /// Whether 100 streams share an HTTP/2 connection, instead of each having one of its own.
    pub http2: bool,
    /// The whole check ends after this.
    pub time_max: Duration,
}

/// What came of a check.
#[derive(Debug)]
pub struct Outcome {
    /// Streams without a fault.
    pub whole: usize,
    /// How many streams had each fault.
    pub faults: BTreeMap<String, usize>,
    /// From the first request to the last byte.
    pub elapsed: Duration,
}

/// What can be wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The reply is no stream.
    #[error("status {0}")]
    Status(StatusCode),
    /// No connection, or a broken one.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The words are not `w0`, `w1` and so on.
    #[error("expected word {expected}, got `{got}`")]
    Order {
        /// Number of the word that should have come.
        expected: u64,
        /// What came.
        got: String,
    },
    /// Not as many events as were asked for.
    #[error("{got} of {expected} events came")]
    Events {
        /// Events asked for.
        expected: u64,
        /// Events that came.
        got: u64,
    },
    /// An in-band error.
    #[error("an error came in the stream: {0}")]
    InBand(String),
    /// An event that is not JSON, or too long.
    #[error("an event cannot be read")]
    Unreadable,
    /// Everything came but the end marker.
    #[error("the end marker is missing")]
    NotEnded,
    /// Something came behind the end marker.
    #[error("something came behind the end")]
    BehindEnd,
    /// The check's time was over first.
    #[error("not done in time")]
    Late,
}

/// Reads one stream and says whether every event came exactly once and in order.
#[derive(Debug)]
pub struct Verifier {
    wire: Wire,
    expected: u64,
    line: Vec<u8>,
    seen: u64,
    is_ended: bool,
}

impl Verifier {
    /// Makes a verifier for a stream of so many content events.
    pub fn new(wire: Wire, expected: u64) -> Self {
        Self { wire, expected, line: Vec::new(), seen: 0, is_ended: false }
    }

    /// Takes the next bytes of the stream, cut anywhere, and gives the number of content events they completed.
    ///
    /// # Errors
    /// The first [`StreamFault`] they show; the stream has failed then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<u64, StreamFault> {
        let before = self.seen;
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LINE_BYTES_MAX {
                    return Err(StreamFault::Unreadable);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(data) = line.strip_prefix(b"data:") {
                self.event(data.trim_ascii())?;
            }
        }
        Ok(self.seen - before)
    }

    /// Says whether the stream is whole, now that its body has ended.
    ///
    /// # Errors
    /// [`StreamFault::Events`] or [`StreamFault::NotEnded`].
    pub fn finish(self) -> Result<(), StreamFault> {
        if self.seen != self.expected {
            return Err(StreamFault::Events { expected: self.expected, got: self.seen });
        }
        if self.is_ended { Ok(()) } else { Err(StreamFault::NotEnded) }
    }

    fn event(&mut self, data: &[u8]) -> Result<(), StreamFault> {
        if self.is_ended {
            return Err(StreamFault::BehindEnd);
        }
        if self.wire == Wire::OpenAi && data == b"[DONE]" {
            self.is_ended = true;
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data).map_err(|_| StreamFault::Unreadable)?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Err(StreamFault::InBand(error.to_string()));
        }
        let text = match self.wire {
            Wire::OpenAi => event.pointer("/choices/0/delta/content"),
            Wire::Anthropic => {
                self.is_ended = event.get("type").is_some_and(|kind| kind == "message_stop");
                event.pointer("/delta/text")
            }
        };
        match text.and_then(Value::as_str) {
            None | Some("") => Ok(()),
            Some(text) => self.word(text),
        }
    }

    fn word(&mut self, text: &str) -> Result<(), StreamFault> {
        let number = text.trim_end().trim_end_matches('.').strip_prefix('w').and_then(|number| number.parse().ok());
        if number != Some(self.seen) {
            return Err(StreamFault::Order { expected: self.seen, got: text.to_owned() });
        }
        self.seen += 1;
        Ok(())
    }
}

/// Opens all streams at once and reads each to its end.
pub async fn check(settings: &Settings) -> Outcome {
    let begun = clock::now();
    let deadline = begun + settings.time_max;
    let settings = Arc::new(settings.clone());
    // All are connected before the first one asks: otherwise the early ones are over when the late ones begin.
    let barrier = Arc::new(Barrier::new(settings.streams));
    let mut workers = JoinSet::new();
    let mut left = settings.streams;
    while left > 0 {
        let share = if settings.http2 { left.min(STREAMS_PER_CONNECTION) } else { 1 };
        left -= share;
        let (settings, barrier) = (Arc::clone(&settings), Arc::clone(&barrier));
        workers.spawn(async move { connection(settings, barrier, share).await });
    }
    let mut outcome = Outcome { whole: 0, faults: BTreeMap::new(), elapsed: Duration::ZERO };
    let mut reported = 0;
    while let Ok(Some(results)) = tokio::time::timeout_at(deadline.into(), workers.join_next()).await {
        for result in results.unwrap_or_else(|error| vec![Err(StreamFault::Broken(error.to_string()))]) {
            reported += 1;
            match result {
                Ok(()) => outcome.whole += 1,
                Err(fault) => *outcome.faults.entry(fault.to_string()).or_default() += 1,
            }
        }
    }
    let late = settings.streams.saturating_sub(reported);
    if late > 0 {
        outcome.faults.insert(StreamFault::Late.to_string(), late);
    }
    outcome.elapsed = clock::now() - begun;
    outcome
}

/// Reads `share` streams over one connection.
async fn connection(settings: Arc<Settings>, barrier: Arc<Barrier>, share: usize) -> Vec<Result<(), StreamFault>> {
    let senders: Vec<Result<Sender, StreamFault>> = match open(&settings, share).await {
        Ok(senders) => senders.into_iter().map(Ok).collect(),
        Err(fault) => (0..share).map(|_| Err(fault.clone())).collect(),
    };
    let mut streams = JoinSet::new();
    for sender in senders {
        let (settings, barrier) = (Arc::clone(&settings), Arc::clone(&barrier));
        streams.spawn(async move {
            // A stream without a connection waits as well, or the others would for ever.
            barrier.wait().await;
            stream(&settings, sender?).await
        });
    }
    let mut results = Vec::new();
    while let Some(result) = streams.join_next().await {
        results.push(result.unwrap_or_else(|error| Err(StreamFault::Broken(error.to_string()))));
    }
    results
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Opens one connection and gives a sender for each of its streams.
async fn open(settings: &Settings, share: usize) -> Result<Vec<Sender>, StreamFault> {
    let opened = async {
        let authority = settings.base_url.authority().map(ToString::to_string).unwrap_or_default();
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        // The streams hear of every error that the connections' own tasks could tell.
        if settings.http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(std::io::Error::other)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok((0..share).map(|_| Sender::Http2(sender.clone())).collect())
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(vec![Sender::Http1(sender)])
        }
    };
    opened.await.map_err(|error: std::io::Error| StreamFault::Broken(error.to_string()))
}

async fn stream(settings: &Settings, sender: Sender) -> Result<(), StreamFault> {
    let broken = |error: &dyn std::error::Error| StreamFault::Broken(error.to_string());
    let request = request(settings).map_err(|error| broken(&error))?;
    let response = match sender {
        Sender::Http1(mut sender) => sender.send_request(request).await,
        Sender::Http2(mut sender) => sender.send_request(request).await,
    };
    let response = response.map_err(|error| broken(&error))?;
    if response.status() != StatusCode::OK {
        return Err(StreamFault::Status(response.status()));
    }
    let mut body: Incoming = response.into_body();
    let mut verifier = Verifier::new(settings.wire, settings.events);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Some(bytes) = frame.data_ref() {
            verifier.feed(bytes)?;
        }
    }
    verifier.finish()
}

fn request(settings: &Settings) -> Result<Request<Full<Bytes>>, http::Error> {
    let base = settings.base_url.path().trim_end_matches('/');
    let path = match settings.wire {
        Wire::OpenAi => format!("{base}/chat/completions"),
        Wire::Anthropic => format!("{base}/v1/messages"),
    };
    let authority = settings.base_url.authority().map(ToString::to_string).unwrap_or_default();
    let uri = if settings.http2 { format!("http://{authority}{path}") } else { path };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !settings.http2 {
        headers.insert(header::HOST, HeaderValue::from_str(&authority)?);
    }
    if settings.wire == Wire::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = &settings.key {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?);
    }
    let limit = settings.events.saturating_mul(2).max(1);
    let body = json!({"model": settings.model, "stream": true, "max_tokens": limit,
        "messages": [{"role": "user", "content": "count"}]});
    let mut request = Request::post(uri).body(Full::new(Bytes::from(body.to_string())))?;
    *request.headers_mut() = headers;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Mock, MockHandle, MockOptions};

    fn openai(words: &[&str]) -> String {
        let event = |word: &&str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": word}}]}));
        words.iter().map(event).collect()
    }

    fn verdict(stream: &str, piece: usize) -> Result<(), StreamFault> {
        let mut verifier = Verifier::new(Wire::OpenAi, 3);
        for bytes in stream.as_bytes().chunks(piece) {
            verifier.feed(bytes)?;
        }
        verifier.finish()
    }

    #[test]
    fn a_whole_stream_is_whole_however_it_is_cut() {
        let stream = openai(&["w0 ", "w1.. ", "w2 "]) + ": ka\n\ndata: [DONE]\n\n";

        for piece in 1..stream.len() {
            assert_eq!(verdict(&stream, piece), Ok(()), "{piece}");
        }
    }

    #[test]
    fn every_fault_of_a_stream_is_told_apart() {
        let done = "data: [DONE]\n\n";
        let lost = verdict(&(openai(&["w0 ", "w2 "]) + done), 7);
        let doubled = verdict(&(openai(&["w0 ", "w0 "]) + done), 7);
        let short = verdict(&(openai(&["w0 ", "w1 "]) + done), 7);
        let open = verdict(&openai(&["w0 ", "w1 ", "w2 "]), 7);
        let merged = verdict(&(openai(&["w0 w1 ", "w2 "]) + done), 7);
        let behind = verdict(&(openai(&["w0 ", "w1 ", "w2 "]) + done + done), 7);

        assert_eq!(lost, Err(StreamFault::Order { expected: 1, got: "w2 ".to_owned() }));
        assert_eq!(doubled, Err(StreamFault::Order { expected: 1, got: "w0 ".to_owned() }));
        assert_eq!(short, Err(StreamFault::Events { expected: 3, got: 2 }));
        assert_eq!(open, Err(StreamFault::NotEnded));
        assert_eq!(merged, Err(StreamFault::Order { expected: 0, got: "w0 w1 ".to_owned() }));
        assert_eq!(behind, Err(StreamFault::BehindEnd));
    }

    fn settings(mock: &MockHandle, wire: Wire, model: &str) -> Settings {
        let base = match wire {
            Wire::OpenAi => mock.openai_url(),
            Wire::Anthropic => mock.base_url.clone(),
        };
        Settings {
            base_url: base.parse().unwrap(),
            key: Some("k".to_owned()),
            wire,
            streams: 40,
            events: 10,
            model: model.to_owned(),
            http2: false,
            time_max: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn streams_of_both_wires_and_versions_are_open_at_once_and_whole() {
        for wire in [Wire::OpenAi, Wire::Anthropic] {
            for http2 in [false, true] {
                let mock = Mock::start(MockOptions::default()).unwrap();
                let settings = Settings { http2, ..settings(&mock, wire, "mock+events=10+drip=20ms") };

                let outcome = check(&settings).await;

                assert_eq!((outcome.whole, &outcome.faults), (40, &BTreeMap::new()));
                assert_eq!((mock.counts().streams_open_max, mock.counts().events), (40, 400));
                assert_eq!(mock.counts().connections, if http2 { 1 } else { 40 });
            }
        }
    }

    #[tokio::test]
    async fn broken_streams_are_counted_by_what_broke_them() {
        let mock = Mock::start(MockOptions::default()).unwrap();
        let faults = |model: &str| {
            let settings = settings(&mock, Wire::OpenAi, model);
            async move { check(&settings).await.faults.into_keys().collect::<Vec<_>>() }
        };

        assert_eq!(faults("mock+events=9").await, ["9 of 10 events came"]);
        assert_eq!(faults("mock+clean-cut=10").await, ["the end marker is missing"]);
        assert_eq!(faults("mock+status=503").await, ["status 503 Service Unavailable"]);
        assert!(faults("mock+cut=2").await[0].starts_with("the connection broke"));
        assert!(faults("mock+error-at=2").await[0].starts_with("an error came in the stream"));
    }
}
