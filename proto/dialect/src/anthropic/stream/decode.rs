//! Reads events.
//!
//! ```text
//! Waiting --message_start--> Open --message_delta{stop_reason}--> Stopping --message_stop--> Ended
//! ```

use serde_json::{Map, Value};

use crate::anthropic::error;
use crate::anthropic::reply::finish_from;
use crate::delta::{CALLS_MAX, Delta, StreamError, UpstreamError};
use crate::reply::Finish;
use crate::usage;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Open,
    Stopping,
    Ended,
}

/// The block that is open.
#[derive(Clone, Debug, Default, PartialEq)]
enum Block {
    #[default]
    None,
    Text,
    Thinking,
    Tool {
        call: u32,
        /// Whether any piece of its arguments came.
        any: bool,
        /// The input its start already held.
        input: Option<String>,
    },
    /// A kind the canonical form has no word for; its pieces are skipped, its name was noted.
    Other,
}

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    block: Block,
    calls: u32,
    /// Counts are cumulative and come in two events, of which the later may leave out what did not change.
    usage: Map<String, Value>,
}

impl Decoder {
    /// Reads one event and appends what it says.
    ///
    /// # Errors
    /// [`StreamError::Upstream`] for an `error` event, [`StreamError::InvalidReply`] for what is no event of this wire.
    /// The stream is of no more use then.
    pub fn event(&mut self, name: Option<&str>, data: &[u8], out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let data = data.trim_ascii();
        if self.state == State::Ended || data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let event: Value =
            serde_json::from_slice(data).map_err(|_| StreamError::invalid("an event that is not JSON"))?;
        let kind = event.get("type").and_then(Value::as_str).or(name).unwrap_or_default();
        match (kind, self.state) {
            ("error", _) => Err(in_band(&event)),
            ("message_start", State::Waiting) => self.start(event, out),
            ("content_block_start", State::Open) => self.block_start(event, out),
            ("content_block_delta", State::Open) => self.block_delta(event, out),
            ("content_block_stop", State::Open) => {
                self.block_stop(out);
                Ok(())
            }
            ("message_delta", State::Open | State::Stopping) => {
                self.message_delta(event, out);
                Ok(())
            }
            ("message_stop", State::Open | State::Stopping) => {
                self.end(out);
                Ok(())
            }
            (
                "message_start"
                | "content_block_start"
                | "content_block_delta"
                | "content_block_stop"
                | "message_delta"
                | "message_stop",
                State::Waiting | State::Open | State::Stopping | State::Ended,
            ) => Err(StreamError::invalid(format!("{kind} out of order"))),
            // `ping`, and whatever the wire gains: clients are told to skip what they do not know.
            (_, State::Waiting | State::Open | State::Stopping | State::Ended) => Ok(()),
        }
    }

    /// The upstream ended without trouble.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] when `message_stop` was not seen.
    pub const fn finish(&self) -> Result<(), StreamError> {
        match self.state {
            State::Ended => Ok(()),
            State::Waiting | State::Open | State::Stopping => Err(StreamError::Incomplete),
        }
    }

