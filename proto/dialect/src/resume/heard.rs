//! What a client has read of a stream.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::tally::Tally;
use super::{Reason, TEXT_BYTES_MAX};
use crate::Operation;
use crate::sse::{Frame, Framer};

/// Collects what the client has read of one stream, bounded by [`TEXT_BYTES_MAX`].
#[derive(Clone, Debug)]
pub struct Heard {
    pub(super) op: Operation,
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) created: Option<u64>,
    /// All text of the answer, in order.
    pub(super) text: String,
    /// The first thing that was met which cannot be continued.
    bar: Option<Reason>,
    /// What is being written: text, or a thought.
    now: Now,
    pub(super) has_thought: bool,
    /// Messages: the block that is open.
    pub(super) open: Option<u64>,
    /// Messages: the index a further block has.
    pub(super) next_index: u64,
    /// Chat: whether the client was told who speaks.
    pub(super) has_role: bool,
    pub(super) tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Text,
    Thought,
}

impl Heard {
    /// A collector for a stream that goes out as `op`.
    pub fn new(op: Operation) -> Self {
        let bar = match op {
            Operation::Chat | Operation::Completions | Operation::Messages => None,
            // Items, their ids and the stored response would have to be made one: a client that goes on from
            // `previous_response_id` would find half an answer at the provider.
            Operation::Responses => Some(Reason::Operation),
            Operation::Embeddings | Operation::CountTokens => Some(Reason::Operation),
        };
        Self {
            op,
            id: None,
            model: None,
            created: None,
            text: String::new(),
            bar,
            now: Now::Text,
            has_thought: false,
            open: None,
            next_index: 0,
            has_role: false,
            tally: Tally::default(),
        }
    }

    /// Takes in events of the first leg, complete ones, as they were sent to the client.
    pub fn observe_bytes(&mut self, events: &bytes::Bytes) {
        let mut framer = Framer::new(usize::MAX);
        framer.push(events.clone());
        framer.finish();
        while let Some(frame) = framer.next() {
            match frame {
                Ok(frame) => self.observe(&frame),
                Err(_) => self.bar(Reason::Unreadable),
            }
        }
        if framer.has_partial() {
            self.bar(Reason::Unreadable);
        }
    }

    /// Takes in an event of the first leg, as it was sent to the client.
    pub fn observe(&mut self, frame: &Frame) {
        if self.bar.is_some() || !frame.has_data() {
            return;
        }
        let data = frame.data();
        if data.trim_ascii() == b"[DONE]" {
            return;
        }
        if let Some(usage) = self.read(&data) {
            self.tally.first_leg(self.op, usage);
        }
    }

