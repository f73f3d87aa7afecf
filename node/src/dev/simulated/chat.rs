//! OpenAI's chat completions.

use serde_json::{Value, json};
use troupe_dialect::{Operation, sse};

use super::answer::{Answer, Content, End};
use super::ask::{self, Ask, Bad, Tool};
use super::reply::{CREATED, Event, event};

/// Most choices of one reply.
const CHOICES_MAX: u64 = 8;

/// A chat request, with what only this wire has.
pub(super) struct Chat {
    pub(super) ask: Ask,
    choices: u64,
    usage: Usage,
}

/// Whether a stream ends with a chunk that holds the usage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Hidden,
    Included,
}

pub(super) fn read(body: &Value, id: String) -> Result<Chat, Bad> {
    let mut ask = Ask::read(body, id, &["max_completion_tokens", "max_tokens"])?;
    let messages = ask::messages(body, "messages")?;
    let is = |message: &Value, role: &str| message.get("role").is_some_and(|found| found == role);
    let spoken = messages.iter().rev().find(|message| is(message, "user") || is(message, "tool"));
    let text = spoken.and_then(|message| message.get("content")).map(ask::text_of).unwrap_or_default();
    let is_tool = spoken.is_some_and(|message| is(message, "tool"));
    ask.heard = if is_tool { ask::heard_tool(&text) } else { ask::heard(&text) };
    let tools: Vec<Tool<'_>> =
        body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(tool).collect();
    ask.form = match ask::call(&tools, &ask::forced(body.get("tool_choice")))? {
        Some(call) => call,
        None => ask::json_form(body.get("response_format"), "/json_schema/schema")?,
    };
    let choices = match body.get("n") {
        None | Some(Value::Null) => 1,
        Some(n) => n
            .as_u64()
            .filter(|n| (1..=CHOICES_MAX).contains(n))
            .ok_or_else(|| Bad::field("n", format!("'n' must be a whole number from 1 to {CHOICES_MAX}")))?,
    };
    Ok(Chat { ask, choices, usage: usage_wanted(body) })
}

fn tool(tool: &Value) -> Option<Tool<'_>> {
    let function = tool.get("function")?;
    Some(Tool { name: function.get("name")?.as_str()?, parameters: function.get("parameters") })
}

pub(super) fn usage_wanted(body: &Value) -> Usage {
    let is_wanted = body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    if is_wanted { Usage::Included } else { Usage::Hidden }
}

impl Chat {
    fn tokens_out(&self, answer: &Answer) -> u64 {
        answer.tokens_out.saturating_mul(self.choices)
    }

    pub(super) fn whole(&self, answer: &Answer) -> Value {
        let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
        match &answer.content {
            Content::Text(pieces) => message["content"] = json!(pieces.concat()),
            Content::Call { name, arguments } => {
                let function = json!({"name": name, "arguments": arguments.concat()});
                message["tool_calls"] = json!([{"id": self.call_id(0), "type": "function", "function": function}]);
            }
        }
        let choice = |index: u64| {
            let mut message = message.clone();
            if let Some(id) = message.pointer_mut("/tool_calls/0/id") {
                *id = json!(self.call_id(index));
            }
            json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish(answer.end)})
        };
        json!({
            "id": format!("chatcmpl-{}", self.ask.id), "object": "chat.completion", "created": CREATED,
            "model": self.ask.model, "choices": (0..self.choices).map(choice).collect::<Vec<_>>(),
            "usage": usage(answer.tokens_in, self.tokens_out(answer)),
            "service_tier": "default", "system_fingerprint": "fp_sim"
        })
    }

    fn call_id(&self, index: u64) -> String {
        format!("call_{}_{index}", self.ask.id)
    }

    pub(super) fn events(&self, answer: &Answer) -> Vec<Event> {
        let mut events = Vec::new();
        for index in 0..self.choices {
            events.push(self.delta(index, json!({"role": "assistant", "content": "", "refusal": null}), None).frame());
        }
        match &answer.content {
            Content::Text(pieces) => {
                for piece in pieces {
                    events.extend((0..self.choices).map(|index| self.delta(index, json!({"content": piece}), None)));
                }
            }
            Content::Call { name, arguments } => {
                for index in 0..self.choices {
                    let function = json!({"name": name, "arguments": ""});
                    let call = json!({"index": 0, "id": self.call_id(index), "type": "function", "function": function});
                    events.push(self.delta(index, json!({"tool_calls": [call]}), None));
                }
                for piece in arguments {
                    let part = json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
                    events.extend((0..self.choices).map(|index| self.delta(index, part.clone(), None)));
                }
            }
        }
        let end = |index| self.delta(index, json!({}), Some(finish(answer.end))).frame();
        events.extend((0..self.choices).map(end));
        if self.usage == Usage::Included {
            let used = usage(answer.tokens_in, self.tokens_out(answer));
            events.push(self.chunk(json!([]), used).frame());
        }
        events.push(done(Operation::Chat));
        events
    }

    fn delta(&self, index: u64, delta: Value, reason: Option<&str>) -> Event {
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": reason});
        self.chunk(json!([choice]), Value::Null)
    }

    fn chunk(&self, choices: Value, used: Value) -> Event {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.ask.id), "object": "chat.completion.chunk", "created": CREATED,
            "model": self.ask.model, "service_tier": "default", "system_fingerprint": "fp_sim", "choices": choices
        });
        if self.usage == Usage::Included {
            chunk["usage"] = used;
        }
        event(None, &chunk)
    }
}

pub(super) fn done(op: Operation) -> Event {
    Event::fixed(sse::done(op).unwrap_or_default())
}

pub(super) fn finish(end: End) -> &'static str {
    match end {
        End::Stop => "stop",
        End::Length => "length",
        End::Call => "tool_calls",
    }
}

pub(super) fn usage(tokens_in: u64, tokens_out: u64) -> Value {
    json!({
        "prompt_tokens": tokens_in, "completion_tokens": tokens_out,
        "total_tokens": tokens_in.saturating_add(tokens_out),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    })
}
