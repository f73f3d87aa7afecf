//! The Responses half of the OpenAI wire.

use serde_json::{Value, json};

use super::answer::{Answer, Ask, Call, Content, Format, Stop, Tool, pieces};
use super::anthropic::event;
use super::faults::Event;
use super::openai::{CREATED, choice};

/// Fills in what a Responses request asks for.
pub(super) fn read(body: &Value, ask: &mut Ask) -> Result<(), String> {
    let input = body.get("input").filter(|input| input.is_string() || input.is_array());
    let input = input.ok_or("'input' must be text or a list of items")?;
    let last = input.as_array().and_then(|items| items.last()).and_then(|last| last.get("type"));
    ask.after_tool_result = last.is_some_and(|kind| kind == "function_call_output");
    ask.tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(tool).collect();
    ask.choice = choice(body.get("tool_choice"));
    ask.parallel = body.get("parallel_tool_calls") != Some(&Value::Bool(false));
    let limit = body.get("max_output_tokens").and_then(Value::as_u64);
    ask.max_tokens = limit.and_then(|limit| usize::try_from(limit).ok());
    ask.format = match body.pointer("/text/format/type").and_then(Value::as_str) {
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => {
            Format::JsonSchema(body.pointer("/text/format/schema").cloned().ok_or("'text.format.schema' is missing")?)
        }
        _ => Format::Text,
    };
    Ok(())
}

fn tool(tool: &Value) -> Option<Tool> {
    let name = tool.get("name").filter(|_| tool.get("type").is_some_and(|kind| kind == "function"))?;
    let parameters = tool.get("parameters").filter(|parameters| parameters.is_object()).cloned();
    Some(Tool { name: name.as_str()?.to_owned(), parameters: parameters.unwrap_or_else(|| json!({"type": "object"})) })
}

/// The response object with what has been made so far.
fn response(body: &Value, ask: &Ask, status: &str, output: Value, answer: Option<&Answer>) -> Value {
    let echoed = |name: &str, usual: Value| body.get(name).cloned().unwrap_or(usual);
    let used = answer.map(|answer| {
        let usage = answer.usage;
        let prompt = usage.prompt + usage.cached;
        json!({"input_tokens": prompt, "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.completion, "output_tokens_details": {"reasoning_tokens": usage.thought},
            "total_tokens": prompt + usage.completion})
    });
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    json!({
        "id": format!("resp_mock_{}", ask.serial), "object": "response", "created_at": CREATED, "status": status,
        "background": false, "error": null, "incomplete_details": incomplete,
        "instructions": echoed("instructions", Value::Null),
        "max_output_tokens": echoed("max_output_tokens", Value::Null), "model": ask.model, "output": output,
        "parallel_tool_calls": echoed("parallel_tool_calls", json!(true)),
        "previous_response_id": echoed("previous_response_id", Value::Null),
        "reasoning": echoed("reasoning", json!({"effort": null, "summary": null})),
        "service_tier": "default", "store": echoed("store", json!(true)),
        "temperature": echoed("temperature", json!(1.0)),
        "text": echoed("text", json!({"format": {"type": "text"}})),
        "tool_choice": echoed("tool_choice", json!("auto")), "tools": echoed("tools", json!([])),
        "top_p": echoed("top_p", json!(1.0)), "truncation": "disabled", "usage": used, "user": null,
        "metadata": echoed("metadata", json!({}))
    })
}

fn status_of(answer: &Answer) -> &'static str {
    match answer.stop {
        Stop::End | Stop::Calls => "completed",
        Stop::Length => "incomplete",
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn message(ask: &Ask, status: &str, content: Value) -> Value {
    json!({"type": "message", "id": format!("msg_mock_{}", ask.serial), "status": status, "role": "assistant",
        "content": content})
}

fn call_item(ask: &Ask, index: usize, call: &Call, status: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_mock_{}_{index}", ask.serial), "status": status,
        "call_id": format!("call_mock_{}_{index}", ask.serial), "name": call.name, "arguments": arguments})
}

fn thought_item(ask: &Ask, summary: Value) -> Value {
    json!({"type": "reasoning", "id": format!("rs_mock_{}", ask.serial), "summary": summary})
}

