//! Reads chunks.
//!
//! ```text
//! Open --finish_reason--> Finished --[DONE]--> Ended
//!   \--[DONE]--> Incomplete
//! ```
//! Compatible servers differ in small things that are all understood here: the call's index may be missing or always 0,
//! id and name may be repeated, the name may come after the id and even after arguments, counts may come in a chunk of their own or with the last one, `[DONE]` may be missing.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::delta::{CALLS_MAX, Delta, HELD_BYTES_MAX, StreamError, UpstreamError};
use crate::openai::chat::reply::finish_from;
use crate::openai::error;
use crate::usage;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Finished,
    Ended,
}

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    started: bool,
    calls: Vec<Call>,
    /// How much is held of calls without a name, over the whole stream.
    held_bytes: usize,
}

/// A call: what the server calls it by.
#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    /// Its arguments so far, while its name has not come: no reader can be told of it before.
    nameless: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Body>,
    finish_reason: Option<String>,
    logprobs: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Body {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<Value>,
    tool_calls: Option<Vec<ToolCall>>,
    function_call: Option<Function>,
    audio: Option<IgnoredAny>,
    annotations: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ToolCall {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
    custom: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

impl Decoder {
    /// Reads the data of one event and appends what it says.
    ///
    /// # Errors
    /// [`StreamError::Upstream`] for an in-band error, [`StreamError::Incomplete`] for an end before a finish reason,
    /// [`StreamError::InvalidReply`] for what is no chunk. The stream is of no more use then.
    pub fn event(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let data = data.trim_ascii();
        match (self.state, data) {
            (State::Ended, _) | (State::Open | State::Finished, b"") => Ok(()),
            (State::Finished, b"[DONE]") => self.end(out),
            (State::Open, b"[DONE]") => Err(StreamError::Incomplete),
            (State::Open | State::Finished, _) => self.chunk(data, out),
        }
    }

    /// The upstream ended without trouble.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] when no finish reason was seen, [`StreamError::InvalidReply`] when a call has no name.
    pub fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        match self.state {
            State::Open => Err(StreamError::Incomplete),
            State::Finished => self.end(out),
            State::Ended => Ok(()),
        }
    }

    /// Whether a finish reason was seen.
    pub const fn is_finished(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Finished | State::Ended => true,
        }
    }

    fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        self.check_names()?;
        self.state = State::Ended;
        out.push(Delta::End);
        Ok(())
    }

    fn check_names(&self) -> Result<(), StreamError> {
        if self.calls.iter().any(|call| call.nameless.is_some()) {
            return Err(StreamError::invalid("a tool call without a name"));
        }
        Ok(())
    }

    fn chunk(&mut self, data: &[u8], out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let chunk: Chunk = match serde_json::from_slice::<Chunk>(data) {
            // Every member is optional, so an error object reads as an empty chunk.
            Ok(chunk) if chunk.choices.is_some() || chunk.usage.is_some() => chunk,
            Ok(_) | Err(_) => return Err(not_a_chunk(data)),
        };
        let choices = chunk.choices.unwrap_or_default();
        if !self.started && !choices.is_empty() {
            self.started = true;
            out.push(Delta::Start { id: chunk.id.unwrap_or_default(), model: chunk.model.unwrap_or_default() });
        }
        for choice in choices {
            if choice.index.unwrap_or_default() == 0 {
                self.choice(choice, out)?;
            } else {
                out.push(Delta::Lost("choices".to_owned()));
            }
        }
        out.extend(chunk.usage.as_ref().and_then(usage::from_openai_chat).map(Delta::Usage));
        Ok(())
    }

    fn choice(&mut self, choice: Choice, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        if choice.logprobs.is_some() {
            out.push(Delta::Lost("choices.logprobs".to_owned()));
        }
        if let Some(body) = choice.delta {
            self.body(body, out)?;
        }
        if let Some(word) = choice.finish_reason
            && self.state == State::Open
        {
            self.check_names()?;
            self.state = State::Finished;
            out.push(Delta::Finish { reason: finish_from(word), stop_sequence: None });
        }
        Ok(())
    }

    fn body(&mut self, body: Body, out: &mut Vec<Delta>) -> Result<(), StreamError> {
        let said = |text: &String| !text.is_empty();
        let thought = match (body.reasoning_content, body.reasoning) {
            (Some(text), _) | (None, Some(Value::String(text))) => Some(text),
            (None, _) => None,
        };
        out.extend(thought.filter(said).map(Delta::Thinking));
        out.extend(body.content.filter(said).map(Delta::Text));
        out.extend(body.refusal.filter(said).map(Delta::Refusal));
        for call in body.tool_calls.unwrap_or_default() {
            if call.custom.is_some() {
                return Err(StreamError::invalid("a call of a custom tool that was never declared"));
            }
            let function = call.function.unwrap_or(Function { name: None, arguments: None });
            self.call(call.index, call.id.filter(said), function, out)?;
        }
        if let Some(function) = body.function_call {
            self.call(Some(0), None, function, out)?;
        }
        if body.audio.is_some() {
            out.push(Delta::Lost("choices.message.audio".to_owned()));
        }
        if body.annotations.is_some() {
            out.push(Delta::Lost("choices.message.annotations".to_owned()));
        }
        Ok(())
    }

    fn call(
        &mut self,
        index: Option<u64>,
        id: Option<String>,
        function: Function,
        out: &mut Vec<Delta>,
    ) -> Result<(), StreamError> {
        let known = match (index, &id) {
            // A second id under one index is another call: some servers number every call 0.
            (Some(index), Some(id)) => self
                .calls
                .iter()
                .rposition(|call| call.index == Some(index) && call.id.as_ref().is_none_or(|known| known == id)),
            (Some(index), None) => self.calls.iter().rposition(|call| call.index == Some(index)),
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id.as_ref() == Some(id)),
            (None, None) => self.calls.len().checked_sub(1),
        };
        let name = function.name.filter(|name| !name.is_empty());
        let json = function.arguments.filter(|json| !json.is_empty());
        let at = known.unwrap_or(self.calls.len());
        let number = u32::try_from(at).unwrap_or(CALLS_MAX);
        if number >= CALLS_MAX {
            return Err(StreamError::invalid("more tool calls than one answer may hold"));
        }
        if known.is_none() {
            self.calls.push(Call { index, id: None, nameless: Some(String::new()) });
        }
        let Some(call) = self.calls.get_mut(at) else { return Ok(()) };
        if let Some(held) = &mut call.nameless {
            // The id is told with the start, so it is taken as long as that has not been written.
            call.id = call.id.take().or(id);
            let Some(name) = name else {
                let more = json.unwrap_or_default();
                self.held_bytes = self.held_bytes.saturating_add(more.len());
                if self.held_bytes > HELD_BYTES_MAX {
                    return Err(StreamError::invalid("too many arguments of a tool call without a name"));
                }
                held.push_str(&more);
                return Ok(());
            };
            out.push(Delta::ToolStart { call: number, id: call.id.clone(), name });
            let held = call.nameless.take().filter(|held| !held.is_empty());
            out.extend(held.map(|json| Delta::ToolArguments { call: number, json }));
        }
        out.extend(json.map(|json| Delta::ToolArguments { call: number, json }));
        Ok(())
    }
}

fn not_a_chunk(data: &[u8]) -> StreamError {
    let body: Option<Value> = serde_json::from_slice(data).ok();
    match body.as_ref().and_then(error::decode) {
        Some(error) => {
            StreamError::Upstream(UpstreamError { kind: error.kind, code: error.code, message: error.message })
        }
        None => StreamError::invalid("an event that is no chunk"),
    }
}
