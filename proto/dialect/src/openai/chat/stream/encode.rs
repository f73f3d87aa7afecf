//! Writes chunks.

use serde::Serialize;
use serde_json::Value;
use troupe_proto::outcome::Usage;

use crate::delta::Delta;
use crate::openai::chat::reply::finish_word;
use crate::reply::Finish;
use crate::usage;

/// What a client's request decides about its chunks.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Seconds of Unix time.
    pub created: u64,
    /// The client asked for token counts: they come in a chunk of their own, and the others say `null`.
    pub include_usage: bool,
    /// The client speaks of `functions`.
    pub legacy_functions: bool,
}

/// Writes the events of one stream.
#[derive(Debug)]
pub struct Encoder {
    style: Style,
    id: String,
    model: String,
    usage: Option<Usage>,
    finish: Option<Finish>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    delta: Body<'a>,
    logprobs: (),
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function<'a>>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl Encoder {
    /// An encoder that has written nothing.
    pub const fn new(style: Style) -> Self {
        Self { style, id: String::new(), model: String::new(), usage: None, finish: None }
    }

    /// Appends the events that say one step.
    pub fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { id, model } => {
                (self.id, self.model) = (id, model);
                self.body(Body { role: Some("assistant"), content: Some(""), ..Body::default() }, out);
            }
            Delta::Text(text) => self.body(Body { content: Some(&text), ..Body::default() }, out),
            Delta::Refusal(text) => self.body(Body { refusal: Some(&text), ..Body::default() }, out),
            Delta::Thinking(text) => self.body(Body { reasoning_content: Some(&text), ..Body::default() }, out),
            Delta::ToolStart { call, id, name } => {
                let function = Function { name: Some(&name), arguments: "" };
                self.call(call, id.as_deref(), Some("function"), function, out);
            }
            Delta::ToolArguments { call, json } => {
                self.call(call, None, None, Function { name: None, arguments: &json }, out);
            }
            Delta::Usage(usage) => self.usage = Some(usage),
            // A finish reason is this wire's end (STREAM-1): it waits until the other wire's own end was seen.
            Delta::Finish { reason, .. } => self.finish = Some(reason),
            Delta::End => self.end(out),
            Delta::Signature(_) | Delta::RedactedThinking(_) | Delta::PartEnd | Delta::Lost(_) => {}
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let reason = self.finish.take().unwrap_or(Finish::Stop);
        let finish_reason = Some(finish_word(&reason));
        let choice = Choice { index: 0, delta: Body::default(), logprobs: (), finish_reason };
        self.chunk(&[choice], self.style.include_usage.then_some(Value::Null), out);
        if self.style.include_usage {
            let usage = usage::to_openai_chat(self.usage.unwrap_or_default());
            self.chunk(&[], Some(usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn call(
        &self,
        index: u32,
        id: Option<&str>,
        kind: Option<&'static str>,
        function: Function<'_>,
        out: &mut Vec<u8>,
    ) {
        let body = if !self.style.legacy_functions {
            Body { tool_calls: Some([ToolCall { index, id, kind, function }]), ..Body::default() }
        } else if index == 0 {
            Body { function_call: Some(function), ..Body::default() }
        } else {
            // The old spelling has room for one call; whoever translates notes the loss.
            return;
        };
        self.body(body, out);
    }

    fn body(&self, delta: Body<'_>, out: &mut Vec<u8>) {
        let choice = Choice { index: 0, delta, logprobs: (), finish_reason: None };
        self.chunk(&[choice], self.style.include_usage.then_some(Value::Null), out);
    }

    fn chunk(&self, choices: &[Choice<'_>], usage: Option<Value>, out: &mut Vec<u8>) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.style.created,
            model: &self.model,
            choices,
            usage,
        };
        crate::delta::write_event(None, &chunk, out);
    }
}
