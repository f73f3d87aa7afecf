//! Writes events.
//!
//! This wire has one open block at a time; the wire the steps come from may weave several calls. So a step for another
//! block closes the open one if that is complete (text and thought always are, a call once its JSON is closed), else it
//! is held until then, or until the answer's end.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Value, json};
use troupe_proto::outcome::Usage;

use super::arguments::Arguments;
use crate::anthropic::reply::finish_word;
use crate::delta::{Delta, HELD_BYTES_MAX, StreamError, write_event};
use crate::reply::Finish;
use crate::usage;

/// Writes the events of one stream.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The index of the open block, or of the next one.
    index: u64,
    open: Option<Open>,
    held: VecDeque<Held>,
    held_bytes: usize,
    closed_calls: Vec<u32>,
    usage: Usage,
    finish: Option<(Finish, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(u32),
}

/// The open block.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// Of a call: how far its arguments are.
    arguments: Arguments,
}

/// Content that waits for the open block to close.
#[derive(Debug)]
struct Held {
    kind: Kind,
    /// Of a call: id and name.
    head: (String, String),
    text: String,
}

#[derive(Serialize)]
struct BlockDelta<'a> {
    r#type: &'static str,
    index: u64,
    delta: Piece<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Piece<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
}

impl Encoder {
    /// Appends the events that say one step.
    ///
    /// # Errors
    /// [`StreamError::InvalidReply`] when a call goes on after its arguments were complete and another had begun, or
    /// when more would have to be held back than [`HELD_BYTES_MAX`].
    pub fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), StreamError> {
        match delta {
            Delta::Start { id, model } => self.start(&id, &model, out),
            Delta::Text(text) | Delta::Refusal(text) => self.content(Kind::Text, &text, out)?,
            Delta::Thinking(text) => self.content(Kind::Thinking, &text, out)?,
            Delta::Signature(signature) => {
                if self.open.as_ref().is_some_and(|open| open.kind == Kind::Thinking) {
                    self.piece(Piece::Signature { signature: &signature }, out);
                }
            }
            Delta::ToolStart { call, id, name } => {
                let held = Held { kind: Kind::Call(call), head: (id.unwrap_or_default(), name), text: String::new() };
                self.begin(held, out)?;
            }
            Delta::ToolArguments { call, json } => self.content(Kind::Call(call), &json, out)?,
            Delta::PartEnd => self.close(out),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Finish { reason, stop_sequence } => {
                self.drain(out);
                self.finish = Some((reason, stop_sequence));
            }
            Delta::End => self.end(out),
            Delta::RedactedThinking(data) => {
                self.drain(out);
                let block = json!({ "type": "redacted_thinking", "data": data });
                self.block_start(&block, out);
                self.block_stop(out);
            }
            Delta::Lost(_) => {}
        }
        Ok(())
    }

    fn start(&self, id: &str, model: &str, out: &mut Vec<u8>) {
        let message = json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage::to_anthropic(self.usage),
        });
        write_event(Some("message_start"), &json!({ "type": "message_start", "message": message }), out);
    }

    fn content(&mut self, kind: Kind, text: &str, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let is_held = match kind {
            // A call's pieces belong together; text goes on only where it was the last to speak.
            Kind::Call(_) => self.held.iter().any(|held| held.kind == kind),
            Kind::Text | Kind::Thinking => self.held.back().is_some_and(|last| last.kind == kind),
        };
        if is_held {
            return self.hold(kind, text);
        }
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            self.write(kind, text, out);
            self.advance(out);
            return Ok(());
        }
        match kind {
            Kind::Text | Kind::Thinking => {
                self.begin(Held { kind, head: Default::default(), text: text.to_owned() }, out)
            }
            Kind::Call(call) if !self.closed_calls.contains(&call) => {
                Err(StreamError::invalid("arguments of a tool call that never began"))
            }
            Kind::Call(_) if text.trim().is_empty() => Ok(()),
            Kind::Call(_) => Err(StreamError::invalid("a tool call goes on after its end")),
        }
    }

    /// Opens a block, or holds it until the open one is complete.
    fn begin(&mut self, held: Held, out: &mut Vec<u8>) -> Result<(), StreamError> {
        if self.held.is_empty() && self.open.as_ref().is_none_or(Open::is_complete) {
            self.close(out);
            self.open(&held, out);
            return Ok(());
        }
        self.held_bytes = self.held_bytes.saturating_add(held.text.len());
        self.held.push_back(held);
        self.check_held()
    }

    fn hold(&mut self, kind: Kind, text: &str) -> Result<(), StreamError> {
        if let Some(held) = self.held.iter_mut().rev().find(|held| held.kind == kind) {
            held.text.push_str(text);
            self.held_bytes = self.held_bytes.saturating_add(text.len());
        }
        self.check_held()
    }

    fn check_held(&self) -> Result<(), StreamError> {
        if self.held_bytes > HELD_BYTES_MAX {
            return Err(StreamError::invalid("too many woven tool calls to put in order"));
        }
        Ok(())
    }

    /// Opens held blocks as far as the ones before them are complete.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while self.open.as_ref().is_none_or(Open::is_complete)
            && let Some(held) = self.held.pop_front()
        {
            self.held_bytes = self.held_bytes.saturating_sub(held.text.len());
            self.close(out);
            self.open(&held, out);
        }
    }

    /// Writes all that is held: no more content comes.
    fn drain(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        while let Some(held) = self.held.pop_front() {
            self.open(&held, out);
            self.close(out);
        }
        self.held_bytes = 0;
    }

    fn open(&mut self, held: &Held, out: &mut Vec<u8>) {
        let block = match held.kind {
            Kind::Text => json!({ "type": "text", "text": "" }),
            Kind::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Kind::Call(_) => json!({ "type": "tool_use", "id": held.head.0, "name": held.head.1, "input": {} }),
        };
        self.block_start(&block, out);
        self.open = Some(Open { kind: held.kind, arguments: Arguments::default() });
        self.write(held.kind, &held.text, out);
    }

    fn write(&mut self, kind: Kind, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let piece = match kind {
            Kind::Text => Piece::Text { text },
            Kind::Thinking => Piece::Thinking { thinking: text },
            Kind::Call(_) => Piece::Input { partial_json: text },
        };
        self.piece(piece, out);
        if let Some(open) = &mut self.open
            && matches!(kind, Kind::Call(_))
        {
            open.arguments.feed(text);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        if let Kind::Call(call) = open.kind {
            self.closed_calls.push(call);
            if open.arguments == Arguments::Empty {
                // A call without arguments has an empty object for its input, and says so.
                self.piece(Piece::Input { partial_json: "{}" }, out);
            }
        }
        self.block_stop(out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.drain(out);
        let (reason, stop_sequence) = self.finish.take().unwrap_or((Finish::Stop, None));
        let event = json!({
            "type": "message_delta",
            "delta": { "stop_reason": finish_word(&reason), "stop_sequence": stop_sequence },
            "usage": usage::to_anthropic(self.usage),
        });
        write_event(Some("message_delta"), &event, out);
        write_event(Some("message_stop"), &json!({ "type": "message_stop" }), out);
    }

    fn piece(&self, delta: Piece<'_>, out: &mut Vec<u8>) {
        let event = BlockDelta { r#type: "content_block_delta", index: self.index, delta };
        write_event(Some("content_block_delta"), &event, out);
    }

    fn block_start(&self, block: &Value, out: &mut Vec<u8>) {
        let event = json!({ "type": "content_block_start", "index": self.index, "content_block": block });
        write_event(Some("content_block_start"), &event, out);
    }

    fn block_stop(&mut self, out: &mut Vec<u8>) {
        write_event(Some("content_block_stop"), &json!({ "type": "content_block_stop", "index": self.index }), out);
        self.index = self.index.saturating_add(1);
    }
}

impl Open {
    fn is_complete(&self) -> bool {
        match self.kind {
            Kind::Text | Kind::Thinking => true,
            Kind::Call(_) => self.arguments == Arguments::Complete,
        }
    }
}
