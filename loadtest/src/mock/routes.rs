//! From a request to the reply it asked for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::answer::{Answer, Ask, Choice, Format, answer, prompt_tokens};
use super::body::Scripted;
use super::counts::{Counts, Watch};
use super::faults::{self, Step};
use super::script::{Fault, Knobs};
use super::server::Reset;
use super::{anthropic, openai, responses};

/// Largest body taken; a gateway's own limit is to strike long before.
const BODY_BYTES_MAX: usize = 256 << 20;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
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
    Health,
    Unknown,
}

/// Whose shapes a reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    OpenAi,
    Anthropic,
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
    counts.arrived(head, body, model.as_deref());
    let turn = Turn {
        watch: counts.watch(&path, model.as_deref().unwrap_or_default()),
        serial: counts.next_serial(),
        wire,
        shown,
        knobs: Knobs::default(),
    };
    let listed = match (&route, wire) {
        (Route::Models, Wire::OpenAi) => Some(openai::models()),
        (Route::Models, Wire::Anthropic) => Some(anthropic::models()),
        (Route::Unknown, _) => return Ok(turn.refuse(StatusCode::NOT_FOUND, "the mock has no such path", None)),
        _ if lacks_version => return Ok(turn.refuse(StatusCode::NOT_FOUND, "api-version is missing", None)),
        _ => None,
    };
    if let Some(list) = listed {
        return Ok(turn.whole(&list));
    }
    let Ok(parsed) = parsed else {
        return Ok(turn.refuse(StatusCode::BAD_REQUEST, "the body is not JSON", None));
    };
    let Some(model) = model else {
        return Ok(turn.refuse(StatusCode::BAD_REQUEST, "model: a name is required", None));
    };
    obey(turn, &route, &model, &parsed, (reset, version)).await
}

/// Does what the knobs of `model` say.
async fn obey(
    mut turn: Turn,
    route: &Route,
    model: &str,
    body: &Value,
    (reset, version): (Reset, Version),
) -> io::Result<Response<Scripted>> {
    turn.knobs = match Knobs::parse(model) {
        Ok(knobs) => knobs,
        Err(error) => return Ok(turn.refuse(StatusCode::BAD_REQUEST, &error.to_string(), None)),
    };
    if let Some(delay) = turn.knobs.delay {
        tokio::time::sleep(delay).await;
    }
    let is_stream = body.get("stream") == Some(&Value::Bool(true));
    match turn.knobs.fault {
        Fault::None | Fault::Truncated => {}
        Fault::Hang => std::future::pending::<()>().await,
        Fault::Reset => {
            turn.watch.over();
            // Over HTTP/2 the error resets this stream alone, which is the same event for its client.
            if version != Version::HTTP_2 {
                reset.arm();
            }
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the script resets the connection here"));
        }
        Fault::Status(status) => {
            let code = turn.knobs.code.clone();
            let message = match status {
                // As vendors word it: a gateway must not pass this on.
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    format!("Incorrect API key provided: {}", turn.shown)
                }
                _ => "the mock refuses as it was told to".to_owned(),
            };
            let mut response = turn.refuse(status, &message, code.as_deref());
            if status.is_redirection() {
                response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/chat/completions"));
            }
            return Ok(response);
        }
        Fault::ContextLength => return Ok(turn.refuse_length()),
        Fault::Garbage => return Ok(turn.garbage(is_stream)),
    }
    Ok(turn.serve(route, model, body, is_stream))
}

/// One request being answered.
struct Turn {
    watch: Watch,
    serial: u64,
    wire: Wire,
    /// The credential that came with the request.
    shown: String,
    knobs: Knobs,
}

impl Turn {
    fn request_id(&self) -> String {
        format!("req_mock_{}", self.serial)
    }

    fn serve(self, route: &Route, model: &str, body: &Value, stream: bool) -> Response<Scripted> {
        let mut ask = Ask {
            model: model.to_owned(),
            knobs: self.knobs.clone(),
            serial: self.serial,
            stream,
            include_usage: false,
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel: true,
            after_tool_result: false,
            format: Format::Text,
            max_tokens: None,
            prompt_tokens: prompt_tokens(body),
        };
        let read = match route {
            Route::Chat => openai::read_chat(body, &mut ask),
            Route::Completion => openai::read_completion(body, &mut ask),
            Route::Responses => responses::read(body, &mut ask),
            Route::Messages => anthropic::read(body, &mut ask),
            Route::Embeddings => {
                return match openai::embeddings(body, model) {
                    Ok(reply) => self.whole(&reply),
                    Err(message) => self.refuse(StatusCode::BAD_REQUEST, &message, None),
                };
            }
            Route::CountTokens => return self.whole(&json!({"input_tokens": ask.prompt_tokens})),
            Route::Model(id) => {
                return match self.wire {
                    Wire::OpenAi => self.whole(&openai::model(id)),
                    Wire::Anthropic => self.whole(&anthropic::model(id)),
                };
            }
            Route::Models
            | Route::Counts
            | Route::Reset
            | Route::Requests
            | Route::Departures
            | Route::Health
            | Route::Unknown => Ok(()),
        };
        if let Err(message) = read {
            return self.refuse(StatusCode::BAD_REQUEST, &message, None);
        }
        let answer = answer(&ask);
        if ask.stream && !self.knobs.unstreamed {
            self.stream(route, body, &ask, &answer)
        } else {
            self.whole(&made(route, body, &ask, &answer))
        }
    }

