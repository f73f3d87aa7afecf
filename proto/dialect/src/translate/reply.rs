//! Translates whole replies.

use serde_json::{Value, json};
use troupe_proto::outcome::Usage;

use super::shaping::PARAGRAPH;
use super::{Context, TranslateError, UpstreamError, ids, to_bytes};
use crate::call::{Arguments, Extra, Part, Thinking, ToolCall};
use crate::loss::{Loss, Losses};
use crate::reply::{Finish, Output, Reply as Canonical};
use crate::{Dialect, anthropic, openai};

/// A translated reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body to send.
    pub body: Vec<u8>,
    /// Token counts, if the provider reported any.
    pub usage: Option<Usage>,
    /// What the reply lost.
    pub lost: Vec<Loss>,
    /// Why it ended.
    pub finish: Option<Finish>,
}

/// Translates a whole reply.
///
/// The id and the model stay as the provider names them.
///
/// # Errors
/// [`TranslateError::InvalidReply`] when the body is no reply of the provider's wire, [`TranslateError::Upstream`] when
/// it is an error.
pub fn reply(context: &Context, body: &[u8]) -> Result<Reply, TranslateError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| TranslateError::InvalidReply { problem: format!("not JSON: {error}") })?;
    if let Some(error) = upstream_error(context.upstream, &body) {
        return Err(TranslateError::Upstream(error));
    }
    let decoded = match context.upstream {
        Dialect::Anthropic => anthropic::reply::decode(body),
        Dialect::OpenAi => openai::chat::reply::decode(body),
    };
    let decoded = decoded.map_err(|error| TranslateError::InvalidReply { problem: error.to_string() })?;
    let usage = decoded.usage;
    let mut lost = Losses::default();
    let (shaped, body) = match context.client.dialect() {
        Dialect::OpenAi => {
            let shaped = for_openai(decoded, context, &mut lost)?;
            (finish_of(&shaped), openai::chat::reply::encode(shaped))
        }
        Dialect::Anthropic => {
            let shaped = for_anthropic(decoded, context, &mut lost)?;
            (finish_of(&shaped), anthropic::reply::encode(shaped))
        }
    };
    Ok(Reply { body: to_bytes(&body), usage, lost: lost.into_vec(), finish: shaped })
}

fn finish_of(reply: &Canonical) -> Option<Finish> {
    reply.outputs.first().and_then(|output| output.finish.clone())
}

fn upstream_error(upstream: Dialect, body: &Value) -> Option<UpstreamError> {
    match upstream {
        Dialect::Anthropic => anthropic::error::decode(body).map(|error| UpstreamError {
            kind: error.kind,
            code: None,
            message: error.message,
        }),
        // A reply may carry `error: null`; a flat `message` is an error only where there are no choices.
        Dialect::OpenAi if body.get("choices").is_some() => None,
        Dialect::OpenAi => openai::error::decode(body).map(|error| UpstreamError {
            kind: error.kind,
            code: error.code,
            message: error.message,
        }),
    }
}

fn first_output(reply: &mut Canonical, lost: &mut Losses) -> Result<Output, TranslateError> {
    let mut outputs = std::mem::take(&mut reply.outputs).into_iter();
    let first = outputs.next().ok_or_else(|| TranslateError::InvalidReply { problem: "no choice".to_owned() })?;
    if outputs.next().is_some() {
        lost.dropped("choices");
    }
    Ok(first)
}

fn for_openai(mut reply: Canonical, context: &Context, lost: &mut Losses) -> Result<Canonical, TranslateError> {
    let output = first_output(&mut reply, lost)?;
    let (mut text, mut thought) = (None::<String>, None::<String>);
    let mut calls = Vec::new();
    let mut behind_call = false;
    for part in output.parts {
        match part {
            Part::Text(part) | Part::Refusal(part) => {
                lost.extra("content", &part.extra);
                if behind_call && !part.text.is_empty() {
                    behind_call = false;
                    lost.changed("content.text");
                    if text.as_ref().is_some_and(|text| !text.is_empty()) {
                        text.get_or_insert_default().push_str(PARAGRAPH);
                    }
                }
                text.get_or_insert_default().push_str(&part.text);
            }
            Part::Thinking(part) => {
                if part.signature.is_some_and(|signature| !signature.is_empty()) {
                    lost.dropped("content.signature");
                }
                thought.get_or_insert_default().push_str(&part.text);
            }
            Part::ToolCall(call) => {
                lost.extra("content", &call.extra);
                calls.push(call_for_openai(call, context));
                behind_call = true;
            }
            Part::RedactedThinking(_) => lost.dropped("content.redacted_thinking"),
            Part::Image(_) => lost.dropped("content.image"),
            Part::File(_) => lost.dropped("content.document"),
            Part::Audio(_) => lost.dropped("content.audio"),
            Part::ToolResult(_) => lost.dropped("content.tool_result"),
            Part::Other(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
                lost.extra("content", &Extra::from_iter([(kind.to_owned(), true.into())]));
            }
        }
    }
    if context.legacy_functions && calls.len() > 1 {
        calls.truncate(1);
        lost.dropped("content.tool_use");
    }
    let finish = output.finish.map(|finish| finish_for_openai(finish, context, lost)).unwrap_or(Finish::Stop);
    if output.stop_sequence.is_some() {
        lost.dropped("stop_sequence");
    }
    lost.extra("", &reply.extra);

    let mut parts = Vec::new();
    let mut message_extra = Extra::new();
    parts.extend(thought.map(|text| Part::Thinking(Thinking { text, signature: None, extra: Extra::new() })));
    match text {
        Some(text) => parts.push(Part::text(text)),
        None => {
            message_extra.insert("content".to_owned(), Value::Null);
        }
    }
    message_extra.insert("refusal".to_owned(), Value::Null);
    parts.extend(calls.into_iter().map(Part::ToolCall));
    let extra = Extra::from_iter([("logprobs".to_owned(), Value::Null)]);
    reply.outputs = vec![Output { index: 0, parts, finish: Some(finish), stop_sequence: None, extra, message_extra }];
    reply.dialect = Dialect::OpenAi;
    reply.created = Some(context.created);
    reply.model.get_or_insert_with(|| context.model.clone());
    reply.usage_wire = None;
    reply.extra = Extra::new();
    Ok(reply)
}

