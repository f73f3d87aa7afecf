//! What a provider's error body says, in any of the shapes they come in.

use std::time::Duration;

use serde_json::Value;

use super::MESSAGE_BYTES_MAX;
use super::hints::{parse_length, told_wait};
use crate::{Dialect, json};

/// The most of a `type` or `code` that is kept.
const WORD_BYTES_MAX: usize = 128;

/// An error body, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) message: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    /// Google's word for it, such as `RESOURCE_EXHAUSTED`.
    pub(super) state: Option<String>,
    /// How long to wait, where the body says it.
    pub(super) wait: Option<Duration>,
    /// It is an error object of the dialect that was asked for.
    pub(super) well_formed: bool,
}

impl Upstream {
    pub(super) fn read(dialect: Dialect, body: &[u8]) -> Self {
        let (top, bare) = match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(top)) => (top, true),
            // Google's OpenAI-like endpoint puts its error into a list.
            Ok(Value::Array(mut list)) => match list.pop() {
                Some(Value::Object(top)) => (top, false),
                Some(_) | None => return Self::default(),
            },
            Ok(_) | Err(_) => {
                // A plain sentence is worth keeping; a page of markup is not.
                let text = std::str::from_utf8(body).ok().filter(|text| !text.trim_start().starts_with('<'));
                return Self { message: text.and_then(|text| clean(text, MESSAGE_BYTES_MAX)), ..Self::default() };
            }
        };
        // `response.failed` of a Responses stream carries its error one level down.
        let nested = top.get("response").and_then(|response| response.get("error"));
        let error = top.get("error").filter(|error| !error.is_null()).or(nested);
        let word = |name: &str| {
            let within = error.and_then(|error| error.get(name));
            let word = within.or_else(|| if error.is_some_and(Value::is_object) { None } else { top.get(name) })?;
            match word {
                Value::String(word) => clean(word, WORD_BYTES_MAX),
                Value::Number(number) => Some(number.to_string()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            }
        };
        let flat = error.or_else(|| top.get("message")).or_else(|| top.get("detail"));
        let message = error.and_then(|error| error.get("message")).or(flat).and_then(Value::as_str);
        let within = |name: &str| top.get("error").and_then(|error| error.get(name)).is_some_and(Value::is_string);
        let is_error = top.get("type").and_then(Value::as_str) == Some("error");
        let is_flat_event = is_error && top.get("message").is_some_and(Value::is_string);
        let well_formed = match dialect {
            Dialect::OpenAi => within("message") || is_flat_event || nested.is_some(),
            Dialect::Anthropic => is_error && within("type") && within("message"),
        };
        let details = error.and_then(|error| error.get("details")).and_then(Value::as_array);
        let delay = details.into_iter().flatten().find_map(|detail| detail.get("retryDelay")?.as_str());
        Self {
            message: message.and_then(|message| clean(message, MESSAGE_BYTES_MAX)),
            kind: word("type"),
            code: word("code"),
            state: word("status"),
            wait: delay.and_then(parse_length).or_else(|| told_wait(message?)),
            well_formed: bare && well_formed,
        }
    }
}

/// `text` without control characters, at most `max` bytes; nothing if nothing is left.
fn clean(text: &str, max: usize) -> Option<String> {
    let text: String = json::head(text, max).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
