//! Answers one request: finds its way, gives it its ids, and keeps a panic inside it.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::Either;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use memchr::memmem;
use tracing::Instrument;
use troupe_dialect::Dialect;
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::RequestId;

use super::ReplyBody;
use super::routes::{self, Route};
use crate::clock;
use crate::house::Thread;
use crate::pipeline::{self, Inbound, Refusal, Visit};
use crate::telemetry::hex;
use crate::telemetry::record::{Outcome, RequestRecord, client_text};
use crate::telemetry::spans;
use crate::telemetry::trace::TraceParent;

/// Answers a request; never fails, whatever happens inside.
///
/// Neither this nor [`visited`] is an `async fn`: those would have room for the request beside that of the boxed work it
/// goes into, for as long as it takes.
pub(super) fn serve(
    thread: Arc<Thread>,
    client: IpAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ReplyBody>, Infallible>> {
    let (is_head, is_options) = (request.method() == Method::HEAD, request.method() == Method::OPTIONS);
    let response = match routes::find(request.method(), request.uri().path(), request.headers()) {
        Route::Healthz => {
            let (status, text) = thread.house.health.healthz();
            Either::Left(ready(probe(status, if is_options { None } else { Some(text.into()) })))
        }
        Route::Readyz => {
            let verbose = request.uri().query().is_some_and(|query| query.contains("verbose"));
            let (status, text) = thread.house.health.readyz(verbose);
            Either::Left(ready(probe(status, if is_options { None } else { Some(text.into()) })))
        }
        route @ (Route::Call(_)
        | Route::ModelList(_)
        | Route::Model(..)
        | Route::MethodNotAllowed(..)
        | Route::NotFound(_)) => Either::Right(visited(thread, client, request, route)),
    };
    response.map(move |response| Ok(if is_head { without_body(response) } else { response }))
}

/// The answer to HEAD.
fn without_body(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    // What GET would have had; a reply that is fed has no length to tell.
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = ReplyBody::Whole(None);
    response
}

/// The answer to a probe; without a text it says what else may be asked.
fn probe(status: StatusCode, text: Option<Bytes>) -> Response<ReplyBody> {
    let (name, value) = match text {
        Some(_) => (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        None => (header::ALLOW, routes::PROBE_METHODS),
    };
    let mut response = Response::new(text.map_or(ReplyBody::Whole(None), ReplyBody::whole));
    *response.status_mut() = status;
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// Everything that is counted and logged.
fn visited(
    thread: Arc<Thread>,
    client: IpAddr,
    request: Request<Incoming>,
    route: Route,
) -> impl Future<Output = Response<ReplyBody>> {
    let began = clock::now();
    let request_id = RequestId(clock::unique());
    let dialect = dialect(&route);
    let mut record = RequestRecord::new(clock::wall(), request_id);
    record.client = Some(client);
    let (trace, head_bytes) = note_headers(&mut record, request.headers());
    record.trace_id = Some(trace.trace());
    record.dialect = Some(dialect);
    record.operation = match &route {
        Route::Call(operation) => Some(*operation),
        _ => None,
    };
    let visit = Visit::new(&thread, record, began);
    // Boxed once, or each wrapper around it would copy all of it.
    let work =
        Box::pin(answer(request, route, (trace, head_bytes, request_id), visit)).instrument(spans::request(request_id));
    let work = AssertUnwindSafe(work).catch_unwind();
    work.map(move |done| finished(done, thread, dialect, request_id))
}

/// What work came to, with what every answer has.
fn finished(
    done: std::thread::Result<Response<ReplyBody>>,
    thread: Arc<Thread>,
    dialect: Dialect,
    request_id: RequestId,
) -> Response<ReplyBody> {
    let mut response = match done {
        Ok(response) => response,
        // FAULT-1: the panic is this request's alone; its visit was recorded while it unwound.
        Err(_panic) => {
            thread.house.metrics.panicked();
            tracing::error!(request_id = %request_id, "a request panicked");
            let refusal = Refusal::new(ErrorCode::Internal, "a fault of the gateway").with_fault(Fault::Ours);
            refusal.answer(dialect, &request_id.to_string())
        }
    };
    if let ReplyBody::Fed(_) = response.body() {
        contain(&mut response, thread, request_id);
    }
    let headers = response.headers_mut();
    if let Ok(id) = id_value(request_id) {
        // OpenAI's SDKs read the one, Anthropic's the other.
        headers.insert(X_REQUEST_ID, id.clone());
        headers.insert(REQUEST_ID, id);
    }
    response
}

async fn answer(
    request: Request<Incoming>,
    route: Route,
    (trace, head_bytes, request_id): (TraceParent, usize, RequestId),
    mut visit: Box<Visit>,
) -> Response<ReplyBody> {
    let dialect = dialect(&route);
    let (head, body) = request.into_parts();
    let limit = visit.thread.house.limits.header_bytes;
    let line = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let size = line + head_bytes;
    if size > limit {
        let message = format!("the request's headers have {size} bytes, at most {limit} are accepted");
        pipeline::turn_away(body, &head.headers, &mut visit).await;
        return refuse(Refusal::new(ErrorCode::HeadersTooLarge, message), visit, dialect, request_id);
    }
    let query = head.uri.query();
    let refusal = match route {
        Route::Call(operation) => {
            let query = query.map(str::to_owned);
            let inbound = Inbound { operation, headers: head.headers, query, body, trace, request_id };
            return match pipeline::run(inbound, visit).await {
                Ok(response) => response,
                Err((refusal, visit)) => refuse(refusal, visit, dialect, request_id),
            };
        }
        Route::ModelList(_) => pipeline::models(dialect, None, &head.headers, query, &mut visit).await,
        Route::Model(_, id) => pipeline::models(dialect, Some(&id), &head.headers, query, &mut visit).await,
        Route::MethodNotAllowed(_, allowed) => {
            let message = format!("{} takes {allowed}, not {}", client_text(head.uri.path()), head.method);
            let mut refusal = Refusal::new(ErrorCode::MethodNotAllowed, message);
            let allow = HeaderMap::from_iter([(header::ALLOW, HeaderValue::from_static(allowed))]);
            refusal.headers = Some(Box::new(allow));
            Err(refusal)
        }
        Route::NotFound(_) | Route::Healthz | Route::Readyz => {
            let message = format!("no such path: {} {}", head.method, client_text(head.uri.path()));
            Err(Refusal::new(ErrorCode::RouteNotFound, message))
        }
    };
    match refusal {
        Ok(response) => {
            visit.answered(response.status().as_u16());
            visit.end(Outcome::Finished);
            response
        }
        Err(refusal) => {
            pipeline::turn_away(body, &head.headers, &mut visit).await;
            refuse(refusal, visit, dialect, request_id)
        }
    }
}

/// The answer to an HTTP/1.1 request whose head is beyond even hyper's bounds, as bytes; `first` is how it began.
///
/// hyper would say 431 and nothing else, and nobody would have counted it.
pub(super) fn refuse_head(thread: &Arc<Thread>, client: IpAddr, first: &[u8]) -> Bytes {
    let is_anthropic = [&b" /v1/messages"[..], b" /anthropic/"].iter().any(|path| memmem::find(first, path).is_some());
    let dialect = if is_anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
    let request_id = RequestId(clock::unique());
    let mut record = RequestRecord::new(clock::wall(), request_id);
    record.client = Some(client);
    record.dialect = Some(dialect);
    let visit = Visit::new(thread, record, clock::now());
    let limit = thread.house.limits.header_bytes;
    let message = format!("the request's headers are too many or too large: at most {limit} bytes are accepted");
    let response = refuse(Refusal::new(ErrorCode::HeadersTooLarge, message), visit, dialect, request_id);
    let (head, body) = response.into_parts();
    let body = match body {
        ReplyBody::Whole(body) => body.unwrap_or_default(),
        ReplyBody::Fed(_) => Bytes::new(),
    };
    let mut out = BytesMut::with_capacity(512);
    out.extend_from_slice(format!("HTTP/1.1 {}\r\n", head.status).as_bytes());
    for (name, value) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let ids = format!("x-request-id: {request_id}\r\nrequest-id: {request_id}\r\n");
    out.extend_from_slice(ids.as_bytes());
    out.extend_from_slice(format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    out.freeze()
}

/// Answers with an error, and ends the visit with it.
fn refuse(refusal: Refusal, mut visit: Box<Visit>, dialect: Dialect, request_id: RequestId) -> Response<ReplyBody> {
    visit.answered(refusal.status().as_u16());
    visit.note(|record| record.error = Some(refusal.code));
    let outcome = if visit.was_attempted() { Outcome::Failed } else { Outcome::Refused };
    let mut tried = HeaderMap::new();
    visit.write_headers(&mut tried);
    visit.end(outcome);
    let mut response = refusal.answer(dialect, &request_id.to_string());
    response.headers_mut().extend(tried);
    response
}

/// Keeps a panic in the future behind a body inside it: the one stream is cut, its neighbours live.
fn contain(response: &mut Response<ReplyBody>, thread: Arc<Thread>, request_id: RequestId) {
    let body = std::mem::replace(response.body_mut(), ReplyBody::Whole(None));
    *response.body_mut() = body.caught(move || {
        thread.house.metrics.panicked();
        tracing::error!(request_id = %request_id, "a request panicked while its reply was relayed");
    });
}

const fn dialect(route: &Route) -> Dialect {
    match route {
        Route::Call(operation) => operation.dialect(),
        Route::ModelList(dialect)
        | Route::Model(dialect, _)
        | Route::MethodNotAllowed(dialect, _)
        | Route::NotFound(dialect) => *dialect,
        Route::Healthz | Route::Readyz => Dialect::OpenAi,
    }
}

/// Notes what a client says of itself, in one pass over its headers; gives the trace to continue, or a new one, and the
/// bytes of all headers.
fn note_headers(record: &mut RequestRecord, headers: &HeaderMap) -> (TraceParent, usize) {
    let (mut size, mut trace, mut their_id, mut client_id) = (0, None, None, None);
    for (name, value) in headers {
        let name = name.as_str();
        size += name.len() + value.len() + 4;
        // Of a header that came twice, the first counts.
        let into = match name {
            "x-request-id" => &mut their_id,
            "x-client-request-id" => &mut client_id,
            "user-agent" => &mut record.user_agent,
            "traceparent" => {
                let theirs = || value.to_str().ok().and_then(TraceParent::read);
                trace.get_or_insert_with(theirs);
                continue;
            }
            "x-stainless-retry-count" => {
                record.sdk_retry = record.sdk_retry.or_else(|| value.to_str().ok()?.parse().ok());
                continue;
            }
            _ => continue,
        };
        if into.is_none() {
            *into = value.to_str().ok().map(client_text);
        }
    }
    record.client_request_id = their_id.or(client_id);
    (trace.flatten().unwrap_or_else(|| TraceParent::start(clock::unique(), clock::dice())), size)
}

/// A request's id as clients see it.
fn id_value(id: RequestId) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let mut text = [0; 36];
    let (prefix, digits) = text.split_at_mut(4);
    prefix.copy_from_slice(b"req_");
    digits.copy_from_slice(&hex::digits::<32>(id.0));
    HeaderValue::from_bytes(&text)
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{assert_within, future_bytes};

    #[test]
    fn a_request_at_the_door_is_no_larger_than_it_was_made() {
        assert_within(&[
            ("what hyper holds", future_bytes(&|(thread, client, request)| serve(thread, client, request)), 194),
            ("the work", future_bytes(&|(request, route, ids, visit)| answer(request, route, ids, visit)), 5330),
            ("a record", size_of::<RequestRecord>(), 480),
            ("a response", size_of::<Response<ReplyBody>>(), 170),
        ]);
    }

    #[test]
    fn an_id_is_the_same_in_headers_as_everywhere() {
        for id in [0, 7, u128::MAX] {
            assert_eq!(id_value(RequestId(id)).unwrap(), RequestId(id).to_string());
        }
    }

    #[test]
    fn what_a_client_says_of_itself_is_noted_once() {
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (name, value) in [
            ("user-agent", "a"),
            ("user-agent", "b"),
            ("x-client-request-id", "theirs"),
            ("traceparent", parent),
            ("x-stainless-retry-count", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut record = RequestRecord::new(clock::wall(), RequestId(1));

        let (trace, bytes) = note_headers(&mut record, &headers);

        assert_eq!(record.user_agent.as_deref(), Some("a"));
        assert_eq!(record.client_request_id.as_deref(), Some("theirs"));
        assert_eq!((record.sdk_retry, trace.to_string().as_str()), (Some(2), parent));
        assert_eq!(bytes, headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>());
    }
}