fn call_for_openai(call: ToolCall, context: &Context) -> ToolCall {
    let arguments = match call.arguments {
        Arguments::Json(value) => Arguments::Text(value.to_string()),
        Arguments::Text(text) => Arguments::Text(text),
    };
    let id = if context.legacy_functions { None } else { call.id };
    ToolCall { id, name: context.tool_name(call.name), arguments, extra: Extra::new() }
}

/// The reason in the words an OpenAI client reads.
pub(super) fn finish_for_openai(finish: Finish, context: &Context, lost: &mut Losses) -> Finish {
    match finish {
        Finish::ToolCalls if context.legacy_functions => Finish::FunctionCall,
        Finish::Other(_) => {
            lost.changed("stop_reason");
            Finish::Stop
        }
        Finish::Paused | Finish::ContextFull => {
            lost.changed("stop_reason");
            finish
        }
        Finish::Stop
        | Finish::StopSequence
        | Finish::Length
        | Finish::ToolCalls
        | Finish::FunctionCall
        | Finish::Filtered => finish,
    }
}

fn for_anthropic(mut reply: Canonical, context: &Context, lost: &mut Losses) -> Result<Canonical, TranslateError> {
    let output = first_output(&mut reply, lost)?;
    lost.extra("choices", &output.extra);
    lost.extra("choices.message", &output.message_extra);
    lost.extra("", &reply.extra);
    let (mut parts, mut calls, mut refused) = (Vec::new(), 0_u32, false);
    for part in output.parts {
        match part {
            Part::Text(text) if text.text.is_empty() => {}
            Part::Text(text) => parts.push(Part::Text(text)),
            Part::Refusal(text) => {
                refused = true;
                parts.push(Part::text(text.text));
            }
            Part::Thinking(thinking) if thinking.text.is_empty() => {}
            // The member is there because clients' types want it; an empty one claims nothing.
            Part::Thinking(thinking) => parts.push(Part::Thinking(Thinking {
                text: thinking.text,
                signature: Some(String::new()),
                extra: Extra::new(),
            })),
            Part::ToolCall(call) => {
                parts.push(Part::ToolCall(call_for_anthropic(call, calls, context, lost)));
                calls = calls.saturating_add(1);
            }
            Part::Other(_)
            | Part::RedactedThinking(_)
            | Part::Image(_)
            | Part::File(_)
            | Part::Audio(_)
            | Part::ToolResult(_) => lost.dropped("choices.message.tool_calls"),
        }
    }
    let finish = finish_for_anthropic(output.finish.unwrap_or(Finish::Stop), calls > 0, refused, lost);
    reply.outputs = vec![Output {
        index: 0,
        parts,
        finish: Some(finish),
        stop_sequence: None,
        extra: Extra::new(),
        message_extra: Extra::new(),
    }];
    reply.dialect = Dialect::Anthropic;
    reply.model.get_or_insert_with(|| context.model.clone());
    reply.id.get_or_insert_with(|| "msg_unknown".to_owned());
    // Clients' types want the counts; nothing reported reads as nothing counted.
    reply.usage = Some(reply.usage.unwrap_or_default());
    reply.usage_wire = None;
    reply.extra = Extra::new();
    Ok(reply)
}

fn call_for_anthropic(call: ToolCall, at: u32, context: &Context, lost: &mut Losses) -> ToolCall {
    lost.extra("choices.message.tool_calls", &call.extra);
    let arguments = match call.arguments {
        Arguments::Text(text) if text.trim().is_empty() => json!({}),
        Arguments::Text(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Arguments::Json(value) => value,
    };
    let arguments = if arguments.is_object() {
        arguments
    } else {
        // The model wrote broken arguments (or was cut short). The client's own check of the input has to say so.
        lost.changed("choices.message.tool_calls.function.arguments");
        json!({ "raw_arguments": arguments })
    };
    ToolCall {
        id: Some(call_id_for_anthropic(call.id.as_deref(), at)),
        name: context.tool_name(call.name),
        arguments: Arguments::Json(arguments),
        extra: Extra::new(),
    }
}

/// A legal id, also where the provider gave none.
pub(super) fn call_id_for_anthropic(id: Option<&str>, at: u32) -> String {
    match id {
        Some(id) if !id.is_empty() => ids::for_anthropic(id),
        Some(_) | None => format!("call_{at}"),
    }
}

/// The reason in the words an Anthropic client reads. Some servers say `stop` after tool calls.
pub(super) fn finish_for_anthropic(finish: Finish, has_calls: bool, refused: bool, lost: &mut Losses) -> Finish {
    match finish {
        Finish::Stop if has_calls => Finish::ToolCalls,
        Finish::Stop if refused => Finish::Filtered,
        Finish::ToolCalls | Finish::FunctionCall if !has_calls => Finish::Stop,
        Finish::Other(_) => {
            lost.changed("choices.finish_reason");
            if has_calls { Finish::ToolCalls } else { Finish::Stop }
        }
        Finish::Stop
        | Finish::StopSequence
        | Finish::Length
        | Finish::ContextFull
        | Finish::ToolCalls
        | Finish::FunctionCall
        | Finish::Filtered
        | Finish::Paused => finish,
    }
}
