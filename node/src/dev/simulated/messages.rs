//! Anthropic's messages and their token count.

use serde_json::{Value, json};
use troupe_dialect::{Operation, sse};

use super::answer::{Answer, Content, End};
use super::ask::{self, Ask, Bad, Forced, Tool};
use super::reply::{Event, named};

pub(super) fn read(body: &Value, id: String) -> Result<Ask, Bad> {
    let mut ask = Ask::read(body, id, &["max_tokens"])?;
    if ask.tokens_out_max.is_none() {
        return Err(Bad::field("max_tokens", "max_tokens: Field required"));
    }
    ask.heard = heard(ask::messages(body, "messages")?);
    let tools: Vec<Tool<'_>> =
        body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(tool).collect();
    let choice = body.get("tool_choice");
    let forced = match choice.and_then(|choice| choice.get("type")).and_then(Value::as_str) {
        Some("any") => Forced::Any,
        Some("tool") => choice.and_then(|choice| choice.get("name")?.as_str()).map_or(Forced::Any, Forced::Named),
        _ => Forced::None,
    };
    ask.form = match ask::call(&tools, &forced)? {
        Some(call) => call,
        None => ask::json_form(body.pointer("/output_config/format"), "/schema")?,
    };
    Ok(ask)
}

fn heard(messages: &[Value]) -> String {
    let last = messages.iter().rev().find(|message| message.get("role").is_some_and(|role| role == "user"));
    let content = last.and_then(|message| message.get("content")).unwrap_or(&Value::Null);
    let said = ask::text_of(content);
    let is_result = |block: &&Value| block.get("type").is_some_and(|kind| kind == "tool_result");
    let result = content.as_array().and_then(|blocks| blocks.iter().find(is_result));
    match result {
        Some(result) if said.is_empty() => {
            ask::heard_tool(&result.get("content").map(ask::text_of).unwrap_or_default())
        }
        _ => ask::heard(&said),
    }
}

fn tool(tool: &Value) -> Option<Tool<'_>> {
    // A tool without a schema is one of the vendor's own, which runs there.
    Some(Tool { name: tool.get("name")?.as_str()?, parameters: Some(tool.get("input_schema")?) })
}

/// The reply to `count_tokens`, which is what the same conversation would cost.
///
/// # Errors
/// When there are no messages or no model.
pub(super) fn count(body: &Value) -> Result<Value, Bad> {
    ask::messages(body, "messages")?;
    let ask = Ask::read(body, String::new(), &[])?;
    Ok(json!({"input_tokens": ask.tokens_in}))
}

fn message(ask: &Ask, answer: &Answer, content: &[Value], reason: Option<&str>, tokens_out: u64) -> Value {
    json!({
        "id": format!("msg_{}", ask.id), "type": "message", "role": "assistant", "model": ask.model,
        "content": content, "stop_reason": reason, "stop_sequence": null,
        "usage": {"input_tokens": answer.tokens_in, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": tokens_out, "service_tier": "standard"}
    })
}

fn stop_reason(end: End) -> &'static str {
    match end {
        End::Stop => "end_turn",
        End::Length => "max_tokens",
        End::Call => "tool_use",
    }
}

fn block(ask: &Ask, content: &Content) -> Value {
    match content {
        Content::Text(pieces) => json!({"type": "text", "text": pieces.concat()}),
        Content::Call { name, arguments } => {
            // The pieces are those of an object that was filled in here.
            let input: Value = serde_json::from_str(&arguments.concat()).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": format!("toolu_{}", ask.id), "name": name, "input": input})
        }
    }
}

pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let content = block(ask, &answer.content);
    message(ask, answer, &[content], Some(stop_reason(answer.end)), answer.tokens_out)
}

pub(super) fn events(ask: &Ask, answer: &Answer) -> Vec<Event> {
    let frame = |data: Value| named(&data).frame();
    let mut opened = block(ask, &answer.content);
    let (kind, member, pieces) = match &answer.content {
        Content::Text(pieces) => {
            opened["text"] = json!("");
            ("text_delta", "text", pieces)
        }
        Content::Call { arguments, .. } => {
            opened["input"] = json!({});
            ("input_json_delta", "partial_json", arguments)
        }
    };
    let mut events = vec![
        frame(json!({"type": "message_start", "message": message(ask, answer, &[], None, 0)})),
        frame(json!({"type": "content_block_start", "index": 0, "content_block": opened})),
        Event::fixed(sse::keep_alive(Operation::Messages)),
    ];
    for piece in pieces {
        let mut delta = json!({"type": kind});
        delta[member] = json!(piece);
        events.push(named(&json!({"type": "content_block_delta", "index": 0, "delta": delta})));
    }
    events.push(frame(json!({"type": "content_block_stop", "index": 0})));
    let delta = json!({"stop_reason": stop_reason(answer.end), "stop_sequence": null});
    let usage = json!({"output_tokens": answer.tokens_out});
    events.push(frame(json!({"type": "message_delta", "delta": delta, "usage": usage})));
    events.push(frame(json!({"type": "message_stop"})));
    events
}
