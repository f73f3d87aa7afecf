//! Watches a reply that is relayed as it is: what it used, whether it is complete, and which bytes the client may see.
//!
//! ```text
//! frame -> observe -> Forward | Drop | Replace(bytes)
//!            |-> content: the reply has begun            (the commit point)
//!            |-> end: the wire's last event              (nothing of use follows)
//!            `-> finished(): every part of it was seen   (STREAM-1)
//! ```
//! The end of a chat stream is `[DONE]`, which some servers never send; it is *finished* once every choice has its
//! `finish_reason`, also where the connection then breaks before a `[DONE]`. A `[DONE]` that comes before that is held
//! back: a broken stream must not end like a whole one. What comes after the end, comments too, is kept from the client,
//! however the provider cut its bytes.

mod anthropic;
mod chat;
mod choices;
mod finish;
mod loose;
mod quick;
mod reply;
mod responses;
#[cfg(test)]
mod tests;
mod usage;

use bytes::{Bytes, BytesMut};
use troupe_proto::outcome::Usage;

use crate::Operation;
use crate::fault::{self, Classified};
use crate::sse::Frame;
use choices::Choices;
pub use reply::{ReplyPeek, reply_usage};
pub use usage::{AnthropicUsage, OpenAiUsage, ResponsesUsage};

/// What to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    /// Hand on its bytes.
    Forward,
    /// Keep it from the client.
    Drop,
    /// Hand on these bytes instead.
    Replace(Bytes),
}

/// What an event meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What to do with it.
    pub relay: Relay,
    /// It is part of the reply proper: with the first of these the provider has answered.
    ///
    /// Chat: text, tool calls, reasoning, refusal or audio in a delta, or a finish reason. Completions: text or a
    /// finish reason. Responses: an output item added, any delta, or an end other than `response.failed`. Messages: a
    /// delta, a block that is more than the opening of a text or a thought, or the `message_delta` that ends a reply
    /// without any. Roles, pings and `response.created` are not.
    pub content: bool,
    /// It is the wire's last event: `[DONE]`, `message_stop`, `response.completed` or its like. Whether the stream
    /// was whole is for [`StreamMeter::finished`] to say.
    pub end: bool,
    /// It is no event of this wire (its data is not a JSON object): the provider is broken, and the relay must say so
    /// in-band instead of passing it on.
    pub invalid: bool,
}

impl Seen {
    const FORWARD: Self = Self { relay: Relay::Forward, content: false, end: false, invalid: false };
    const DROP: Self = Self { relay: Relay::Drop, content: false, end: false, invalid: false };
    const INVALID: Self = Self { relay: Relay::Drop, content: false, end: false, invalid: true };
}

/// Watches one stream that goes out in the dialect it came in.
#[derive(Debug)]
pub struct StreamMeter {
    op: Operation,
    hide_usage: bool,
    choices: Choices,
    openai: Option<Usage>,
    anthropic: Option<AnthropicUsage>,
    model: Option<String>,
    finish: Option<&'static str>,
    error: Option<Classified>,
    ended: bool,
    /// The wire's last event was seen, whole or not: nothing after it is of use.
    over: bool,
    next_sequence: u64,
}

impl StreamMeter {
    /// A meter for one stream of `op`. `hide_usage` when the gateway itself asked for usage at the end
    /// ([`crate::peek::Edits::include_usage`]): the client then sees what it would have seen without.
    pub fn new(op: Operation, hide_usage: bool) -> Self {
        Self {
            op,
            hide_usage,
            choices: Choices::default(),
            openai: None,
            anthropic: None,
            model: None,
            finish: None,
            error: None,
            ended: false,
            over: false,
            next_sequence: 0,
        }
    }

    /// Expects at least `n` choices (chat and completions), so that a stream that broke before the second of two began
    /// is not taken for a whole one.
    #[must_use]
    pub fn with_choices(mut self, n: u64) -> Self {
        self.choices.expect(n);
        self
    }

