//! The whole reply of a message.

use serde_json::Value;

use super::block;
use crate::Dialect;
use crate::call::Extra;
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
    let content = fields.list("content")?.ok_or_else(|| fields.missing("content"))?;
    let parts = block::decode_list(content, path.key("content"))?;
    let finish = fields.text("stop_reason")?.map(finish_from);
    let stop_sequence = fields.text("stop_sequence")?;
    let usage_wire = fields.take("usage");
    let (id, model) = (fields.text("id")?, fields.text("model")?);
    for (key, constant) in [("type", "message"), ("role", "assistant")] {
        if fields.peek(key).is_some_and(|value| value == constant) {
            fields.take(key);
        }
    }
    let output = Output { index: 0, parts, finish, stop_sequence, extra: Extra::new(), message_extra: Extra::new() };
    Ok(Reply {
        dialect: Dialect::Anthropic,
        id,
        model,
        created: None,
        outputs: vec![output],
        usage: usage_wire.as_ref().and_then(usage::from_anthropic),
        usage_wire,
        extra: fields.rest(),
    })
}

/// Writes a reply: its first output, the only one this wire has.
pub fn encode(reply: Reply) -> Value {
    let output = reply.outputs.into_iter().next();
    let (parts, finish, stop_sequence) =
        output.map_or_else(Default::default, |output| (output.parts, output.finish, output.stop_sequence));
    let usage = reply.usage_wire.or_else(|| reply.usage.map(usage::to_anthropic));
    Object::default()
        .with_some("id", reply.id)
        .with("type", "message")
        .with("role", "assistant")
        .with_some("model", reply.model)
        .with("content", block::encode_list(parts))
        .with("stop_reason", finish.map(|finish| finish_word(&finish).to_owned()))
        .with("stop_sequence", stop_sequence)
        .with_some("usage", usage)
        .extra(reply.extra)
        .build()
}

/// Reads a `stop_reason`.
pub(crate) fn finish_from(word: String) -> Finish {
    match word.as_str() {
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence,
        "max_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::ContextFull,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Filtered,
        "pause_turn" => Finish::Paused,
        _ => Finish::Other(word),
    }
}

/// Writes a `stop_reason`.
pub(crate) fn finish_word(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ContextFull => "model_context_window_exceeded",
        Finish::ToolCalls | Finish::FunctionCall => "tool_use",
        Finish::Filtered => "refusal",
        Finish::Paused => "pause_turn",
        Finish::Other(word) => word,
    }
}
