//! From a path to an answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;
use troupe_dialect::models::{self, Entry, Page};
use troupe_dialect::{Dialect, Operation};
use troupe_proto::failure::ErrorCode;

use super::answer::answer;
use super::ask::{Ask, Bad, Delivery, hash};
use super::reply::{self, CREATED, Reply};
use super::{BODY_BYTES_MAX, BODY_TIMEOUT, chat, completions, embeddings, messages, responses};

/// The models it lists; it answers to any other name as well.
const MODELS: [&str; 2] = ["sim", "sim-claude"];

/// Answers one request.
pub(super) async fn route(request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let dialect = dialect(path, &head.headers);
    let (id, outcome) = match (Operation::of_path(path), &head.method) {
        (Some(op), &Method::POST) => match collect(body).await {
            Ok(body) => {
                let id = format!("sim{:016x}", hash(&body));
                let outcome = parse(&body).and_then(|body| perform(op, &body, id.clone()));
                (id, outcome)
            }
            Err(bad) => ("sim".to_owned(), Err(bad)),
        },
        (None, &Method::GET) if path.starts_with("/v1/models") => ("sim".to_owned(), list(path, dialect)),
        (Some(_), _) => ("sim".to_owned(), Err(bad(ErrorCode::MethodNotAllowed, "this path takes POST"))),
        (None, _) => ("sim".to_owned(), Err(bad(ErrorCode::RouteNotFound, "the simulated provider has no such path"))),
    };
    let mut reply = outcome.unwrap_or_else(|bad| reply::refusal(dialect, &bad, &id));
    if let Ok(id) = HeaderValue::from_str(&id) {
        let name = match dialect {
            Dialect::OpenAi => "x-request-id",
            Dialect::Anthropic => "request-id",
        };
        reply.headers_mut().insert(name, id);
    }
    reply
}

fn bad(code: ErrorCode, message: &str) -> Bad {
    Bad { code, message: message.to_owned(), param: None }
}

/// The wire of a path; where both have it (`/v1/models`), Anthropic's clients say their version.
fn dialect(path: &str, headers: &HeaderMap) -> Dialect {
    let by_headers = || if headers.contains_key("anthropic-version") { Dialect::Anthropic } else { Dialect::OpenAi };
    Operation::of_path(path).map_or_else(by_headers, Operation::dialect)
}

async fn collect(body: Incoming) -> Result<Bytes, Bad> {
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(bad(ErrorCode::BodyTooLarge, "the body is larger than 32 MiB"))
        }
        Ok(Err(_)) => Err(bad(ErrorCode::ClientClosed, "the body broke off")),
        Err(_) => Err(bad(ErrorCode::RequestTimeout, "the body took too long to come")),
    }
}

fn parse(body: &[u8]) -> Result<Value, Bad> {
    match serde_json::from_slice(body) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(bad(ErrorCode::InvalidJson, "the body must be a JSON object")),
        Err(error) => Err(bad(ErrorCode::InvalidJson, &format!("the body is not JSON: {error}"))),
    }
}

fn perform(op: Operation, body: &Value, id: String) -> Result<Reply, Bad> {
    let reply = match op {
        Operation::Chat => {
            let chat = chat::read(body, id)?;
            let answer = answer(&chat.ask);
            deliver(&chat.ask, || chat.whole(&answer), || chat.events(&answer))
        }
        Operation::Completions => {
            let ask = completions::read(body, id)?;
            let answer = answer(&ask);
            let events = || completions::events(&ask, &answer, chat::usage_wanted(body));
            deliver(&ask, || completions::whole(&ask, &answer), events)
        }
        Operation::Responses => {
            let ask = responses::read(body, id)?;
            let answer = answer(&ask);
            deliver(&ask, || responses::whole(body, &ask, &answer), || responses::events(body, &ask, &answer))
        }
        Operation::Messages => {
            let ask = messages::read(body, id)?;
            let answer = answer(&ask);
            deliver(&ask, || messages::whole(&ask, &answer), || messages::events(&ask, &answer))
        }
        Operation::Embeddings => reply::json(&embeddings::embed(body)?),
        Operation::CountTokens => reply::json(&messages::count(body)?),
    };
    Ok(reply)
}

fn deliver(ask: &Ask, whole: impl FnOnce() -> Value, events: impl FnOnce() -> Vec<reply::Event>) -> Reply {
    match ask.delivery {
        Delivery::Whole => reply::json(&whole()),
        Delivery::Stream => reply::streamed(events()),
    }
}

fn list(path: &str, dialect: Dialect) -> Result<Reply, Bad> {
    let entries = MODELS.map(|id| Entry { id, created: CREATED, owned_by: "troupe-dev" });
    let body = match path.strip_prefix("/v1/models").unwrap_or_default() {
        "" | "/" => Some(models::list(dialect, &entries, &Page::default())),
        name => {
            let name = name.trim_start_matches('/');
            entries.iter().find(|entry| entry.id == name).map(|entry| models::one(dialect, entry))
        }
    };
    let body = body.ok_or_else(|| bad(ErrorCode::ModelNotFound, "the simulated provider lists no such model"))?;
    Ok(reply::bytes(http::StatusCode::OK, body))
}