    /// Takes in the next event. After the one whose [`Seen::end`] is set, everything is dropped and counts for nothing.
    pub fn observe(&mut self, frame: &Frame) -> Seen {
        if self.over {
            return Seen::DROP;
        }
        let seen = self.observe_event(frame);
        self.over = seen.end;
        seen
    }

    fn observe_event(&mut self, frame: &Frame) -> Seen {
        if !frame.has_data() {
            return Seen::FORWARD;
        }
        let data = frame.data();
        if data.trim_ascii() == b"[DONE]" {
            return self.observe_done();
        }
        let Ok(text) = std::str::from_utf8(&data) else { return Seen::INVALID };
        let seen = match self.op {
            Operation::Chat | Operation::Completions => self.observe_chat(frame, text),
            Operation::Responses => self.observe_responses(text),
            Operation::Messages => self.observe_messages(text),
            // These do not stream: there is no event they could send.
            Operation::Embeddings | Operation::CountTokens => None,
        };
        seen.unwrap_or(Seen::INVALID)
    }

    /// What the provider reported so far; cumulative, so the last report is the whole.
    pub fn usage(&self) -> Option<Usage> {
        self.openai.or_else(|| self.anthropic.as_ref().map(AnthropicUsage::normal))
    }

    /// Whether the reply is whole, without an error: only then may the client's stream end like a whole one.
    ///
    /// It says nothing about the connection: once it is true, a reset or a missing `[DONE]` takes nothing from the
    /// reply. Chat and completions: every choice that was expected ([`Self::with_choices`]) or came has its finish
    /// reason, which may be events before [`Seen::end`]; usage may still follow. Messages and Responses: the last event
    /// was seen.
    pub fn finished(&self) -> bool {
        match self.op {
            Operation::Chat | Operation::Completions => self.choices.all_finished() && self.error.is_none(),
            Operation::Messages => self.ended && self.error.is_none(),
            // `response.failed` is an error and an end: once it is handed on, the client has been told in full.
            Operation::Responses => self.ended && self.error.as_ref().is_none_or(|error| error.relay_body),
            Operation::Embeddings | Operation::CountTokens => false,
        }
    }

    /// The error event that the provider sent, if it did. It was forwarded only where [`Classified::relay_body`] allows.
    pub const fn in_band_error(&self) -> Option<&Classified> {
        self.error.as_ref()
    }

    /// Why the provider stopped, as one of a bounded set of words; of several choices, the last one to finish.
    pub const fn finish_reason(&self) -> Option<&'static str> {
        self.finish
    }

    /// The model that the provider says it used.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The sequence number that a further event of a Responses stream would have; 0 on other wires.
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    fn observe_done(&mut self) -> Seen {
        match self.op {
            Operation::Chat | Operation::Completions => {
                let relay = if self.finished() { Relay::Forward } else { Relay::Drop };
                Seen { relay, end: true, ..Seen::FORWARD }
            }
            // A stray marker of the other wire, which some gateways add. Clients of these wires do not want it.
            Operation::Responses | Operation::Messages | Operation::Embeddings | Operation::CountTokens => Seen::DROP,
        }
    }

    fn observe_error(&mut self, text: &str) -> Seen {
        let error = fault::classify_event(self.op.dialect(), text.as_bytes());
        let relay = if error.relay_body { Relay::Forward } else { Relay::Drop };
        self.error = Some(error);
        Seen { relay, ..Seen::FORWARD }
    }

    fn note_model(&mut self, model: Option<&str>) {
        if let (None, Some(model)) = (&self.model, model.filter(|model| !model.is_empty())) {
            self.model = Some(crate::json::head(model, crate::peek::MODEL_BYTES_MAX).to_owned());
        }
    }
}

/// The frame with its data replaced; name and other fields as they were where it has one line of data.
fn with_data(frame: &Frame, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(frame.raw.len());
    match frame.data_span() {
        Some(at) => {
            out.extend_from_slice(frame.raw.get(..at.start).unwrap_or_default());
            out.extend_from_slice(data);
            out.extend_from_slice(frame.raw.get(at.end..).unwrap_or_default());
        }
        None => crate::sse::event(&mut out, frame.event(), data),
    }
    out.freeze()
}
