//! Goes on with a stream that broke after its client had read part of it: the pure half of mid-stream failover.
//!
//! ```text
//! first leg  --> Heard.observe      what the client has read
//! it breaks  --> continuation(..)   the request for the rest, in the client's dialect
//! second leg --> Stitch.batch       its events, as the rest of the first; on the next break into_heard(), and again
//! ```
//! The client sees one stream: one id, one start, one end, the text of both legs without a gap or a word twice. Where
//! that cannot be had, it is not pretended: [`Reason`] says why a stream cannot be resumed, and a leg that does not take
//! the text up where it was dropped ends in [`StitchError::NoJoint`], so that the client is told of the break as before.
//!
//! There are two ways to have the text continued ([`Join`]):
//! - *Prefill*: the text so far stands last, as an answer that is not complete. Claude models before 4.6 write on from
//!   its last character. Newer ones refuse it, and so does any of them with thinking on. Servers of OpenAI's wire do not
//!   agree on it: OpenAI itself answers anew, Mistral and DeepSeek want a `prefix` member, vLLM `continue_final_message`,
//!   and each refuses the others' words, so it is not used there.
//! - *Ask*: the text so far is an answer, and a message behind it asks for the rest, to begin with the last words of that
//!   text. Any chat model takes it. The repeated words show where the rest begins, to the blank; they are taken out
//!   again. So is a repetition of more than those words, up to the whole text, as from a model that answers anew in the
//!   same words.
//!
//! Token limits stay as the client set them: no wire says how much was written when a stream breaks. Each leg is a call
//! of its own and is accounted as one; what the client reads in its last usage is put together by [`tally`].

mod chat;
mod heard;
mod joint;
mod messages;
mod request;
mod stitch;
mod tally;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use heard::Heard;
pub use joint::{Join, anchor};
pub use request::{Continuation, continuation};
pub use stitch::{Stitch, StitchError};

/// The most text that is kept of a stream, to be continued from.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why a stream cannot be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The operation has no way to be continued.
    Operation,
    /// The answer was complete but for its end.
    Finished,
    /// There is more than one choice.
    Choices,
    /// A tool was called.
    ToolCall,
    /// It broke within a thought: that cannot be handed to another model.
    Thinking,
    /// The model was refusing.
    Refusal,
    /// It holds something that is not text.
    OtherContent,
    /// The client wants the probability of each token.
    Logprobs,
    /// The client wants output of a given form, which two halves would not have.
    Structured,
    /// The client's own request ends in the beginning of an answer, or its prompt is no plain text.
    Prompt,
    /// More than [`TEXT_BYTES_MAX`] was written.
    TooLong,
    /// An event or the request is not of the form this wire has.
    Unreadable,
}

impl Reason {
    /// Every reason, for metrics that list them all.
    pub const ALL: [Self; 12] = [
        Self::Operation,
        Self::Finished,
        Self::Choices,
        Self::ToolCall,
        Self::Thinking,
        Self::Refusal,
        Self::OtherContent,
        Self::Logprobs,
        Self::Structured,
        Self::Prompt,
        Self::TooLong,
        Self::Unreadable,
    ];

    /// The word used for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Finished => "finished",
            Self::Choices => "choices",
            Self::ToolCall => "tool_call",
            Self::Thinking => "thinking",
            Self::Refusal => "refusal",
            Self::OtherContent => "other_content",
            Self::Logprobs => "logprobs",
            Self::Structured => "structured",
            Self::Prompt => "prompt",
            Self::TooLong => "too_long",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The comment that marks the seam between two legs. Every official SDK of the wires that can be resumed skips it.
pub fn seam_comment(from: &str, to: &str) -> Bytes {
    // A line end in a name would begin a line of its own.
    let clean = |name: &str| name.chars().filter(|c| !c.is_control()).collect::<String>();
    Bytes::from(format!(": troupe-seam from={} to={}\n\n", clean(from), clean(to)))
}
