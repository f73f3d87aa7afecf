//! The whole reply of a chat completion.

use serde_json::Value;

use super::request::decode_thinking;
use super::tools;
use crate::Dialect;
use crate::call::{Extra, Part, Text};
use crate::fields::{FieldError, Fields, Object, Path};
use crate::reply::{Finish, Output, Reply};
use crate::usage;

/// Reads a reply.
///
/// # Errors
/// [`FieldError`] naming the first member that is missing or of the wrong type.
pub fn decode(body: Value) -> Result<Reply, FieldError> {
    let mut fields = Fields::new(body, Path::ROOT)?;
    let path = fields.path;
    let choices = fields.list("choices")?.ok_or_else(|| fields.missing("choices"))?;
    let choices_path = path.key("choices");
    let outputs = choices
        .into_iter()
        .enumerate()
        .map(|(at, choice)| decode_choice(choice, at, choices_path.index(at)))
        .collect::<Result<_, _>>()?;
    let usage_wire = fields.take("usage");
    let (id, model) = (fields.text("id")?, fields.text("model")?);
    if fields.peek("object").is_some_and(|object| object == "chat.completion") {
        fields.take("object");
    }
    // A creation time that is no whole number stays where it was: nothing depends on it.
    let created = fields.peek("created").and_then(Value::as_u64);
    if created.is_some() {
        fields.take("created");
    }
    Ok(Reply {
        dialect: Dialect::OpenAi,
        id,
        model,
        created,
        outputs,
        usage: usage_wire.as_ref().and_then(usage::from_openai_chat),
        usage_wire,
        extra: fields.rest(),
    })
}

/// Writes a reply.
pub fn encode(reply: Reply) -> Value {
    let choices: Vec<Value> = reply.outputs.into_iter().map(encode_choice).collect();
    let usage = reply.usage_wire.or_else(|| reply.usage.map(usage::to_openai_chat));
    Object::default()
        .with_some("id", reply.id)
        .with("object", "chat.completion")
        .with_some("created", reply.created)
        .with_some("model", reply.model)
        .with("choices", choices)
        .with_some("usage", usage)
        .extra(reply.extra)
        .build()
}

fn decode_choice(value: Value, at: usize, path: Path<'_>) -> Result<Output, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let index = fields.count("index")?.or_else(|| u64::try_from(at).ok()).unwrap_or_default();
    let message = fields.take("message").ok_or_else(|| fields.missing("message"))?;
    let finish = fields.text("finish_reason")?.map(finish_from);

    let mut message = Fields::new(message, path.key("message"))?;
    if message.peek("role").is_some_and(|role| role == "assistant") {
        message.take("role");
    }
    let mut parts = Vec::new();
    parts.extend(decode_thinking(&mut message)?.map(Part::Thinking));
    if message.peek("content").is_some_and(Value::is_string) {
        parts.extend(message.text("content")?.map(Part::text));
    }
    if let Some(text) = message.text("refusal")? {
        parts.push(Part::Refusal(Text { text, extra: Extra::new() }));
    }
    tools::decode_calls(&mut message, &mut parts)?;
    let message_extra = message.rest();
    Ok(Output { index, parts, finish, stop_sequence: None, extra: fields.rest(), message_extra })
}

fn encode_choice(output: Output) -> Value {
    let mut message = Object::default().with("role", "assistant");
    let mut calls = tools::Calls::default();
    for part in output.parts {
        match part {
            Part::Text(text) => message = message.with("content", text.text),
            Part::Refusal(text) => message = message.with("refusal", text.text),
            Part::Thinking(thinking) => {
                let key = if thinking.extra.contains_key("reasoning") { "reasoning" } else { "reasoning_content" };
                message = message.with(key, thinking.text);
            }
            Part::ToolCall(call) => calls.push(call),
            Part::Other(value) => calls.push_other(value),
            // No part of OpenAI's reply; translations have taken them out.
            Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::RedactedThinking(_) | Part::ToolResult(_) => {}
        }
    }
    let message = calls.write(message).extra(output.message_extra);
    Object::default()
        .with("index", output.index)
        .with("message", message.build())
        .with_some("finish_reason", output.finish.map(|finish| finish_word(&finish).to_owned()))
        .extra(output.extra)
        .build()
}

/// Reads a `finish_reason`.
pub(crate) fn finish_from(word: String) -> Finish {
    match word.as_str() {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" => Finish::ToolCalls,
        "function_call" => Finish::FunctionCall,
        "content_filter" => Finish::Filtered,
        _ => Finish::Other(word),
    }
}

/// Writes a `finish_reason`; reasons OpenAI has no word for become the nearest one.
pub(crate) fn finish_word(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::StopSequence | Finish::Paused => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::FunctionCall => "function_call",
        Finish::Filtered => "content_filter",
        Finish::Other(word) => word,
    }
}
