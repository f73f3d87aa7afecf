//! Chat and completions chunks of a further leg.

use serde_json::{Map, Value};

use super::Heard;
use super::stitch::{Leg, StitchError};
use crate::Operation;

/// The members of a delta that are thoughts. The client is past those: it reads text.
const THOUGHTS: [&str; 4] = ["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"];

/// The members of a delta that are content and no text.
const CONTENT: [&str; 5] = ["tool_calls", "function_call", "refusal", "audio", "images"];

/// One chunk of the leg as one of the stream; nothing where nothing is left of it.
pub(super) fn rewrite(
    mut chunk: Map<String, Value>,
    heard: &mut Heard,
    leg: &mut Leg,
) -> Result<Option<Map<String, Value>>, StitchError> {
    let own = [
        ("id", heard.id.clone().map(Value::from)),
        ("model", heard.model.clone().map(Value::from)),
        ("created", heard.created.map(Value::from)),
    ];
    for (name, value) in own {
        if let (Some(value), true) = (value, chunk.contains_key(name)) {
            chunk.insert(name.to_owned(), value);
        }
    }
    let mut is_something = false;
    if let Some(Value::Array(choices)) = chunk.get_mut("choices") {
        for choice in choices {
            let choice = choice.as_object_mut().ok_or(StitchError::Unreadable)?;
            is_something |= if heard.op == Operation::Completions {
                completion(choice, heard, leg)?
            } else {
                message(choice, heard, leg)?
            };
        }
    }
    if let Some(Value::Object(usage)) = chunk.get_mut("usage") {
        heard.tally.rewrite(heard.op, usage);
        is_something = true;
    }
    Ok(is_something.then_some(chunk))
}

/// Rewrites a choice of a chat chunk, and says whether anything is left of it.
fn message(choice: &mut Map<String, Value>, heard: &Heard, leg: &mut Leg) -> Result<bool, StitchError> {
    let ends = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
    let mut nothing = Map::new();
    let delta = choice.get_mut("delta").and_then(Value::as_object_mut).unwrap_or(&mut nothing);
    if heard.has_role {
        delta.shift_remove("role");
    }
    for name in THOUGHTS {
        delta.shift_remove(name);
    }
    let content = match delta.shift_remove("content") {
        Some(Value::String(content)) => content,
        Some(Value::Null) | None => String::new(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(StitchError::Unreadable);
        }
    };
    delta.retain(|_, value| says(value));
    let mut text = leg.joint.push(&heard.text, &content)?;
    if ends || CONTENT.iter().any(|name| delta.contains_key(*name)) {
        // All else comes behind the text.
        text += &leg.joint.close(&heard.text)?;
    }
    if !text.is_empty() {
        delta.shift_insert(0, "content".to_owned(), text.into());
    }
    Ok(ends || !delta.is_empty())
}

fn completion(choice: &mut Map<String, Value>, heard: &Heard, leg: &mut Leg) -> Result<bool, StitchError> {
    let ends = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
    let more = choice.get("text").and_then(Value::as_str).unwrap_or_default();
    let mut text = leg.joint.push(&heard.text, more)?;
    if ends {
        text += &leg.joint.close(&heard.text)?;
    }
    let is_something = ends || !text.is_empty();
    choice.insert("text".to_owned(), text.into());
    Ok(is_something)
}

fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
