//! The Anthropic wire: messages, count_tokens, models, errors.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Ask, Call, Choice, Content, Format, Stop, Tool, Usage, pieces};
use super::faults::Event;
use super::openai::MODELS;
use super::resume::said;

/// What a client must hand back with a thought; any opaque text will do.
const SIGNATURE: &str = "bW9jay1zaWduYXR1cmU=";

pub(super) fn error(status: StatusCode, message: &str, request_id: &str) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
}

pub(super) fn in_band_error() -> String {
    let error = json!({"type": "overloaded_error", "message": "the mock breaks this stream as it was told to"});
    event("error", &json!({"type": "error", "error": error}))
}

/// Frames one event of a wire whose events have names.
pub(super) fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

/// Fills in what a messages request asks for.
pub(super) fn read(body: &Value, ask: &mut Ask) -> Result<(), String> {
    let limit = body.get("max_tokens").and_then(Value::as_u64).filter(|limit| *limit > 0);
    ask.max_tokens = usize::try_from(limit.ok_or("max_tokens: Field required")?).ok();
    let messages = body.get("messages").and_then(Value::as_array).filter(|all| !all.is_empty());
    let messages = messages.ok_or("messages: at least one message is required")?;
    let last = messages.last().and_then(|last| last.get("content")).and_then(Value::as_array);
    let is_result = |block: &Value| block.get("type").is_some_and(|kind| kind == "tool_result");
    ask.after_tool_result = last.is_some_and(|blocks| blocks.iter().any(is_result));
    ask.said = body.get("messages").and_then(said);
    if messages.last().and_then(|last| last.get("role")).is_some_and(|role| role == "assistant") {
        // As the vendor does: newer models take no unfinished message at all, and none may end in a space.
        if ask.knobs.no_prefill {
            return Err("This model does not support assistant message prefill. \
                        The conversation must end with a user message."
                .to_owned());
        }
        if ask.said.as_ref().is_some_and(|said| said.text.ends_with(char::is_whitespace)) {
            return Err("messages: final assistant content cannot end with trailing whitespace".to_owned());
        }
    }
    ask.tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(tool).collect();
    let choice = body.get("tool_choice");
    ask.parallel = choice.and_then(|choice| choice.get("disable_parallel_tool_use")) != Some(&Value::Bool(true));
    ask.choice = match choice.and_then(|choice| choice.get("type")).and_then(Value::as_str) {
        Some("none") => Choice::None,
        Some("any") => Choice::Any,
        Some("tool") => {
            let name = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
            Choice::Named(name.ok_or("tool_choice.name: Field required")?.to_owned())
        }
        _ => Choice::Auto,
    };
    let format = body.pointer("/output_config/format").or_else(|| body.get("output_format"));
    if let Some(format) = format.filter(|format| !format.is_null()) {
        let schema = format.get("schema").cloned();
        ask.format = Format::JsonSchema(schema.ok_or("output_config.format.schema: Field required")?);
    }
    Ok(())
}

fn tool(tool: &Value) -> Option<Tool> {
    // Tools the vendor runs itself have no schema and are never called by the mock.
    let parameters = tool.get("input_schema")?.clone();
    Some(Tool { name: tool.get("name")?.as_str()?.to_owned(), parameters })
}

fn usage(usage: Usage, completion: u64) -> Value {
    json!({
        "input_tokens": usage.prompt, "output_tokens": completion,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard"
    })
}

fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Calls => "tool_use",
    }
}

fn message(ask: &Ask, content: Value, stop: Option<&str>, used: Value) -> Value {
    json!({
        "id": format!("msg_mock_{}", ask.serial), "type": "message", "role": "assistant", "model": ask.model,
        "content": content, "stop_reason": stop, "stop_sequence": null, "usage": used
    })
}

fn tool_use(ask: &Ask, index: usize, call: &Call, input: Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_mock_{}_{index}", ask.serial), "name": call.name, "input": input})
}

pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let mut blocks = Vec::new();
    if !answer.thought.is_empty() {
        let thought = answer.thought.concat();
        blocks.push(json!({"type": "thinking", "thinking": thought, "signature": SIGNATURE}));
    }
    match &answer.content {
        Content::Text(_) => blocks.push(json!({"type": "text", "text": answer.text()})),
        Content::Calls(calls) => blocks.extend(calls.iter().enumerate().map(|(index, call)| {
            let input = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            tool_use(ask, index, call, input)
        })),
    }
    let stop = stop_reason(answer.stop);
    message(ask, Value::Array(blocks), Some(stop), usage(answer.usage, answer.usage.completion))
}

pub(super) fn events(ask: &Ask, answer: &Answer) -> Vec<Event> {
    let mut events = Events { all: Vec::new(), block: 0 };
    let start = message(ask, json!([]), None, usage(answer.usage, 1));
    events.frame("message_start", &json!({"type": "message_start", "message": start}));
    if !answer.thought.is_empty() {
        events.open(&json!({"type": "thinking", "thinking": "", "signature": ""}));
        // The vendor's own streams ping behind the first block's start.
        events.frame("ping", &json!({"type": "ping"}));
        for piece in &answer.thought {
            events.delta(&json!({"type": "thinking_delta", "thinking": piece}));
        }
        events.quiet_delta(&json!({"type": "signature_delta", "signature": SIGNATURE}));
        events.close();
    }
    match &answer.content {
        Content::Text(pieces) => {
            events.open(&json!({"type": "text", "text": ""}));
            if answer.thought.is_empty() {
                events.frame("ping", &json!({"type": "ping"}));
            }
            for piece in pieces {
                events.delta(&json!({"type": "text_delta", "text": piece}));
            }
            events.close();
        }
        Content::Calls(calls) => {
            for (index, call) in calls.iter().enumerate() {
                events.open(&tool_use(ask, index, call, json!({})));
                if index == 0 && answer.thought.is_empty() {
                    events.frame("ping", &json!({"type": "ping"}));
                }
                for piece in pieces(&call.arguments) {
                    events.delta(&json!({"type": "input_json_delta", "partial_json": piece}));
                }
                events.close();
            }
        }
    }
    let used = json!({"output_tokens": answer.usage.completion, "input_tokens": answer.usage.prompt,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": answer.usage.cached});
    let delta = json!({"stop_reason": stop_reason(answer.stop), "stop_sequence": null});
    events.frame("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": used}));
    events.frame("message_stop", &json!({"type": "message_stop"}));
    events.all
}

/// Events so far and the index of the open block.
struct Events {
    all: Vec<Event>,
    block: u64,
}

impl Events {
    fn frame(&mut self, name: &str, value: &Value) {
        self.all.push(Event::frame(event(name, value)));
    }

    fn open(&mut self, block: &Value) {
        let start = json!({"type": "content_block_start", "index": self.block, "content_block": block});
        self.frame("content_block_start", &start);
    }

    fn delta(&mut self, delta: &Value) {
        self.quiet_delta(delta);
        if let Some(last) = self.all.last_mut() {
            last.is_content = true;
        }
    }

    fn quiet_delta(&mut self, delta: &Value) {
        let value = json!({"type": "content_block_delta", "index": self.block, "delta": delta});
        self.frame("content_block_delta", &value);
    }

    fn close(&mut self) {
        self.frame("content_block_stop", &json!({"type": "content_block_stop", "index": self.block}));
        self.block += 1;
    }
}

pub(super) fn models() -> Value {
    let shown = MODELS.map(model);
    json!({"data": shown, "has_more": false, "first_id": MODELS.first(), "last_id": MODELS.last()})
}

pub(super) fn model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-10-09T08:53:20Z",
        "lifecycle": {"status": "active", "deprecated_at": null, "retires_at": null},
        "max_input_tokens": 200_000, "max_tokens": 64_000})
}
