//! From a request to the route that answers it: probes, then the token, then the table.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;
use troupe_proto::failure::ErrorCode;
use troupe_proto::secret::KeyHash;
use troupe_proto::token::Role;

use super::asker::{self, Asker};
use super::call::Call;
use super::failure::{Code, Failure};
use super::reply::{self, Reply};
use super::table::{ROUTES, Route};
use super::{AdminState, query};
use crate::clock;

/// How long a caller may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a call with a token that is not known here waits for what others know.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Answers one request.
pub(super) async fn answer<B>(state: &AdminState, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    if let Some(reply) = probe(state, request.method(), request.uri()) {
        return reply;
    }
    guarded(state, request).await.unwrap_or_else(|failure| reply::problem(&failure))
}

/// Probes need no token.
fn probe(state: &AdminState, method: &Method, uri: &http::Uri) -> Option<Reply> {
    let is_verbose = uri.query().is_some_and(|query| query.split('&').any(is_verbose));
    let (status, body) = match uri.path() {
        "/healthz" => {
            let (status, body) = state.health.healthz();
            (status, body.to_owned())
        }
        "/readyz" => state.health.readyz(is_verbose),
        _ => return None,
    };
    Some(match *method {
        Method::OPTIONS => reply::options(),
        Method::GET | Method::HEAD => reply::text(status, body),
        _ => reply::wrong_method(&["GET", "HEAD"]),
    })
}

/// Paths behind the token. Whether one exists is told to operators only.
async fn guarded<B>(state: &AdminState, request: Request<B>) -> Result<Reply, Failure>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let (head, body) = request.into_parts();
    let asker = authorize(state, &head.headers).await?;
    let path = head.uri.path();
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    let here: Vec<(&Route, Vec<String>)> =
        ROUTES.iter().filter_map(|r| r.matches(path).map(|names| (r, names))).collect();
    if here.is_empty() {
        return Err(Failure::new(ErrorCode::RouteNotFound, "the admin listener has no such path"));
    }
    let Some((route, names)) = here.iter().find(|(route, _)| route.method == method.as_str()) else {
        let mut allowed: Vec<&str> = here.iter().map(|(route, _)| route.method).collect();
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        return Ok(reply::wrong_method(&allowed));
    };
    if asker.role < route.role {
        let detail = format!(
            "this takes the role {}, the token {:?} is {}",
            route.role.as_str(),
            asker.name,
            asker.role.as_str()
        );
        return Err(Failure::new(Code::RoleForbidden, detail));
    }
    let query = query::read(head.uri.query(), route.query.iter().map(|parameter| parameter.name))?;
    let body = read_body(body, route.body_bytes()).await?;
    let what = format!("{method} {}", head.uri);
    let call = Call { state, asker: &asker, names: names.clone(), query, headers: &head.headers, what, body };
    (route.run)(&call).await
}

async fn read_body<B>(body: B, max: usize) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match timeout(BODY_TIMEOUT, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Failure::new(ErrorCode::BodyTooLarge, format!("the body has more than {max} bytes")))
        }
        Ok(Err(_)) => Err(Failure::new(ErrorCode::InvalidField, "the body broke off")),
        Err(_) => Err(Failure::new(ErrorCode::RequestTimeout, "the body took too long to arrive")),
    }
}

/// `?verbose`, `?verbose=1` and `?verbose=true` ask for it.
fn is_verbose(pair: &str) -> bool {
    matches!(pair, "verbose" | "verbose=" | "verbose=1" | "verbose=true")
}

/// Whose token came with a call. One that this node does not know may have been made elsewhere a moment ago.
async fn authorize(state: &AdminState, headers: &HeaderMap) -> Result<Asker, Failure> {
    // Hashes may be compared in any way: nobody can choose what a token's hash begins with.
    let hash = KeyHash::of(asker::sent_token(headers)?.as_bytes());
    if state.token == Some(hash) {
        return Ok(Asker { name: format!("node:{}", state.node), role: Role::Admin });
    }
    if state.cluster.state().admin_token_by_hash(&hash).is_none() {
        // Without a quorum what this node knows has to do.
        timeout(LOOK_AGAIN, state.cluster.read_index()).await.ok();
    }
    let agreed = state.cluster.state();
    match agreed.admin_token_by_hash(&hash) {
        Some((_, token)) if token.is_expired(clock::unix_seconds()) => {
            Err(Failure::new(ErrorCode::KeyExpired, "this admin token has expired"))
        }
        Some((id, token)) => Ok(Asker { name: id.to_string(), role: token.role }),
        None if state.token.is_none() && agreed.admin_tokens().is_empty() => Err(Failure::new(
            ErrorCode::KeyUnknown,
            "this node knows no admin token yet: its cluster's first one is shown when the cluster forms, and listen.admin_token gives this node one",
        )),
        None => Err(Failure::new(ErrorCode::KeyUnknown, "this is not an admin token")),
    }
}
