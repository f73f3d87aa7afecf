//! Which path means what.

use http::{HeaderMap, Method};
use troupe_dialect::{Dialect, Operation};

/// What a request line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A call that goes to a provider.
    Call(Operation),
    /// `GET /v1/models`
    ModelList(Dialect),
    /// `GET /v1/models/{id}`, the id percent-decoded.
    Model(Dialect, String),
    /// Is the process up?
    Healthz,
    /// Does it want traffic?
    Readyz,
    /// A known path with another method.
    MethodNotAllowed(Dialect, &'static str),
    /// Nothing here.
    NotFound(Dialect),
}

/// Finds what a request asks for.
///
/// The same paths serve under `/openai` and `/anthropic`, where the prefix settles the dialect of what both have.
pub(super) fn find(method: &Method, path: &str, headers: &HeaderMap) -> Route {
    let (prefix, rest) = match path {
        _ if path.starts_with("/openai/") => (Some(Dialect::OpenAi), path.strip_prefix("/openai")),
        _ if path.starts_with("/anthropic/") => (Some(Dialect::Anthropic), path.strip_prefix("/anthropic")),
        _ => (None, Some(path)),
    };
    let dialect = prefix.unwrap_or_else(|| guess(path, headers));
    let Some(rest) = rest else { return Route::NotFound(dialect) };
    match (rest, prefix) {
        ("/healthz", None) => probe(method, dialect, Route::Healthz),
        ("/readyz", None) => probe(method, dialect, Route::Readyz),
        ("/v1/models", _) => get(method, dialect, Route::ModelList(dialect)),
        _ => match (Operation::of_path(rest), rest.strip_prefix("/v1/models/")) {
            (Some(operation), _) if prefix.is_some_and(|prefix| prefix != operation.dialect()) => {
                Route::NotFound(dialect)
            }
            (Some(operation), _) if method == Method::POST => Route::Call(operation),
            (Some(operation), _) => Route::MethodNotAllowed(operation.dialect(), "POST"),
            (None, Some(id)) if !id.is_empty() => match percent_encoding::percent_decode_str(id).decode_utf8() {
                Ok(id) => get(method, dialect, Route::Model(dialect, id.into_owned())),
                Err(_) => Route::NotFound(dialect),
            },
            (None, _) => Route::NotFound(dialect),
        },
    }
}

fn get(method: &Method, dialect: Dialect, route: Route) -> Route {
    if method == Method::GET || method == Method::HEAD { route } else { Route::MethodNotAllowed(dialect, "GET, HEAD") }
}

/// Some balancers probe with OPTIONS unless they are told otherwise.
fn probe(method: &Method, dialect: Dialect, route: Route) -> Route {
    let is_asked = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    if is_asked { route } else { Route::MethodNotAllowed(dialect, PROBE_METHODS) }
}

/// What `/healthz` and `/readyz` take.
pub(super) const PROBE_METHODS: &str = "GET, HEAD, OPTIONS";

/// The dialect of a client on a path that both have, or neither: Anthropic's SDKs always send their version.
fn guess(path: &str, headers: &HeaderMap) -> Dialect {
    if path.starts_with("/v1/messages") || headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Route {
        find(&Method::POST, path, &HeaderMap::new())
    }

    #[test]
    fn each_call_has_its_path_bare_and_under_its_dialect() {
        assert_eq!(post("/v1/chat/completions"), Route::Call(Operation::Chat));
        assert_eq!(post("/openai/v1/responses"), Route::Call(Operation::Responses));
        assert_eq!(post("/anthropic/v1/messages"), Route::Call(Operation::Messages));
        assert_eq!(post("/openai/v1/messages"), Route::NotFound(Dialect::OpenAi));
        assert_eq!(post("/anthropic/v1/chat/completions"), Route::NotFound(Dialect::Anthropic));
        assert_eq!(post("/v1/chat/completions/"), Route::NotFound(Dialect::OpenAi));
        assert_eq!(post("/openai/healthz"), Route::NotFound(Dialect::OpenAi));
    }

    #[test]
    fn models_are_listed_in_the_dialect_of_whoever_asks() {
        let get = |path: &str, headers: &HeaderMap| find(&Method::GET, path, headers);
        let mut anthropic = HeaderMap::new();
        anthropic.insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));

        assert_eq!(get("/v1/models", &HeaderMap::new()), Route::ModelList(Dialect::OpenAi));
        assert_eq!(get("/v1/models", &anthropic), Route::ModelList(Dialect::Anthropic));
        assert_eq!(get("/anthropic/v1/models", &HeaderMap::new()), Route::ModelList(Dialect::Anthropic));
        assert_eq!(get("/v1/models/a%2Fb", &anthropic), Route::Model(Dialect::Anthropic, "a/b".into()));
        assert_eq!(get("/v1/models/", &anthropic), Route::NotFound(Dialect::Anthropic));
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        let route = find(&Method::GET, "/v1/messages", &HeaderMap::new());

        assert_eq!(route, Route::MethodNotAllowed(Dialect::Anthropic, "POST"));
        assert_eq!(post("/readyz"), Route::MethodNotAllowed(Dialect::OpenAi, "GET, HEAD, OPTIONS"));
    }

    #[test]
    fn probes_take_options_and_nothing_else_does() {
        let options = |path: &str| find(&Method::OPTIONS, path, &HeaderMap::new());

        assert_eq!((options("/healthz"), options("/readyz")), (Route::Healthz, Route::Readyz));
        assert_eq!(options("/v1/models"), Route::MethodNotAllowed(Dialect::OpenAi, "GET, HEAD"));
    }
}
