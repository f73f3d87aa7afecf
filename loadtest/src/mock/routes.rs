//! From a request to the reply it asked for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::body::Scripted;
use super::counts::Counts;
use super::faults::Step;
use super::server::Reset;
use super::switch::Strike;
use super::turn::{Turn, Wire};

/// Largest body taken; a gateway's own limit is to strike long before.
const BODY_BYTES_MAX: usize = 256 << 20;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Completion,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    Models,
    Model(String),
    Counts,
    Reset,
    Requests,
    Departures,
    Bills,
    Fail,
    Heal,
    Health,
    Unknown,
}

/// Answers one request.
///
/// # Errors
/// The reset that a model name asked for: the connection ends without a reply.
pub(super) async fn reply(
    request: Request<Incoming>,
    counts: Arc<Counts>,
    reset: Reset,
) -> io::Result<Response<Scripted>> {
    let (head, body) = request.into_parts();
    let (route, deployment) = route(&head.method, head.uri.path());
    match route {
        Route::Counts => return Ok(own(&json!(counts.snapshot()))),
        Route::Requests => return Ok(own(&json!(counts.received()))),
        Route::Departures => return Ok(own(&json!(counts.departures()))),
        Route::Health => return Ok(own(&json!({"healthy": true}))),
        Route::Reset => {
            counts.reset();
            return Ok(own(&json!({"reset": true})));
        }
        Route::Bills => return Ok(own(&json!(counts.bills()))),
        Route::Heal => {
            counts.switch.heal();
            return Ok(own(&json!({"healed": true})));
        }
        Route::Fail => return fail(body, &counts).await,
        Route::Chat
        | Route::Completion
        | Route::Responses
        | Route::Embeddings
        | Route::Messages
        | Route::CountTokens
        | Route::Models
        | Route::Model(_)
        | Route::Unknown => {}
    }
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let wire = match route {
        Route::Messages | Route::CountTokens => Wire::Anthropic,
        _ if head.headers.contains_key("anthropic-version") => Wire::Anthropic,
        _ => Wire::OpenAi,
    };
    let query = head.uri.query().unwrap_or_default();
    let lacks_version = deployment.is_some() && !query.split('&').any(|pair| pair.starts_with("api-version="));
    let (path, version) = (head.uri.path().to_owned(), head.version);
    let parsed = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(&body) };
    let model = match &route {
        Route::Model(model) => Some(model.clone()),
        _ => deployment.or_else(|| Some(parsed.as_ref().ok()?.get("model")?.as_str()?.to_owned())),
    };
    let shown = credential(&head.headers);
    let call = counts.arrived(head, body, model.as_deref(), &shown);
    let turn = Turn::new(&counts, wire, call, &path, model.as_deref().unwrap_or_default(), &shown);
    match &route {
        Route::Unknown => return Ok(turn.refuse(StatusCode::NOT_FOUND, "the mock has no such path", None)),
        _ if lacks_version => return Ok(turn.refuse(StatusCode::NOT_FOUND, "api-version is missing", None)),
        Route::Models => return turn.obey(&route, None, &Value::Null, (reset, version)).await,
        _ => {}
    }
    let Ok(parsed) = parsed else {
        return Ok(turn.refuse(StatusCode::BAD_REQUEST, "the body is not JSON", None));
    };
    let Some(model) = model else {
        return Ok(turn.refuse(StatusCode::BAD_REQUEST, "model: a name is required", None));
    };
    turn.obey(&route, Some(&model), &parsed, (reset, version)).await
}

/// Switches a fault on for calls to come.
async fn fail(body: Incoming, counts: &Counts) -> io::Result<Response<Scripted>> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let taken = serde_json::from_slice::<Strike>(&body)
        .map_err(|error| error.to_string())
        .and_then(|strike| counts.switch.add(strike).map_err(|error| error.to_string()));
    Ok(match taken {
        Ok(()) => own(&json!({"fails": true})),
        Err(message) => {
            let mut response = own(&json!({"error": message}));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    })
}

/// A reply of the mock about itself, which nothing counts.
fn own(value: &Value) -> Response<Scripted> {
    let mut response = Response::new(Scripted::new(vec![Step::Send(Bytes::from(value.to_string()), 0)], None));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The credential of a request, in whichever header it came.
fn credential(headers: &http::HeaderMap) -> String {
    let found = ["authorization", "x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    found.map(|value| value.trim_start_matches("Bearer ").to_owned()).unwrap_or_default()
}

/// Finds what a path means, and the deployment an Azure-shaped one names.
fn route(method: &Method, path: &str) -> (Route, Option<String>) {
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        let (deployment, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let route = match (method, rest) {
            (&Method::POST, "chat/completions") => Route::Chat,
            (&Method::POST, "completions") => Route::Completion,
            (&Method::POST, "embeddings") => Route::Embeddings,
            _ => Route::Unknown,
        };
        return (route, Some(decoded(deployment)));
    }
    let bare = path.strip_prefix("/v1/").or_else(|| path.strip_prefix('/')).unwrap_or(path);
    let route = match (method, bare) {
        (&Method::POST, "chat/completions") => Route::Chat,
        (&Method::POST, "completions") => Route::Completion,
        (&Method::POST, "responses") => Route::Responses,
        (&Method::POST, "embeddings") => Route::Embeddings,
        (&Method::POST, "messages") => Route::Messages,
        (&Method::POST, "messages/count_tokens") => Route::CountTokens,
        (&Method::GET, "models") => Route::Models,
        (&Method::GET, "healthz") => Route::Health,
        (&Method::GET, "mock/counts") => Route::Counts,
        (&Method::GET, "mock/closed-early") => Route::Departures,
        (&Method::GET, "mock/requests") => Route::Requests,
        (&Method::GET, "mock/bills") => Route::Bills,
        (&Method::POST, "mock/reset") => Route::Reset,
        (&Method::POST, "mock/fault") => Route::Fail,
        (&Method::DELETE, "mock/fault") => Route::Heal,
        (&Method::GET, bare) => {
            bare.strip_prefix("models/").map_or(Route::Unknown, |model| Route::Model(decoded(model)))
        }
        _ => Route::Unknown,
    };
    (route, None)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_work_with_and_without_their_version() {
        for path in ["/v1/chat/completions", "/chat/completions"] {
            assert_eq!(route(&Method::POST, path), (Route::Chat, None));
        }
        assert_eq!(route(&Method::POST, "/v1/messages/count_tokens").0, Route::CountTokens);
        assert_eq!(route(&Method::GET, "/v1/models/mock%2Btools").0, Route::Model("mock+tools".to_owned()));
        assert_eq!(route(&Method::GET, "/v1/chat/completions").0, Route::Unknown);
    }

    #[test]
    fn a_deployment_is_the_model() {
        let (found, deployment) = route(&Method::POST, "/openai/deployments/mock%2Bwords=3/chat/completions");

        assert_eq!((found, deployment.as_deref()), (Route::Chat, Some("mock+words=3")));
    }
}
