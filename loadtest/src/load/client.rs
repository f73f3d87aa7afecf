//! One connection and one exchange on it: a request out, a reply read to its end and checked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::mix::Mix;
use super::plan::{Ask, Target};
use super::streams::{Verifier, Wire};
use crate::clock;

/// Requests of one run, made once and sent many times.
#[derive(Debug, Clone)]
pub struct Requests {
    authority: String,
    path: Uri,
    headers: HeaderMap,
    bodies: Vec<Bytes>,
    mix: Mix,
    wire: Wire,
    events: Option<u64>,
    timeout: Duration,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// When its last byte was read.
    pub ended: Instant,
    /// When the first content event of a stream was read.
    pub first_event: Option<Instant>,
    /// Time between two content events, from the second one on.
    pub gaps: Vec<Duration>,
    /// Bytes of its body.
    pub bytes: u64,
}

/// Why an exchange failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// In words that do not differ from one request to the next.
    pub why: String,
    /// Whether it was given up for the time it took.
    pub is_late: bool,
}

/// Text that makes a body as long as it has to be.
const FILLER: &str = "gateway ";

impl Requests {
    /// Makes the requests that `ask` describes; each ends, good or bad, within `timeout`.
    ///
    /// # Errors
    /// The base URL or the key cannot stand in a request.
    pub fn new(target: &Target, ask: &Ask, timeout: Duration) -> Result<Self, http::Error> {
        let authority = target.base_url.authority().map(ToString::to_string).unwrap_or_default();
        let base = target.base_url.path().trim_end_matches('/');
        let path: Uri = match target.wire {
            Wire::OpenAi => format!("{base}/chat/completions").parse()?,
            Wire::Anthropic => format!("{base}/v1/messages").parse()?,
        };
        let mut headers = target.headers.clone();
        headers.insert(header::HOST, HeaderValue::from_str(&authority)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if target.wire == Wire::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        if let Some(key) = &target.key {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?);
        }
        let bodies = ask.models.iter().map(|(model, _)| body(model, target.wire, ask)).collect();
        let mix = Mix::new(ask.models.iter().map(|(_, weight)| *weight));
        Ok(Self { authority, path, headers, bodies, mix, wire: target.wire, events: ask.events, timeout })
    }

    /// Gives the length of the longest exchange.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn request(&self, number: u64) -> Request<Full<Bytes>> {
        let body = self.bodies.get(self.mix.pick(number)).cloned().unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A chat of a system and a user message, with filler up to the size asked for.
fn body(model: &str, wire: Wire, ask: &Ask) -> Bytes {
    let make = |filler: &str| {
        let text = format!("Say something about gateways, and be brief about it.{filler}");
        let user = json!({"role": "user", "content": text});
        let system = "You are a helpful assistant.";
        let stream = ask.events.is_some();
        let body = match wire {
            Wire::OpenAi => json!({"model": model, "temperature": 0.7, "stream": stream,
                "messages": [{"role": "system", "content": system}, user]}),
            Wire::Anthropic => json!({"model": model, "temperature": 0.7, "stream": stream, "system": system,
                "max_tokens": 1_000_000, "messages": [user]}),
        };
        body.to_string()
    };
    let bare = make("");
    let missing = usize::try_from(ask.body_bytes).unwrap_or(0).saturating_sub(bare.len());
    if missing == 0 {
        return Bytes::from(bare);
    }
    let filler: String = FILLER.chars().cycle().take(missing).collect();
    Bytes::from(make(&filler))
}

type Sender = SendRequest<Full<Bytes>>;

/// One connection that is opened when needed, and again when it broke.
#[derive(Debug, Default)]
pub struct Line {
    sender: Option<Sender>,
}

impl Line {
    /// Opens the connection ahead of its first request; an error shows at that request.
    pub async fn warm(&mut self, requests: &Requests) {
        if let Ok(Ok(sender)) = tokio::time::timeout(requests.timeout, connect(&requests.authority)).await {
            self.sender = Some(sender);
        }
    }

