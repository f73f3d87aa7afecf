//! Errors as the clients of each dialect read them.

use serde_json::Value;
use troupe_tests::Reply;
use troupe_tests::ask::Dialect;

/// What a client is told went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// The gateway's own code, from its header.
    pub(crate) code: String,
    pub(crate) message: String,
    /// The member at fault; only OpenAI's errors have it.
    pub(crate) param: Option<String>,
}

/// Reads an error, and holds it to the shape of its dialect.
pub(crate) fn told(dialect: Dialect, reply: &Reply) -> Told {
    let body = reply.json();
    let shown = format!("{} {:?} {}", reply.status, reply.headers, reply.text());
    assert!(reply.status >= 400 && !reply.is_cut, "{shown}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{shown}");
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("no id: {shown}"));
    assert_eq!(reply.header("request-id"), Some(id), "{shown}");
    let text = |at: &str| body.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let members = |at: &str| body.pointer(at).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    match dialect {
        Dialect::OpenAi => {
            assert_eq!((members(""), members("/error")), (1, 4), "{shown}");
            assert!(text("/error/code").is_some(), "{shown}");
        }
        Dialect::Anthropic => {
            assert_eq!((members(""), members("/error")), (3, 2), "{shown}");
            assert_eq!(text("/type").as_deref(), Some("error"), "{shown}");
            assert_eq!(text("/request_id").as_deref(), Some(id), "{shown}");
        }
    }
    // Anthropic has one type that is no `_error`, for bodies that are too large.
    let is_kind = |kind: &str| kind.ends_with("_error") || kind == "request_too_large";
    assert!(text("/error/type").is_some_and(|kind| is_kind(&kind)), "{shown}");
    Told {
        status: reply.status,
        code: reply.header("x-troupe-error").unwrap_or_default().to_owned(),
        message: text("/error/message").unwrap_or_else(|| panic!("no message: {shown}")),
        param: text("/error/param"),
    }
}

/// Holds an error to a status, a code, and words its message must have; gives the message.
#[track_caller]
pub(crate) fn assert_told(dialect: Dialect, reply: &Reply, status: u16, code: &str, words: &str) -> String {
    let told = told(dialect, reply);
    assert_eq!((told.status, told.code.as_str()), (status, code), "{told:?}");
    assert!(told.message.contains(words), "{told:?} lacks {words:?}");
    told.message
}
