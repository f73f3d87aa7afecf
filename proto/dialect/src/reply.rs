//! The canonical whole reply.

use serde_json::Value;
use troupe_proto::outcome::Usage;

use crate::Dialect;
use crate::call::{Extra, Part};

/// A model's whole answer to one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The wire whose words `extra` and `Other` hold.
    pub dialect: Dialect,
    /// The provider's id for it.
    pub id: Option<String>,
    /// The model, as the provider names it.
    pub model: Option<String>,
    /// When it was made, in seconds of Unix time, where the wire says it.
    pub created: Option<u64>,
    /// The answers: one, unless several were asked for.
    pub outputs: Vec<Output>,
    /// Token counts.
    pub usage: Option<Usage>,
    /// Token counts in the words of `dialect`, which may say more than [`Usage`]; an encoder of the same wire writes it.
    pub usage_wire: Option<Value>,
    /// The rest.
    pub extra: Extra,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its place among the answers.
    pub index: u64,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// The stop text that ended it, where the wire says it.
    pub stop_sequence: Option<String>,
    /// The rest of the choice around the message.
    pub extra: Extra,
    /// The rest of the message.
    pub message_extra: Extra,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model had said all.
    Stop,
    /// A stop text was met.
    StopSequence,
    /// The token limit was met.
    Length,
    /// The model's context is full.
    ContextFull,
    /// The model waits for tools.
    ToolCalls,
    /// The same, asked for by OpenAI's old `functions`.
    FunctionCall,
    /// The model or its provider refused to go on.
    Filtered,
    /// The provider paused a long turn; the client is to send it back.
    Paused,
    /// A reason this form has no word for.
    Other(String),
}

impl Finish {
    /// The word used for it in metrics and logs; bounded, so [`Finish::Other`] is only `other`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StopSequence => "stop_sequence",
            Self::Length => "length",
            Self::ContextFull => "context_full",
            Self::ToolCalls => "tool_calls",
            Self::FunctionCall => "function_call",
            Self::Filtered => "filtered",
            Self::Paused => "paused",
            Self::Other(_) => "other",
        }
    }
}