fn summary_part(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn items(ask: &Ask, answer: &Answer) -> Vec<Value> {
    let mut items = Vec::new();
    if !answer.thought.is_empty() {
        items.push(thought_item(ask, json!([summary_part(&answer.thought.concat())])));
    }
    match &answer.content {
        Content::Text(_) => items.push(message(ask, status_of(answer), json!([text_part(&answer.text())]))),
        Content::Calls(calls) => items.extend(
            calls.iter().enumerate().map(|(index, call)| call_item(ask, index, call, "completed", &call.arguments)),
        ),
    }
    items
}

pub(super) fn whole(body: &Value, ask: &Ask, answer: &Answer) -> Value {
    response(body, ask, status_of(answer), Value::Array(items(ask, answer)), Some(answer))
}

pub(super) fn events(body: &Value, ask: &Ask, answer: &Answer) -> Vec<Event> {
    let mut events = Events { all: Vec::new() };
    let begun = response(body, ask, "in_progress", json!([]), None);
    events.frame("response.created", json!({"response": begun}));
    events.frame("response.in_progress", json!({"response": begun}));
    let items = items(ask, answer);
    let mut at = 0;
    if !answer.thought.is_empty() {
        thought(&mut events, ask, answer, &items[at]);
        at += 1;
    }
    match &answer.content {
        Content::Text(pieces) => text(&mut events, ask, at, pieces, &items[at]),
        Content::Calls(calls) => {
            for (index, call) in calls.iter().enumerate() {
                function_call(&mut events, ask, (at + index, index), call, &items[at + index]);
            }
        }
    }
    let status = status_of(answer);
    let done = response(body, ask, status, Value::Array(items), Some(answer));
    events.frame(&format!("response.{status}"), json!({"response": done}));
    events.all
}

fn thought(events: &mut Events, ask: &Ask, answer: &Answer, done: &Value) {
    let open = thought_item(ask, json!([]));
    let id = open["id"].clone();
    events.frame("response.output_item.added", json!({"output_index": 0, "item": open}));
    let place = |more: Value| joined(json!({"item_id": id, "output_index": 0, "summary_index": 0}), more);
    events.frame("response.reasoning_summary_part.added", place(json!({"part": summary_part("")})));
    for piece in &answer.thought {
        events.content("response.reasoning_summary_text.delta", place(json!({"delta": piece})));
    }
    let all = answer.thought.concat();
    events.frame("response.reasoning_summary_text.done", place(json!({"text": all})));
    events.frame("response.reasoning_summary_part.done", place(json!({"part": summary_part(&all)})));
    events.frame("response.output_item.done", json!({"output_index": 0, "item": done}));
}

fn text(events: &mut Events, ask: &Ask, at: usize, pieces: &[String], done: &Value) {
    let open = message(ask, "in_progress", json!([]));
    let id = open["id"].clone();
    events.frame("response.output_item.added", json!({"output_index": at, "item": open}));
    let place = |more: Value| joined(json!({"item_id": id, "output_index": at, "content_index": 0}), more);
    events.frame("response.content_part.added", place(json!({"part": text_part("")})));
    for piece in pieces {
        events.content("response.output_text.delta", place(json!({"delta": piece, "logprobs": []})));
    }
    let all = pieces.concat();
    events.frame("response.output_text.done", place(json!({"text": all, "logprobs": []})));
    events.frame("response.content_part.done", place(json!({"part": text_part(&all)})));
    events.frame("response.output_item.done", json!({"output_index": at, "item": done}));
}

fn function_call(events: &mut Events, ask: &Ask, (at, index): (usize, usize), call: &Call, done: &Value) {
    let open = call_item(ask, index, call, "in_progress", "");
    let id = open["id"].clone();
    events.frame("response.output_item.added", json!({"output_index": at, "item": open}));
    let place = |more: Value| joined(json!({"item_id": id, "output_index": at}), more);
    for piece in pieces(&call.arguments) {
        events.content("response.function_call_arguments.delta", place(json!({"delta": piece})));
    }
    let all = json!({"name": call.name, "arguments": call.arguments});
    events.frame("response.function_call_arguments.done", place(all));
    events.frame("response.output_item.done", json!({"output_index": at, "item": done}));
}

fn joined(mut fields: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

pub(super) fn in_band_error() -> String {
    let message = "the mock breaks this stream as it was told to";
    let error = json!({"type": "error", "code": "server_error", "message": message, "param": null,
        "sequence_number": 0});
    event("error", &error)
}

/// Events so far; their number is the next `sequence_number`.
struct Events {
    all: Vec<Event>,
}

impl Events {
    fn frame(&mut self, name: &str, fields: Value) {
        let head = json!({"type": name, "sequence_number": self.all.len()});
        self.all.push(Event::frame(event(name, &joined(head, fields))));
    }

    fn content(&mut self, name: &str, fields: Value) {
        self.frame(name, fields);
        if let Some(last) = self.all.last_mut() {
            last.is_content = true;
        }
    }
}
