//! Translates requests, replies and streams between dialects.
//!
//! Each body is decoded into the canonical form, reshaped to what the other wire can say, and encoded. What does not
//! survive is named (FIDELITY-2); what would change the meaning is refused unless the operator chose to drop it. The
//! table of all members and their fates is `docs/reference/translation.md`.

mod error;
mod ids;
mod reply;
mod shaping;
mod stream;
#[cfg(test)]
mod tests;
mod to_anthropic;
mod to_openai;

pub use error::TranslateError;
pub use reply::{Reply, reply};
pub use stream::{Step, StreamTranslator};

pub use crate::call::TokenLimitName;
pub use crate::delta::{StreamError, UpstreamError};
pub use crate::loss::{Fate, Loss, header_value};
pub use crate::reply::Finish;

use serde_json::Value;

use crate::{Dialect, Operation, anthropic, openai};

/// What a translation of a request has to know besides the body.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions<'a> {
    /// The target's name of the model.
    pub model: &'a str,
    /// The limit sent where the wire needs one and the client gave none: the model's maximum.
    pub max_tokens_default: u64,
    /// Whether the target's model takes `temperature`, `top_p` and `top_k`. Those that do not also think adaptively.
    pub sampling_allowed: bool,
    /// Drop what the target's wire cannot express instead of refusing it.
    pub drop_params: bool,
    /// Whether the reply is to be streamed.
    pub stream: bool,
    /// The name an OpenAI-speaking target knows the token limit by.
    pub token_limit: TokenLimitName,
    /// The time of the request in seconds of Unix time: what an OpenAI client reads as `created`.
    pub created: u64,
}

/// A translated request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The body to send.
    pub body: Vec<u8>,
    /// What to call upstream.
    pub operation: Operation,
    /// What the request lost.
    pub lost: Vec<Loss>,
    /// What the translation of the reply needs.
    pub context: Context,
    /// Headers the body depends on.
    pub headers: &'static [(&'static str, &'static str)],
}

/// What the translation of a reply has to know of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// What the client called.
    pub client: Operation,
    /// The wire the reply comes in.
    pub upstream: Dialect,
    /// The model as the client named it; replies show it only where the provider names none.
    pub model: String,
    /// Seconds of Unix time for `created`.
    pub created: u64,
    /// Whether the reply is streamed.
    pub stream: bool,
    /// Whether the client asked for token counts at the end of the stream.
    pub include_usage: bool,
    /// Whether the client speaks of `functions`.
    pub legacy_functions: bool,
    /// Tools that had to be renamed: the name sent upstream and the client's own.
    pub tool_names: Vec<(String, String)>,
}

impl Context {
    /// The client's own name of a tool.
    pub(crate) fn tool_name(&self, sent: String) -> String {
        self.tool_names.iter().find(|(renamed, _)| *renamed == sent).map_or(sent, |(_, own)| own.clone())
    }
}

const SAMPLING_VERSION: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
const CURRENT_VERSION: &[(&str, &str)] = &[("anthropic-version", "2026-10-21")];

/// Translates a request.
///
/// `from` is what the client called; [`Operation::Chat`] goes to [`Dialect::Anthropic`], [`Operation::Messages`] to
/// [`Dialect::OpenAi`].
///
/// # Errors
/// [`TranslateError::InvalidJson`] and [`TranslateError::InvalidField`] when the body is at fault,
/// [`TranslateError::UnsupportedParameter`] when it asks for what the target's wire cannot express, and
/// [`TranslateError::UnsupportedOperation`] for any other pair.
pub fn request(
    from: Operation,
    to: Dialect,
    body: &[u8],
    options: &RequestOptions<'_>,
) -> Result<Request, TranslateError> {
    let parse = || serde_json::from_slice::<Value>(body).map_err(|error| TranslateError::invalid_json(&error));
    match (from, to) {
        (Operation::Chat, Dialect::Anthropic) => {
            let shaped = to_anthropic::shape(openai::chat::request::decode(parse()?)?, options)?;
            let headers = if options.sampling_allowed { SAMPLING_VERSION } else { CURRENT_VERSION };
            Ok(Request {
                body: to_bytes(&anthropic::request::encode(shaped.call)),
                operation: Operation::Messages,
                lost: shaped.lost,
                context: shaped.context,
                headers,
            })
        }
        (Operation::Messages, Dialect::OpenAi) => {
            let shaped = to_openai::shape(anthropic::request::decode(parse()?)?, options)?;
            Ok(Request {
                body: to_bytes(&openai::chat::request::encode(shaped.call)),
                operation: Operation::Chat,
                lost: shaped.lost,
                context: shaped.context,
                headers: &[],
            })
        }
        (
            Operation::Chat
            | Operation::Completions
            | Operation::Responses
            | Operation::Embeddings
            | Operation::Messages
            | Operation::CountTokens,
            Dialect::OpenAi | Dialect::Anthropic,
        ) => Err(TranslateError::UnsupportedOperation { operation: from, target: to }),
    }
}

/// A JSON value always serializes: its keys are strings and its numbers finite.
fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
