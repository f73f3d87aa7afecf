//! What each path of the admin listener answers.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use serde::Serialize;
use troupe_proto::failure::ErrorCode;
use troupe_proto::secret::Secret;

use super::AdminState;
use super::query;
use super::reply::{self, Reply};
use crate::telemetry::metrics;

#[derive(Serialize)]
struct Status<'a> {
    node: &'a str,
    version: &'static str,
    phase: &'static str,
    uptime_seconds: u64,
    revision: u64,
    in_flight: u64,
    models: usize,
    providers: usize,
    keys: usize,
}

/// Answers one request; its body is never read.
pub(super) fn answer<B>(state: &AdminState, request: &Request<B>) -> Reply {
    let is_verbose = request.uri().query().is_some_and(|query| query.split('&').any(is_verbose));
    let path = request.uri().path();
    let probe = match path {
        "/healthz" => Some(state.health.healthz()).map(|(status, body)| (status, body.to_owned())),
        "/readyz" => Some(state.health.readyz(is_verbose)),
        _ => None,
    };
    match (request.method(), probe) {
        (&Method::OPTIONS, Some(_)) => reply::options(),
        (&Method::GET | &Method::HEAD, Some((status, body))) => reply::text(status, body),
        (_, Some(_)) => reply::problem(ErrorCode::MethodNotAllowed, "this path takes GET and HEAD"),
        (method, None) => match authorize(state.token.as_ref(), request.headers()) {
            Err((code, detail)) => reply::problem(code, detail),
            Ok(()) => guarded(state, method, request.uri()),
        },
    }
}

/// Paths behind the token. Whether one exists is told to operators only.
fn guarded(state: &AdminState, method: &Method, uri: &Uri) -> Reply {
    let page: fn(&AdminState, Option<&str>) -> Reply = match uri.path() {
        "/metrics" => {
            |state, _| reply::body(StatusCode::OK, metrics::CONTENT_TYPE, state.metrics.render(&(state.learned)()))
        }
        "/admin/v1/status" => |state, _| status(state),
        "/admin/v1/route/explain" => explain,
        _ => return reply::problem(ErrorCode::RouteNotFound, "the admin listener has no such path"),
    };
    match *method {
        Method::GET | Method::HEAD => page(state, uri.query()),
        _ => reply::problem(ErrorCode::MethodNotAllowed, "this path takes GET and HEAD"),
    }
}

fn status(state: &AdminState) -> Reply {
    let spec = (state.spec)();
    reply::json(&Status {
        node: &state.node,
        version: env!("CARGO_PKG_VERSION"),
        phase: state.health.phase().as_str(),
        uptime_seconds: state.metrics.uptime_seconds(),
        revision: spec.revision.0,
        in_flight: state.metrics.in_flight(),
        models: spec.models,
        providers: spec.providers,
        keys: spec.keys,
    })
}

fn explain(state: &AdminState, query: Option<&str>) -> Reply {
    let question = match query::question(query) {
        Ok(question) => question,
        Err(problem) => return reply::problem(ErrorCode::InvalidField, &problem),
    };
    match (state.explain)(&question) {
        Ok(report) => reply::json(&report),
        Err((code, problem)) => reply::problem(code, &problem),
    }
}

/// `?verbose`, `?verbose=1` and `?verbose=true` ask for it.
fn is_verbose(pair: &str) -> bool {
    matches!(pair, "verbose" | "verbose=" | "verbose=1" | "verbose=true")
}

/// Compares in a time that does not depend on where the tokens differ.
fn authorize(expected: Option<&Secret<String>>, headers: &HeaderMap) -> Result<(), (ErrorCode, &'static str)> {
    let Some(expected) = expected else {
        return Err((ErrorCode::KeyMissing, "this node has no admin token, so only the probes answer"));
    };
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err((ErrorCode::KeyMissing, "send the admin token as Authorization: Bearer"));
    };
    let sent = value.to_str().ok().and_then(|value| value.split_once(' '));
    let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match sent {
        Some((_, token)) if Secret::new(token.trim().to_owned()) == *expected => Ok(()),
        Some(_) => Err((ErrorCode::KeyUnknown, "this is not the admin token")),
        None => Err((ErrorCode::KeyMissing, "send the admin token as Authorization: Bearer")),
    }
}
