//! What the gateway must know of a request that it forwards, and the few edits it may make to it (FIDELITY-1).
//!
//! One pass over the body: it is checked to be strict JSON (see [`crate::json`]), the members the gateway acts on are
//! read, and where they are is kept, so that an edit copies the bytes around them and changes nothing else. Only what
//! is read here is held to its type; all else is the provider's to judge.

mod edit;
mod members;
#[cfg(test)]
mod tests;
mod whole;

use std::ops::Range;

use bytes::Bytes;
use troupe_proto::failure::ErrorCode;

use crate::Operation;
use crate::json::{self, BadJson, Kind};
pub use edit::Edits;
use members::Members;

/// The longest model name that is looked up; longer ones name nothing.
pub const MODEL_BYTES_MAX: usize = 512;

/// Why a body cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadBody {
    /// `InvalidJson`, `DuplicateKey` or `InvalidField`.
    pub code: ErrorCode,
    /// What is wrong and where, written for the client.
    pub message: String,
    /// The member at fault, as OpenAI's errors name it.
    pub param: Option<String>,
}

impl BadBody {
    fn field(name: &str, what: impl std::fmt::Display) -> Self {
        Self { code: ErrorCode::InvalidField, message: format!("{name}: {what}"), param: Some(name.to_owned()) }
    }

    fn expected(name: &str, expected: &str, found: &str) -> Self {
        Self::field(name, format_args!("expected {expected}, found {}", Kind::of(found)))
    }
}

impl From<BadJson> for BadBody {
    fn from(bad: BadJson) -> Self {
        let message = bad.to_string();
        let (code, param) = match bad {
            BadJson::NotUtf8 { .. } | BadJson::Syntax { .. } | BadJson::TooDeep { .. } => {
                (ErrorCode::InvalidJson, None)
            }
            BadJson::Duplicate { key, path, .. } => {
                let param = if path == "body" { key } else { format!("{path}.{key}") };
                (ErrorCode::DuplicateKey, Some(param))
            }
            BadJson::NotAnObject { .. } => (ErrorCode::InvalidField, None),
        };
        Self { code, message, param }
    }
}

/// What was read of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The model asked for; never empty, at most [`MODEL_BYTES_MAX`] bytes.
    pub model: String,
    /// Whether the reply is to be a stream.
    pub stream: bool,
    /// Whether the client itself asked for usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// The largest output limit the request names, where it is a whole number.
    pub max_tokens: Option<u64>,
    /// How many choices are asked for (`n`), where it is a whole number.
    pub n: Option<u64>,
    /// Where the model's name is, quotes included.
    model_at: Range<usize>,
    /// What to write where, to have the provider report usage; `None` when it does already or never can.
    usage_edit: Option<(Range<usize>, &'static str)>,
}

/// Reads what the gateway needs of a request's body.
///
/// # Errors
/// [`BadBody`] when the body is not strict JSON or a member that is read here has the wrong type.
pub fn peek(op: Operation, body: &Bytes) -> Result<Peeked, BadBody> {
    let text = json::text(body)?;
    if Kind::of(text) != Kind::Object {
        let kind = json::check(body)?;
        return Err(BadJson::NotAnObject { found: kind.a() }.into());
    }
    Members::read(op, text)?.checked(op, text)
}
