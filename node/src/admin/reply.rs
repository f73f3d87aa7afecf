//! How the admin listener's answers look.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::Revision;

use super::failure::Failure;

pub(super) type Reply = Response<Full<Bytes>>;

/// Problem details of RFC 9457. `type` is a name, not an address: nothing need be reachable to read an error.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<FieldProblem<'a>>,
}

/// What is wrong with one field of a body.
#[derive(Serialize)]
struct FieldProblem<'a> {
    field: &'a str,
    message: &'a str,
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
        Err(_) => problem(&Failure::new(ErrorCode::Internal, "the answer could not be written as JSON")),
    }
}

/// A JSON document that says how the state stood at one revision.
pub(super) fn json_at(status: StatusCode, revision: Revision, content: &impl Serialize) -> Reply {
    let mut reply = json(content);
    if reply.status() == StatusCode::OK {
        *reply.status_mut() = status;
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
            reply.headers_mut().insert(ETAG, tag);
        }
    }
    reply
}

/// An error.
pub(super) fn problem(failure: &Failure) -> Reply {
    let status = StatusCode::from_u16(failure.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem {
        r#type: format!("urn:troupe:error:{}", failure.code.as_str()),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &failure.detail,
        code: failure.code.as_str(),
        problems: failure.problems.iter().map(|(field, message)| FieldProblem { field, message }).collect(),
    };
    let mut reply = body(status, "application/problem+json", serde_json::to_vec(&problem).unwrap_or_default());
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"troupe admin\""));
    }
    reply
}

/// A path that takes other methods.
pub(super) fn wrong_method(allowed: &[&str]) -> Reply {
    let detail = format!("this path takes {}", allowed.join(" and "));
    let mut reply = problem(&Failure::new(ErrorCode::MethodNotAllowed, detail));
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        reply.headers_mut().insert(ALLOW, allowed);
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
