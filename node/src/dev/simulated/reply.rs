//! How replies leave: whole, or event by event at the pace of a quick typist.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde::Serialize;
use serde_json::Value;
use troupe_dialect::error::{self, ErrorView};
use troupe_dialect::{Dialect, sse};

use super::ask::Bad;

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// When everything here was "created": a fixed day, so that the same request always gets the same reply.
pub(super) const CREATED: u64 = 1_767_225_600;
/// The rest between two words.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest that all rests of one reply take together; long replies come faster.
const PAUSES_MAX: Duration = Duration::from_secs(3);

/// One event of a stream.
pub(super) struct Event {
    bytes: Bytes,
    /// Whether it holds a piece of the answer, which takes its time to come.
    is_piece: bool,
}

impl Event {
    /// The same event, sent at once after the one before it.
    pub(super) fn frame(self) -> Self {
        Self { is_piece: false, ..self }
    }

    /// Fixed bytes, sent at once.
    pub(super) fn fixed(bytes: &'static [u8]) -> Self {
        Self { bytes: Bytes::from_static(bytes), is_piece: false }
    }
}

/// An event that holds a piece of the answer.
pub(super) fn event(name: Option<&str>, data: &Value) -> Event {
    let mut bytes = Vec::with_capacity(256);
    sse::event(&mut bytes, name, data.to_string().as_bytes());
    Event { bytes: bytes.into(), is_piece: true }
}

/// An event whose name is also its `type`, as Responses and messages have them.
pub(super) fn named(data: &Value) -> Event {
    event(data.get("type").and_then(Value::as_str), data)
}

/// A whole reply of a status.
pub(super) fn bytes(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A whole reply that went well.
pub(super) fn json(body: &impl Serialize) -> Reply {
    // Values and structs of strings and finite numbers: there is nothing in them that JSON cannot hold.
    bytes(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default())
}

/// A refusal in the words of the wire.
pub(super) fn refusal(dialect: Dialect, bad: &Bad, id: &str) -> Reply {
    let view = ErrorView { param: bad.param, ..ErrorView::new(bad.code, &bad.message, id) };
    let status = StatusCode::from_u16(bad.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    bytes(status, error::body(dialect, &view))
}

/// A streamed reply: each event as one chunk, with a rest before each piece of the answer but the first.
pub(super) fn streamed(events: Vec<Event>) -> Reply {
    let pieces = u32::try_from(events.iter().filter(|event| event.is_piece).count()).unwrap_or(u32::MAX);
    let pause = PAUSE.min(PAUSES_MAX / pieces.max(1));
    let frames = stream::unfold((events.into_iter(), false), move |(mut events, has_begun)| async move {
        let event = events.next()?;
        if event.is_piece && has_begun {
            tokio::time::sleep(pause).await;
        }
        let has_begun = has_begun || event.is_piece;
        Some((Ok::<_, Infallible>(Frame::data(event.bytes)), (events, has_begun)))
    });
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}