    /// Sends request `number` and reads its reply to the end, by the time limit counted from `due`.
    ///
    /// # Errors
    /// Every reply but a good one: another status, a break, a stream with an event lost, doubled or out of order, or no
    /// end in time. The connection is given up then.
    pub async fn exchange(&mut self, requests: &Requests, number: u64, due: Instant) -> Result<Reply, Failed> {
        let deadline = due + requests.timeout;
        if clock::now() >= deadline {
            return Err(Failed { why: "no connection was free in time".to_owned(), is_late: true });
        }
        let sender = self.sender.take().filter(|sender| !sender.is_closed());
        match tokio::time::timeout_at(deadline.into(), converse(sender, requests, number)).await {
            Ok(Ok((reply, sender))) => {
                self.sender = Some(sender);
                Ok(reply)
            }
            Ok(Err(why)) => Err(Failed { why, is_late: false }),
            Err(_) => Err(Failed { why: "no reply in time".to_owned(), is_late: true }),
        }
    }
}

async fn converse(sender: Option<Sender>, requests: &Requests, number: u64) -> Result<(Reply, Sender), String> {
    let mut sender = match sender {
        Some(sender) => sender,
        None => connect(&requests.authority).await?,
    };
    sender.ready().await.map_err(|error| format!("connection: {error}"))?;
    let response = sender.send_request(requests.request(number)).await.map_err(|error| format!("no reply: {error}"))?;
    let status = response.status();
    let mut body = response.into_body();
    let mut reply = Reply { ended: clock::now(), first_event: None, gaps: Vec::new(), bytes: 0 };
    let mut verifier = requests.events.filter(|_| status == StatusCode::OK).map(|events| {
        reply.gaps.reserve(usize::try_from(events.min(10_000)).unwrap_or(0));
        Verifier::new(requests.wire, events)
    });
    let mut last = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the body broke: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        reply.bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if let Some(verifier) = &mut verifier {
            let seen = verifier.feed(data).map_err(|fault| fault.to_string())?;
            note_events(&mut reply, &mut last, seen);
        }
    }
    if status != StatusCode::OK {
        return Err(format!("status {status}"));
    }
    if let Some(verifier) = verifier {
        verifier.finish().map_err(|fault| fault.to_string())?;
    }
    reply.ended = clock::now();
    Ok((reply, sender))
}

/// Notes `seen` events that came in one piece: the first ends a gap, the others had none.
fn note_events(reply: &mut Reply, last: &mut Option<Instant>, seen: u64) {
    if seen == 0 {
        return;
    }
    let now = clock::now();
    for _ in 0..seen {
        match last.replace(now) {
            None => reply.first_event = Some(now),
            Some(last) => reply.gaps.push(now.saturating_duration_since(last)),
        }
    }
}

async fn connect(authority: &str) -> Result<Sender, String> {
    let opened = async {
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        http1::handshake(TokioIo::new(socket)).await.map_err(std::io::Error::other)
    };
    let (sender, connection) = opened.await.map_err(|error| format!("connect: {error}"))?;
    // The reply's reader hears of every error that this task could tell.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_at_least_as_long_as_asked_for_and_json() {
        for wire in [Wire::OpenAi, Wire::Anthropic] {
            for (asked, at_most) in [(0, 300), (300, 302), (2048, 2048)] {
                let ask = Ask { events: None, body_bytes: asked, models: Vec::new() };
                let body = body("mock", wire, &ask);
                let len = u64::try_from(body.len()).unwrap();
                assert!(len >= asked && len <= at_most, "{asked}: {len}");
                serde_json::from_slice::<serde_json::Value>(&body).unwrap();
            }
        }
    }

    #[test]
    fn events_of_one_piece_have_no_gap_between_them() {
        let mut reply = Reply { ended: clock::now(), first_event: None, gaps: Vec::new(), bytes: 0 };
        let mut last = None;

        note_events(&mut reply, &mut last, 0);
        note_events(&mut reply, &mut last, 3);

        assert!(reply.first_event.is_some());
        assert_eq!(reply.gaps, [Duration::ZERO, Duration::ZERO]);
    }
}