    fn stream(mut self, route: &Route, body: &Value, ask: &Ask, answer: &Answer) -> Response<Scripted> {
        let (events, error): (_, fn() -> String) = match route {
            Route::Responses => (responses::events(body, ask, answer), responses::in_band_error),
            Route::Messages => (anthropic::events(ask, answer), anthropic::in_band_error),
            Route::Completion => (openai::completion_events(ask, answer), openai::in_band_error),
            _ => (openai::chat_events(body, ask, answer), openai::in_band_error),
        };
        let steps = faults::stream(&self.knobs, events, error);
        self.watch.begun(StatusCode::OK, true);
        let mut response = self.head(StatusCode::OK, "text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response.map(|()| Scripted::new(steps, Some(self.watch)))
    }

    fn whole(mut self, reply: &Value) -> Response<Scripted> {
        let bytes = Bytes::from(reply.to_string());
        self.watch.begun(StatusCode::OK, false);
        let mut response = self.head(StatusCode::OK, "application/json");
        let length = bytes.len();
        let (steps, promised) = if self.knobs.fault == Fault::Truncated {
            // Half of it, and then the connection goes.
            (vec![Step::Send(bytes.slice(..length / 2), 0), Step::Flush, Step::Break], length)
        } else if self.knobs.slow_bytes {
            (faults::dribble_whole(&self.knobs, bytes), length)
        } else {
            (vec![Step::Send(bytes, 0)], length)
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
        response.map(|()| Scripted::new(steps, Some(self.watch)))
    }

    fn refuse(self, status: StatusCode, message: &str, code: Option<&str>) -> Response<Scripted> {
        let error = match self.wire {
            Wire::OpenAi => openai::error(status, message, code),
            Wire::Anthropic => anthropic::error(status, message, &self.request_id()),
        };
        self.plain(status, "application/json", Bytes::from(error.to_string()))
    }

    fn refuse_length(self) -> Response<Scripted> {
        let (message, code) = match self.wire {
            Wire::OpenAi => (
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. \
                 Please reduce the length of the messages.",
                Some("context_length_exceeded"),
            ),
            Wire::Anthropic => ("prompt is too long: 209000 tokens > 200000 maximum", None),
        };
        self.refuse(StatusCode::BAD_REQUEST, message, code)
    }

    fn garbage(self, is_stream: bool) -> Response<Scripted> {
        if is_stream {
            let bytes = Bytes::from_static(b"data: {\"choices\": [<html>\n\nevent: message_start\ndata: }{\n\n");
            return self.plain(StatusCode::OK, "text/event-stream; charset=utf-8", bytes);
        }
        self.plain(StatusCode::OK, "application/json", Bytes::from_static(b"<html>\xff this is no JSON {"))
    }

    fn plain(mut self, status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Scripted> {
        self.watch.begun(status, false);
        let mut response = self.head(status, kind);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        response.map(|()| Scripted::new(vec![Step::Send(bytes, 0)], Some(self.watch)))
    }

    fn head(&self, status: StatusCode, kind: &'static str) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::SET_COOKIE, HeaderValue::from_static("__mock=1; path=/"));
        let id = HeaderValue::from_str(&self.request_id()).ok();
        let named = match self.wire {
            Wire::OpenAi => {
                // What a gateway must keep to itself: its provider's organisation, quota and cookies.
                headers.insert("openai-organization", HeaderValue::from_static("mock-org"));
                headers.insert("openai-processing-ms", HeaderValue::from_static("1"));
                headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("99"));
                "x-request-id"
            }
            Wire::Anthropic => {
                headers.insert("anthropic-organization-id", HeaderValue::from_static("mock-org"));
                headers.insert("anthropic-ratelimit-requests-remaining", HeaderValue::from_static("99"));
                "request-id"
            }
        };
        let held = [("retry-after", &self.knobs.retry_after), ("retry-after-ms", &self.knobs.retry_after_ms)];
        for (name, value) in held {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        if let Some(id) = id {
            headers.insert(named, id);
        }
        response
    }
}

fn made(route: &Route, body: &Value, ask: &Ask, answer: &Answer) -> Value {
    match route {
        Route::Responses => responses::whole(body, ask, answer),
        Route::Messages => anthropic::whole(ask, answer),
        Route::Completion => openai::completion_whole(ask, answer),
        _ => openai::chat_whole(body, ask, answer),
    }
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
        (&Method::POST, "mock/reset") => Route::Reset,
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