    /// Whether the stream can be resumed where it stands.
    ///
    /// # Errors
    /// The reason why not.
    pub fn can_resume(&self) -> Result<(), Reason> {
        match (self.bar, self.now) {
            (Some(bar), _) => Err(bar),
            (None, Now::Thought) => Err(Reason::Thinking),
            (None, Now::Text) => Ok(()),
        }
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes in the data of an event the client gets, and hands back what it says of usage.
    pub(super) fn read(&mut self, data: &[u8]) -> Option<Map<String, Value>> {
        let usage = match self.op {
            Operation::Chat | Operation::Completions => serde_json::from_slice(data).map(|chunk| self.chunk(chunk)),
            Operation::Messages => serde_json::from_slice(data).map(|event| self.event(event)),
            Operation::Responses | Operation::Embeddings | Operation::CountTokens => return None,
        };
        usage.unwrap_or_else(|_| {
            self.bar(Reason::Unreadable);
            None
        })
    }

    fn chunk(&mut self, chunk: Chunk<'_>) -> Option<Map<String, Value>> {
        note(&mut self.id, chunk.id);
        note(&mut self.model, chunk.model);
        self.created = self.created.or(chunk.created);
        for choice in chunk.choices.unwrap_or_default() {
            self.choice(choice);
        }
        chunk.usage
    }

    fn choice(&mut self, choice: Choice<'_>) {
        if choice.index.is_some_and(|index| index != 0) {
            return self.bar(Reason::Choices);
        }
        if choice.logprobs.is_some() {
            self.bar(Reason::Logprobs);
        }
        if let Some(delta) = choice.delta {
            self.has_role |= delta.role.is_some();
            if says(delta.reasoning_content.as_ref()) || says(delta.reasoning.as_ref()) {
                self.thinks();
            }
            self.says(delta.content.as_deref().unwrap_or_default());
            if says(delta.refusal.as_ref()) {
                self.bar(Reason::Refusal);
            }
            if delta.tool_calls.is_some_and(|calls| !calls.is_empty()) || delta.function_call.is_some() {
                self.bar(Reason::ToolCall);
            }
            if delta.audio.is_some() || delta.images.is_some() {
                self.bar(Reason::OtherContent);
            }
        }
        self.says(choice.text.as_deref().unwrap_or_default());
        if choice.finish_reason.is_some() {
            self.bar(Reason::Finished);
        }
    }

    fn event(&mut self, event: Event<'_>) -> Option<Map<String, Value>> {
        match event.kind.as_ref() {
            "message_start" => {
                let message = event.message?;
                note(&mut self.id, message.id);
                note(&mut self.model, message.model);
                return message.usage;
            }
            "content_block_start" => {
                let index = event.index.unwrap_or_default();
                self.open = Some(index);
                self.next_index = self.next_index.max(index.saturating_add(1));
                let block = event.content_block.unwrap_or_default();
                match block.kind.as_ref() {
                    "text" => self.says(block.text.as_deref().unwrap_or_default()),
                    "thinking" => self.thinks(),
                    // It is complete with its start; no reader sees it.
                    "redacted_thinking" => self.has_thought = true,
                    "tool_use" | "server_tool_use" | "mcp_tool_use" => self.bar(Reason::ToolCall),
                    _ => self.bar(Reason::OtherContent),
                }
            }
            "content_block_delta" => {
                let delta = event.delta.unwrap_or_default();
                self.says(delta.text.as_deref().unwrap_or_default());
            }
            "content_block_stop" => {
                self.open = None;
                self.now = Now::Text;
            }
            "message_delta" => {
                if event.delta.is_some_and(|delta| delta.stop_reason.is_some()) {
                    self.bar(Reason::Finished);
                }
                return event.usage;
            }
            "message_stop" => self.bar(Reason::Finished),
            // `ping`, and whatever the wire gains.
            _ => {}
        }
        None
    }

    fn says(&mut self, text: &str) {
        if text.is_empty() || self.bar.is_some() {
            return;
        }
        self.now = Now::Text;
        if self.text.len().saturating_add(text.len()) > TEXT_BYTES_MAX {
            self.text = String::new();
            return self.bar(Reason::TooLong);
        }
        self.text.push_str(text);
    }

    fn thinks(&mut self) {
        self.has_thought = true;
        self.now = Now::Thought;
        if !self.text.is_empty() {
            // A thought between two texts belongs to the second, and cannot be told to another model.
            self.bar(Reason::Thinking);
        }
    }

    fn bar(&mut self, reason: Reason) {
        self.bar = self.bar.or(Some(reason));
    }
}

fn says(text: Option<&Cow<'_, str>>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn note(to: &mut Option<String>, found: Option<Cow<'_, str>>) {
    if to.is_none() {
        *to = found.filter(|found| !found.is_empty()).map(Cow::into_owned);
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    created: Option<u64>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<ChatDelta<'a>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    finish_reason: Option<IgnoredAny>,
    logprobs: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ChatDelta<'a> {
    role: Option<IgnoredAny>,
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning: Option<Cow<'a, str>>,
    tool_calls: Option<Vec<IgnoredAny>>,
    function_call: Option<IgnoredAny>,
    audio: Option<IgnoredAny>,
    images: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<BlockDelta<'a>>,
    usage: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    usage: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// Both the delta of a block and that of a message.
#[derive(Default, Deserialize)]
struct BlockDelta<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    stop_reason: Option<IgnoredAny>,
}