    /// Whether `message_stop` was seen.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn start(&mut self, mut event: Value, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let Some(Value::Object(mut message)) = event.get_mut("message").map(Value::take) else {
            return Err(StreamError::invalid("message_start without a message"));
        };
        self.state = State::Open;
        let id = take_text(&mut message, "id").unwrap_or_default();
        let model = take_text(&mut message, "model").unwrap_or_default();
        out.push(Delta::Start { id, model });
        self.count(message.shift_remove("usage"), out);
        Ok(())
    }

    fn block_start(&mut self, mut event: Value, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let Some(Value::Object(mut block)) = event.get_mut("content_block").map(Value::take) else {
            return Err(StreamError::invalid("content_block_start without a block"));
        };
        if self.block != Block::None {
            return Err(StreamError::invalid("a block begins inside another"));
        }
        let kind = take_text(&mut block, "type").unwrap_or_default();
        let said = |text: &String| !text.is_empty();
        self.block = match kind.as_str() {
            "text" => {
                out.extend(take_text(&mut block, "text").filter(said).map(Delta::Text));
                Block::Text
            }
            "thinking" => {
                out.extend(take_text(&mut block, "thinking").filter(said).map(Delta::Thinking));
                out.extend(take_text(&mut block, "signature").filter(said).map(Delta::Signature));
                Block::Thinking
            }
            "redacted_thinking" => {
                out.extend(take_text(&mut block, "data").map(Delta::RedactedThinking));
                Block::Other
            }
            "tool_use" => {
                let call = self.calls;
                self.calls = call.saturating_add(1);
                if call >= CALLS_MAX {
                    return Err(StreamError::invalid("more tool calls than one answer may hold"));
                }
                let name =
                    take_text(&mut block, "name").ok_or_else(|| StreamError::invalid("a tool call without a name"))?;
                out.push(Delta::ToolStart { call, id: take_text(&mut block, "id"), name });
                let input = block.get("input").filter(|input| input.as_object().is_some_and(|map| !map.is_empty()));
                Block::Tool { call, any: false, input: input.map(Value::to_string) }
            }
            _ => {
                out.push(Delta::Lost(format!("content.{kind}")));
                Block::Other
            }
        };
        Ok(())
    }

    fn block_delta(&mut self, mut event: Value, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let Some(Value::Object(mut delta)) = event.get_mut("delta").map(Value::take) else {
            return Err(StreamError::invalid("content_block_delta without a delta"));
        };
        let kind = take_text(&mut delta, "type").unwrap_or_default();
        let mut piece = |key| take_text(&mut delta, key).filter(|text| !text.is_empty());
        match (&mut self.block, kind.as_str()) {
            (Block::None, _) => return Err(StreamError::invalid("a piece of content outside a block")),
            (Block::Text, "text_delta") => out.extend(piece("text").map(Delta::Text)),
            (Block::Text, "citations_delta") => out.push(Delta::Lost("content.citations".to_owned())),
            (Block::Thinking, "thinking_delta") => out.extend(piece("thinking").map(Delta::Thinking)),
            (Block::Thinking, "signature_delta") => out.extend(piece("signature").map(Delta::Signature)),
            (Block::Tool { call, any, .. }, "input_json_delta") => {
                if let Some(json) = piece("partial_json") {
                    *any = true;
                    out.push(Delta::ToolArguments { call: *call, json });
                }
            }
            (Block::Other, _) => {}
            (Block::Text | Block::Thinking | Block::Tool { .. }, _) => out.push(Delta::Lost(format!("content.{kind}"))),
        }
        Ok(())
    }

    fn block_stop(&mut self, out: &mut Vec<Delta>) {
        match std::mem::take(&mut self.block) {
            Block::Tool { call, any: false, input } => {
                let json = input.unwrap_or_else(|| "{}".to_owned());
                out.extend([Delta::ToolArguments { call, json }, Delta::PartEnd]);
            }
            Block::None | Block::Text | Block::Thinking | Block::Tool { any: true, .. } | Block::Other => {
                out.push(Delta::PartEnd);
            }
        }
    }

    fn message_delta(&mut self, mut event: Value, out: &mut Vec<Delta>) {
        self.count(event.get_mut("usage").map(Value::take), out);
        let Some(Value::Object(mut delta)) = event.get_mut("delta").map(Value::take) else { return };
        let stop_sequence = take_text(&mut delta, "stop_sequence");
        if let Some(word) = take_text(&mut delta, "stop_reason")
            && self.state == State::Open
        {
            self.state = State::Stopping;
            out.push(Delta::Finish { reason: finish_from(word), stop_sequence });
        }
        let beside = event.get("context_management").filter(|value| !value.is_null()).map(|_| "context_management");
        let inside = delta.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str());
        out.extend(inside.chain(beside).map(|name| Delta::Lost(name.to_owned())));
    }

    fn end(&mut self, out: &mut Vec<Delta>) {
        if self.state == State::Open {
            // The wire's end came without a reason; a reader still needs one.
            out.push(Delta::Finish { reason: Finish::Stop, stop_sequence: None });
        }
        self.state = State::Ended;
        out.push(Delta::End);
    }

    fn count(&mut self, usage: Option<Value>, out: &mut Vec<Delta>) {
        let Some(Value::Object(usage)) = usage else { return };
        self.usage.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
        let merged = Value::Object(std::mem::take(&mut self.usage));
        out.extend(usage::from_anthropic(&merged).map(Delta::Usage));
        if let Value::Object(merged) = merged {
            self.usage = merged;
        }
    }
}

fn take_text(object: &mut Map<String, Value>, key: &str) -> Option<String> {
    match object.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => None,
    }
}

fn in_band(event: &Value) -> StreamError {
    let error = error::decode(event).unwrap_or_default();
    StreamError::Upstream(UpstreamError { kind: error.kind, code: None, message: error.message })
}
