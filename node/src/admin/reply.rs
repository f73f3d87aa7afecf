//! How the admin listener's answers look.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use troupe_proto::failure::ErrorCode;

pub(super) type Reply = Response<Full<Bytes>>;

/// Problem details of RFC 9457. `type` is a name, not an address: nothing need be reachable to read an error.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
}

/// A body of some media type.
pub(super) fn body(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A plain text.
pub(super) fn text(status: StatusCode, content: impl Into<Bytes>) -> Reply {
    body(status, "text/plain; charset=utf-8", content)
}

/// A JSON document.
pub(super) fn json(content: &impl Serialize) -> Reply {
    match serde_json::to_vec(content) {
        Ok(content) => body(StatusCode::OK, "application/json", content),
        Err(_) => problem(ErrorCode::Internal, "the answer could not be written as JSON"),
    }
}

/// An error.
pub(super) fn problem(code: ErrorCode, detail: &str) -> Reply {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem {
        r#type: format!("urn:troupe:error:{}", code.as_str()),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        code: code.as_str(),
    };
    let mut reply = body(status, "application/problem+json", serde_json::to_vec(&problem).unwrap_or_default());
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"troupe admin\""));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    reply
}

/// The answer to OPTIONS.
pub(super) fn options() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    reply
}
