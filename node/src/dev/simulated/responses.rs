//! OpenAI's Responses.

use serde_json::{Value, json};

use super::answer::{Answer, Content, End};
use super::ask::{self, Ask, Bad, Tool};
use super::reply::{CREATED, Event, named};

pub(super) fn read(body: &Value, id: String) -> Result<Ask, Bad> {
    let mut ask = Ask::read(body, id, &["max_output_tokens"])?;
    ask.heard = match body.get("input") {
        Some(Value::String(text)) => ask::heard(text),
        Some(Value::Array(_)) => heard(ask::messages(body, "input")?),
        _ => return Err(Bad::field("input", "'input' must be a string or a list of items")),
    };
    let tools: Vec<Tool<'_>> =
        body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(tool).collect();
    ask.form = match ask::call(&tools, &ask::forced(body.get("tool_choice")))? {
        Some(call) => call,
        None => ask::json_form(body.pointer("/text/format"), "/schema")?,
    };
    Ok(ask)
}

fn heard(items: &[Value]) -> String {
    let is_result = |item: &Value| item.get("type").is_some_and(|kind| kind == "function_call_output");
    let is_user = |item: &Value| item.get("role").is_some_and(|role| role == "user");
    let last = items.iter().rev().find(|item| is_result(item) || is_user(item));
    let text = |name: &str| last.and_then(|item| item.get(name)).map(ask::text_of).unwrap_or_default();
    if last.is_some_and(is_result) { ask::heard_tool(&text("output")) } else { ask::heard(&text("content")) }
}

fn tool(tool: &Value) -> Option<Tool<'_>> {
    let is_function = tool.get("type").is_some_and(|kind| kind == "function");
    let name = tool.get("name").and_then(Value::as_str).filter(|_| is_function)?;
    Some(Tool { name, parameters: tool.get("parameters").filter(|parameters| !parameters.is_null()) })
}

/// The response as it stands: `output` so far, and `answer` once it has ended.
fn response(body: &Value, ask: &Ask, output: &[Value], answer: Option<&Answer>) -> Value {
    let asked = |name: &str, usual: Value| body.get(name).cloned().unwrap_or(usual);
    let is_cut = answer.is_some_and(|answer| answer.end == End::Length);
    let usage = answer.map(|answer| {
        json!({"input_tokens": answer.tokens_in, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.tokens_out, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.total()})
    });
    json!({
        "id": format!("resp_{}", ask.id), "object": "response", "created_at": CREATED,
        "status": answer.map_or("in_progress", |_| status(is_cut)), "error": null,
        "incomplete_details": if is_cut { json!({"reason": "max_output_tokens"}) } else { Value::Null },
        "instructions": asked("instructions", Value::Null), "max_output_tokens": ask.tokens_out_max,
        "model": ask.model, "output": output,
        "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
        "previous_response_id": asked("previous_response_id", Value::Null),
        "reasoning": {"effort": null, "summary": null}, "store": false,
        "temperature": asked("temperature", json!(1.0)), "top_p": asked("top_p", json!(1.0)),
        "text": asked("text", json!({"format": {"type": "text"}})),
        "tool_choice": asked("tool_choice", json!("auto")), "tools": asked("tools", json!([])),
        "truncation": "disabled", "usage": usage, "user": asked("user", Value::Null),
        "metadata": asked("metadata", json!({}))
    })
}

fn status(is_cut: bool) -> &'static str {
    if is_cut { "incomplete" } else { "completed" }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn message(ask: &Ask, status: &str, content: &[Value]) -> Value {
    json!({"id": format!("msg_{}", ask.id), "type": "message", "status": status, "role": "assistant",
        "content": content})
}

fn call(ask: &Ask, status: &str, name: &str, arguments: &str) -> Value {
    json!({"id": format!("fc_{}", ask.id), "type": "function_call", "status": status,
        "call_id": format!("call_{}", ask.id), "name": name, "arguments": arguments})
}

/// The one item that the answer is.
fn item(ask: &Ask, answer: &Answer) -> Value {
    let status = status(answer.end == End::Length);
    match &answer.content {
        Content::Text(pieces) => message(ask, status, &[part(&pieces.concat())]),
        Content::Call { name, arguments } => call(ask, status, name, &arguments.concat()),
    }
}

pub(super) fn whole(body: &Value, ask: &Ask, answer: &Answer) -> Value {
    response(body, ask, &[item(ask, answer)], Some(answer))
}

pub(super) fn events(body: &Value, ask: &Ask, answer: &Answer) -> Vec<Event> {
    let mut events = Numbered(Vec::new());
    let begun = response(body, ask, &[], None);
    events.frame(json!({"type": "response.created", "response": begun}));
    events.frame(json!({"type": "response.in_progress", "response": begun}));
    let item = item(ask, answer);
    let id = item.get("id").cloned().unwrap_or_default();
    let added = match &answer.content {
        Content::Text(_) => message(ask, "in_progress", &[]),
        Content::Call { name, .. } => call(ask, "in_progress", name, ""),
    };
    events.frame(json!({"type": "response.output_item.added", "output_index": 0, "item": added}));
    let of_item = |kind: &str| json!({"type": kind, "item_id": id, "output_index": 0});
    let of_part = |kind: &str, member: &str, value: Value| {
        let mut event = of_item(kind);
        event["content_index"] = json!(0);
        event[member] = value;
        event
    };
    match &answer.content {
        Content::Text(pieces) => {
            events.frame(of_part("response.content_part.added", "part", part("")));
            for piece in pieces {
                let mut delta = of_part("response.output_text.delta", "delta", json!(piece));
                delta["logprobs"] = json!([]);
                events.piece(delta);
            }
            let text = pieces.concat();
            let mut done = of_part("response.output_text.done", "text", json!(text));
            done["logprobs"] = json!([]);
            events.frame(done);
            events.frame(of_part("response.content_part.done", "part", part(&text)));
        }
        Content::Call { name, arguments } => {
            for piece in arguments {
                let mut delta = of_item("response.function_call_arguments.delta");
                delta["delta"] = json!(piece);
                events.piece(delta);
            }
            let mut done = of_item("response.function_call_arguments.done");
            done["name"] = json!(name);
            done["arguments"] = json!(arguments.concat());
            events.frame(done);
        }
    }
    events.frame(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    let last = if answer.end == End::Length { "response.incomplete" } else { "response.completed" };
    events.frame(json!({"type": last, "response": response(body, ask, &[item], Some(answer))}));
    events.0
}

/// Events that carry their place in the stream, from 0 and without gaps.
struct Numbered(Vec<Event>);

impl Numbered {
    fn piece(&mut self, mut data: Value) {
        data["sequence_number"] = json!(self.0.len());
        self.0.push(named(&data));
    }

    fn frame(&mut self, mut data: Value) {
        data["sequence_number"] = json!(self.0.len());
        self.0.push(named(&data).frame());
    }
}
