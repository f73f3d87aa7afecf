//! What a client reads when something went wrong, in the words of its own dialect.
//!
//! OpenAI's error has a `type` and a `code`; where OpenAI itself has a code for the case (`invalid_api_key`,
//! `rate_limit_exceeded`, ...) that one is used, because programs branch on it, else ours. Anthropic's has a type only,
//! and the request id beside it. Our own code is left to a response header, the same in both dialects.

#[cfg(test)]
mod tests;
mod words;

use serde::Serialize;
use troupe_proto::failure::{ErrorCode, Fault};

use crate::{Dialect, Operation, sse};
use words::{anthropic_type, openai_code, openai_type};

/// One error, as a client may see it.
#[derive(Clone, Copy, Debug)]
pub struct ErrorView<'a> {
    /// What went wrong.
    pub code: ErrorCode,
    /// The HTTP status of the answer; [`ErrorCode::status`] unless a provider's own is relayed.
    pub status: u16,
    /// One sentence or two for a person.
    pub message: &'a str,
    /// The member of the request at fault.
    pub param: Option<&'a str>,
    /// The id to quote when asking about it.
    pub request_id: &'a str,
    /// The class of an upstream failure, if it was one.
    pub fault: Option<Fault>,
}

impl<'a> ErrorView<'a> {
    /// An error with its code's own status, no member and no upstream.
    pub const fn new(code: ErrorCode, message: &'a str, request_id: &'a str) -> Self {
        Self { code, status: code.status(), message, param: None, request_id, fault: None }
    }
}

#[derive(Serialize)]
struct OpenAi<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAi<'a>,
}

/// The error of a Responses stream. The SDKs' type has the members flat, and their parsers raise only where there is
/// an `error` as well, so it has both.
#[derive(Serialize)]
struct ResponsesEvent<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: &'static str,
    message: &'a str,
    param: Option<&'a str>,
    error: OpenAi<'a>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    r#type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: Anthropic<'a>,
    request_id: &'a str,
}

impl<'a> OpenAi<'a> {
    const fn of(view: &ErrorView<'a>) -> Self {
        Self {
            message: view.message,
            r#type: openai_type(view.code, view.status),
            param: view.param,
            code: openai_code(view.code),
        }
    }
}

/// The body of an error answer in `dialect`.
pub fn body(dialect: Dialect, view: &ErrorView<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi => json(&OpenAiBody { error: OpenAi::of(view) }),
        Dialect::Anthropic => json(&AnthropicBody {
            r#type: "error",
            error: Anthropic { r#type: anthropic_type(view.code, view.status), message: view.message },
            request_id: view.request_id,
        }),
    }
}

/// The event that breaks off a stream of `op`: every official SDK raises on it, and nothing may follow it.
///
/// `sequence_number` is the next one of a Responses stream (see [`crate::meter::StreamMeter::next_sequence`]); the
/// other wires have none.
pub fn event(op: Operation, view: &ErrorView<'_>, sequence_number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + view.message.len());
    match op {
        Operation::Responses => {
            let error = OpenAi::of(view);
            let event = ResponsesEvent {
                r#type: "error",
                sequence_number,
                code: error.code,
                message: view.message,
                param: view.param,
                error,
            };
            sse::event(&mut out, Some("error"), &json(&event));
        }
        Operation::Chat | Operation::Completions | Operation::Embeddings => {
            sse::event(&mut out, None, &body(Dialect::OpenAi, view));
        }
        Operation::Messages | Operation::CountTokens => {
            sse::event(&mut out, Some("error"), &body(Dialect::Anthropic, view));
        }
    }
    out
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Structs of strings and numbers: there is nothing in them that JSON cannot hold.
    serde_json::to_vec(value).unwrap_or_default()
}
