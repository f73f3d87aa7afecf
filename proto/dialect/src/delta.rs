//! The canonical stream step, and what can go wrong in a stream.
//!
//! A dialect's stream decoder turns its events into these steps, a dialect's stream encoder turns them into its
//! events. Order: one `Start`, then content, `Finish` once, `Usage` at any time after `Start` (the last one counts),
//! `End` last and only when the wire's own end was seen.

use troupe_proto::failure::ErrorCode;
use troupe_proto::outcome::Usage;

use crate::Dialect;
use crate::call::{Arguments, Extra, Part, RedactedThinking, Text, Thinking, ToolCall};
use crate::reply::{Finish, Output, Reply};

/// The most tool calls of one answer; a stream with more is refused as broken.
pub const CALLS_MAX: u32 = 256;

/// The most bytes an encoder holds back until an open block can be closed; a stream that needs more is broken off.
pub const HELD_BYTES_MAX: usize = 8 << 20;

/// One step of a streamed reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The reply begins.
    Start {
        /// The provider's id for it.
        id: String,
        /// The model, as the provider names it.
        model: String,
    },
    /// More text.
    Text(String),
    /// More words of a refusal.
    Refusal(String),
    /// More thought.
    Thinking(String),
    /// The proof of the thought before it.
    Signature(String),
    /// A sealed thought.
    RedactedThinking(String),
    /// A tool call begins.
    ToolStart {
        /// Its place among the calls, from 0.
        call: u32,
        /// Its id, where the wire has one.
        id: Option<String>,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// The call.
        call: u32,
        /// A piece of JSON text.
        json: String,
    },
    /// The piece of content that was open is complete.
    PartEnd,
    /// Token counts so far.
    Usage(Usage),
    /// Why the answer ended.
    Finish {
        /// The reason.
        reason: Finish,
        /// The stop text that was met, where the wire says it.
        stop_sequence: Option<String>,
    },
    /// A member this form has no word for; its name.
    Lost(String),
    /// The wire's end.
    End,
}

impl Delta {
    /// Whether it carries something a reader sees.
    pub const fn is_content(&self) -> bool {
        match self {
            Self::Text(_)
            | Self::Refusal(_)
            | Self::Thinking(_)
            | Self::RedactedThinking(_)
            | Self::ToolStart { .. }
            | Self::ToolArguments { .. } => true,
            Self::Start { .. }
            | Self::Signature(_)
            | Self::PartEnd
            | Self::Usage(_)
            | Self::Finish { .. }
            | Self::Lost(_)
            | Self::End => false,
        }
    }
}

/// An error a provider reported in its own words, in a stream or in the body of a 200.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The class, such as `overloaded_error`.
    pub kind: Option<String>,
    /// The code, such as `rate_limit_exceeded`.
    pub code: Option<String>,
    /// For people.
    pub message: String,
}

/// Why a stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It stopped before its wire's end.
    #[error("the stream stopped before its end")]
    Incomplete,
    /// An event is none of this wire, or makes no sense where it stands.
    #[error("the stream holds what is no answer: {problem}")]
    InvalidReply {
        /// What is wrong.
        problem: String,
    },
    /// The provider reported an error in the stream.
    #[error("the provider reported an error in the stream: {}", .0.message)]
    Upstream(UpstreamError),
}

impl StreamError {
    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        Self::InvalidReply { problem: problem.into() }
    }

    /// The code it is reported under; an [`StreamError::Upstream`] deserves a closer look by the fault classifier.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Incomplete => ErrorCode::StreamInterrupted,
            Self::InvalidReply { .. } => ErrorCode::ProviderInvalidReply,
            Self::Upstream(_) => ErrorCode::ProviderError,
        }
    }
}

/// Folds steps into a whole reply.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    id: Option<String>,
    model: Option<String>,
    parts: Vec<Part>,
    /// Which of `parts` each call is.
    calls: Vec<(u32, usize)>,
    /// Whether the last part may still grow.
    open: bool,
    finish: Option<Finish>,
    stop_sequence: Option<String>,
    usage: Option<Usage>,
}

impl Fold {
    /// Adds one step.
    pub fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Start { id, model } => (self.id, self.model) = (Some(id), Some(model)),
            Delta::Text(more) => match self.parts.last_mut() {
                Some(Part::Text(text)) if self.open => text.text.push_str(&more),
                _ => self.add(Part::text(more)),
            },
            Delta::Refusal(more) => match self.parts.last_mut() {
                Some(Part::Refusal(text)) if self.open => text.text.push_str(&more),
                _ => self.add(Part::Refusal(Text { text: more, extra: Extra::new() })),
            },
            Delta::Thinking(more) => match self.parts.last_mut() {
                Some(Part::Thinking(thinking)) if self.open => thinking.text.push_str(&more),
                _ => self.add(Part::Thinking(Thinking { text: more, signature: None, extra: Extra::new() })),
            },
            Delta::Signature(more) => {
                if let Some(Part::Thinking(thinking)) = self.parts.last_mut() {
                    thinking.signature.get_or_insert_default().push_str(&more);
                }
            }
            Delta::RedactedThinking(data) => {
                self.add(Part::RedactedThinking(RedactedThinking { data, extra: Extra::new() }));
            }
            Delta::ToolStart { call, id, name } => {
                self.calls.push((call, self.parts.len()));
                let arguments = Arguments::Text(String::new());
                self.add(Part::ToolCall(ToolCall { id, name, arguments, extra: Extra::new() }));
            }
            Delta::ToolArguments { call, json } => {
                let at = self.calls.iter().find(|(known, _)| *known == call).map(|(_, at)| *at);
                if let Some(Part::ToolCall(ToolCall { arguments: Arguments::Text(text), .. })) =
                    at.and_then(|at| self.parts.get_mut(at))
                {
                    text.push_str(&json);
                }
            }
            Delta::PartEnd => self.open = false,
            Delta::Usage(usage) => self.usage = Some(usage),
            Delta::Finish { reason, stop_sequence } => {
                (self.finish, self.stop_sequence) = (Some(reason), stop_sequence);
            }
            Delta::Lost(_) | Delta::End => {}
        }
    }

    /// The reply as it stands.
    pub fn into_reply(self, dialect: Dialect) -> Reply {
        let output = Output {
            index: 0,
            parts: self.parts,
            finish: self.finish,
            stop_sequence: self.stop_sequence,
            extra: Extra::new(),
            message_extra: Extra::new(),
        };
        Reply {
            dialect,
            id: self.id,
            model: self.model,
            created: None,
            outputs: vec![output],
            usage: self.usage,
            usage_wire: None,
            extra: Extra::new(),
        }
    }

    fn add(&mut self, part: Part) {
        self.parts.push(part);
        self.open = true;
    }
}

/// Appends one server-sent event; `data` is JSON on one line.
pub(crate) fn write_event(name: Option<&str>, data: &impl serde::Serialize, out: &mut Vec<u8>) {
    let begin = out.len();
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    match serde_json::to_writer(&mut *out, data) {
        Ok(()) => out.extend_from_slice(b"\n\n"),
        // Cannot happen: a `Vec` takes all bytes and our own structs hold nothing JSON lacks. Half an event must not go out.
        Err(_) => out.truncate(begin),
    }
}
