//! The request of a chat completion.

use serde_json::{Value, json};

use super::tools;
use crate::Dialect;
use crate::call::{
    Audio, Call, Content, Extra, File, Format, Image, JsonSchema, Message, Part, Role, Shape, Source, Stop, Text,
    Thinking, TokenLimit, TokenLimitName, ToolResult,
};
use crate::fields::{FieldError, Fields, Object, Path};

/// Where a thinking part remembers that it came as `reasoning`, the rarer of two de-facto names.
const SPELLED_REASONING: &str = "reasoning";

/// Reads a request.
///
/// # Errors
/// [`FieldError`] naming the first member that is missing or of the wrong type.
pub fn decode(body: Value) -> Result<Call, FieldError> {
    let mut fields = Fields::new(body, Path::ROOT)?;
    let path = fields.path;

    let model = fields.text_required("model")?;
    let listed = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    let messages = path.key("messages");
    let messages = listed
        .into_iter()
        .enumerate()
        .map(|(at, message)| decode_message(message, messages.index(at)))
        .collect::<Result<_, _>>()?;
    let max_tokens = match fields.count("max_completion_tokens")? {
        Some(tokens) => Some(TokenLimit { tokens, name: TokenLimitName::MaxCompletionTokens }),
        None => fields.count("max_tokens")?.map(|tokens| TokenLimit { tokens, name: TokenLimitName::MaxTokens }),
    };
    let set = tools::decode(&mut fields)?;

    Ok(Call {
        dialect: Dialect::OpenAi,
        model,
        system: None,
        messages,
        tools: set.tools,
        tool_choice: set.choice,
        parallel_tools: fields.flag("parallel_tool_calls")?,
        legacy_functions: set.legacy,
        max_tokens,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: None,
        stop: decode_stop(&mut fields)?,
        stream: fields.flag("stream")?,
        include_usage: decode_include_usage(&mut fields)?,
        thinking: None,
        effort: fields.text("reasoning_effort")?,
        format: decode_format(&mut fields)?,
        user: fields.text("user")?,
        extra: fields.rest(),
    })
}

/// Writes a request. What OpenAI's wire has no words for must have been translated away before.
pub fn encode(call: Call) -> Value {
    let (current, old) = match call.max_tokens {
        Some(TokenLimit { tokens, name: TokenLimitName::MaxCompletionTokens }) => (Some(tokens), None),
        Some(TokenLimit { tokens, name: TokenLimitName::MaxTokens }) => (None, Some(tokens)),
        None => (None, None),
    };
    let messages: Vec<Value> = call.messages.into_iter().map(encode_message).collect();
    let object = Object::default()
        .with("model", call.model)
        .with("messages", messages)
        .with_some("max_completion_tokens", current)
        .with_some("max_tokens", old)
        .with_some("temperature", call.temperature.map(Value::Number))
        .with_some("top_p", call.top_p.map(Value::Number))
        .with_some("top_k", call.top_k)
        .with_some("stop", call.stop.map(encode_stop))
        .with_some("stream", call.stream)
        .with_some("stream_options", call.include_usage.map(|include| json!({ "include_usage": include })))
        .with_some("reasoning_effort", call.effort)
        .with_some("response_format", call.format.map(encode_format))
        .with_some("user", call.user);
    tools::encode(object, call.tools, call.tool_choice, call.legacy_functions)
        .with_some("parallel_tool_calls", call.parallel_tools)
        .extra(call.extra)
        .build()
}

fn decode_stop(fields: &mut Fields<'_>) -> Result<Option<Stop>, FieldError> {
    let wrong = |fields: &Fields<'_>| fields.path.key("stop").error("must be a string or a list of strings");
    match fields.take("stop") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(Stop { texts: vec![text], bare: true })),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<_>> = list.into_iter().map(into_text).collect();
            Ok(Some(Stop { texts: texts.ok_or_else(|| wrong(fields))?, bare: false }))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Null) => Err(wrong(fields)),
    }
}

fn into_text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}

fn encode_stop(mut stop: Stop) -> Value {
    match (stop.bare, stop.texts.len()) {
        (true, 1) => stop.texts.pop().map_or(Value::Null, Value::String),
        (true | false, _) => stop.texts.into(),
    }
}

fn decode_include_usage(fields: &mut Fields<'_>) -> Result<Option<bool>, FieldError> {
    let Some(options) = fields.take("stream_options") else { return Ok(None) };
    let path = fields.path;
    let mut options = Fields::new(options, path.key("stream_options"))?;
    let include = options.flag("include_usage")?;
    let rest = options.rest();
    if include.is_none() {
        fields.put("stream_options", Value::Object(rest));
    } else {
        fields.put_back("stream_options", rest);
    }
    Ok(include)
}

fn decode_format(fields: &mut Fields<'_>) -> Result<Option<Format>, FieldError> {
    let Some(format) = fields.take("response_format") else { return Ok(None) };
    let path = fields.path;
    let format_path = path.key("response_format");
    let mut format = Fields::new(format, format_path)?;
    let kind = format.text_required("type")?;
    Ok(Some(match kind.as_str() {
        "text" => {
            fields.put_back("response_format", format.rest());
            Format::Text
        }
        "json_object" => {
            fields.put_back("response_format", format.rest());
            Format::JsonObject
        }
        "json_schema" => {
            let schema = format.take("json_schema").ok_or_else(|| format.missing("json_schema"))?;
            fields.put_back("response_format", format.rest());
            let mut inner = Fields::new(schema, format_path.key("json_schema"))?;
            Format::JsonSchema(JsonSchema {
                name: inner.text("name")?,
                description: inner.text("description")?,
                strict: inner.flag("strict")?,
                schema: inner.take("schema"),
                extra: inner.rest(),
            })
        }
        _ => {
            // Kept as it came: another wire has to refuse it by name, this one's server knows it better than we do.
            format.put("type", kind.into());
            fields.put("response_format", Value::Object(format.rest()));
            return Ok(None);
        }
    }))
}

fn encode_format(format: Format) -> Value {
    match format {
        Format::Text => json!({ "type": "text" }),
        Format::JsonObject => json!({ "type": "json_object" }),
        Format::JsonSchema(schema) => {
            let inner = Object::default()
                .with_some("name", schema.name)
                .with_some("description", schema.description)
                .with_some("schema", schema.schema)
                .with_some("strict", schema.strict)
                .extra(schema.extra);
            Object::default().with("type", "json_schema").with("json_schema", inner.build()).build()
        }
    }
}

fn decode_message(value: Value, path: Path<'_>) -> Result<Message, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let role = fields.text_required("role")?;
    let role = match role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => return decode_tool_result(fields, true),
        "function" => return decode_tool_result(fields, false),
        _ => {
            return Err(path.key("role").error("must be one of developer, system, user, assistant, tool, function"));
        }
    };
    let mut content = decode_content(&mut fields)?;
    if role == Role::Assistant {
        let mut parts = Vec::new();
        parts.extend(decode_thinking(&mut fields)?.map(Part::Thinking));
        parts.append(&mut content.parts);
        tools::decode_calls(&mut fields, &mut parts)?;
        content.parts = parts;
    }
    Ok(Message { role, content, extra: fields.rest() })
}

/// Takes `reasoning_content`, or the rarer `reasoning` where it is a string.
pub(super) fn decode_thinking(fields: &mut Fields<'_>) -> Result<Option<Thinking>, FieldError> {
    if let Some(text) = fields.text("reasoning_content")? {
        return Ok(Some(Thinking { text, signature: None, extra: Extra::new() }));
    }
    if !fields.peek("reasoning").is_some_and(Value::is_string) {
        return Ok(None);
    }
    let extra = Extra::from_iter([(SPELLED_REASONING.to_owned(), Value::Bool(true))]);
    Ok(fields.text("reasoning")?.map(|text| Thinking { text, signature: None, extra }))
}

fn decode_tool_result(mut fields: Fields<'_>, current: bool) -> Result<Message, FieldError> {
    let content = decode_content(&mut fields)?;
    let (id, name) = if current {
        (Some(fields.text_required("tool_call_id")?), fields.text("name")?)
    } else {
        (None, Some(fields.text_required("name")?))
    };
    let result = ToolResult { id, name, content, is_error: None, extra: fields.rest() };
    let content = Content::parts(vec![Part::ToolResult(result)]);
    Ok(Message { role: Role::Tool, content, extra: Extra::new() })
}

fn decode_content(fields: &mut Fields<'_>) -> Result<Content, FieldError> {
    let path = fields.path;
    match fields.take("content") {
        None => Ok(Content { shape: Shape::Absent, parts: Vec::new() }),
        Some(Value::String(text)) => Ok(Content::text(text)),
        Some(Value::Array(list)) => {
            let path = path.key("content");
            let parts = list.into_iter().enumerate().map(|(at, part)| decode_part(part, path.index(at)));
            Ok(Content::parts(parts.collect::<Result<_, _>>()?))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Null) => {
            Err(path.key("content").error("must be a string or a list of parts"))
        }
    }
}

fn decode_part(value: Value, path: Path<'_>) -> Result<Part, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let kind = fields.text_required("type")?;
    match kind.as_str() {
        "text" => {
            let text = fields.text_required("text")?;
            Ok(Part::Text(Text { text, extra: fields.rest() }))
        }
        "refusal" => {
            let text = fields.text_required("refusal")?;
            Ok(Part::Refusal(Text { text, extra: fields.rest() }))
        }
        "image_url" => {
            let inner = fields.take("image_url").ok_or_else(|| fields.missing("image_url"))?;
            let mut inner = Fields::new(inner, path.key("image_url"))?;
            let url = inner.text_required("url")?;
            let detail = inner.text("detail")?;
            fields.put_back("image_url", inner.rest());
            Ok(Part::Image(Image { source: Source::Url(url), detail, extra: fields.rest() }))
        }
        "input_audio" => {
            let inner = fields.take("input_audio").ok_or_else(|| fields.missing("input_audio"))?;
            let mut inner = Fields::new(inner, path.key("input_audio"))?;
            let (data, format) = (inner.text_required("data")?, inner.text_required("format")?);
            fields.put_back("input_audio", inner.rest());
            Ok(Part::Audio(Audio { data, format, extra: fields.rest() }))
        }
        "file" => {
            let inner = fields.take("file").ok_or_else(|| fields.missing("file"))?;
            let mut inner = Fields::new(inner, path.key("file"))?;
            let source = match inner.text("file_data")? {
                Some(data) => Source::Url(data),
                None => Source::FileId(inner.text("file_id")?.ok_or_else(|| inner.missing("file_data"))?),
            };
            let title = inner.text("filename")?;
            fields.put_back("file", inner.rest());
            Ok(Part::File(File { source, title, extra: fields.rest() }))
        }
        _ => {
            fields.put("type", kind.into());
            Ok(Part::Other(Value::Object(fields.rest())))
        }
    }
}

fn encode_message(message: Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => return encode_tool_result(message),
    };
    encode_turn(Object::default().with("role", role), message.content).extra(message.extra).build()
}

fn encode_tool_result(message: Message) -> Value {
    let Some(Part::ToolResult(result)) = message.content.parts.into_iter().next() else {
        // A tool's message without a result says nothing; translations never make one.
        return Object::default().with("role", "tool").with("content", "").extra(message.extra).build();
    };
    let role = if result.id.is_some() { "tool" } else { "function" };
    encode_turn(Object::default().with("role", role), result.content)
        .with_some("tool_call_id", result.id)
        .with_some("name", result.name)
        .extra(result.extra)
        .build()
}

/// Writes content, thinking and tool calls into the message they belong to.
fn encode_turn(mut object: Object, content: Content) -> Object {
    let mut list = Vec::new();
    let mut calls = tools::Calls::default();
    for part in content.parts {
        match part {
            Part::Thinking(thinking) => {
                let key =
                    if thinking.extra.contains_key(SPELLED_REASONING) { "reasoning" } else { "reasoning_content" };
                object = object.with(key, thinking.text);
            }
            Part::ToolCall(call) => calls.push(call),
            Part::Other(value) if value.get("type").is_some_and(|kind| kind == "custom") => calls.push_other(value),
            Part::Text(text) if content.shape == Shape::Text => list.push(Value::String(text.text)),
            Part::Text(_) | Part::Refusal(_) | Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => {
                list.extend(encode_part(part));
            }
            // No part of OpenAI's wire; translations have taken them out.
            Part::RedactedThinking(_) | Part::ToolResult(_) => {}
        }
    }
    object = match content.shape {
        Shape::Absent => object,
        Shape::Text => object.with("content", list.into_iter().next().unwrap_or_default()),
        Shape::Parts => object.with("content", list),
    };
    calls.write(object)
}

/// Writes one part; `None` for kinds that are not content on OpenAI's wire.
fn encode_part(part: Part) -> Option<Value> {
    let object = match part {
        Part::Text(text) => Object::default().with("type", "text").with("text", text.text).extra(text.extra),
        Part::Refusal(text) => Object::default().with("type", "refusal").with("refusal", text.text).extra(text.extra),
        Part::Image(image) => {
            let inner = Object::default().with("url", source_url(image.source)?).with_some("detail", image.detail);
            Object::default().with("type", "image_url").with("image_url", inner.build()).extra(image.extra)
        }
        Part::Audio(audio) => {
            let inner = Object::default().with("data", audio.data).with("format", audio.format);
            Object::default().with("type", "input_audio").with("input_audio", inner.build()).extra(audio.extra)
        }
        Part::File(file) => {
            let inner = match file.source {
                Source::FileId(id) => Object::default().with("file_id", id),
                other => Object::default().with("file_data", source_url(other)?),
            };
            let inner = inner.with_some("filename", file.title);
            Object::default().with("type", "file").with("file", inner.build()).extra(file.extra)
        }
        Part::Other(value) => return Some(value),
        Part::Thinking(_) | Part::RedactedThinking(_) | Part::ToolCall(_) | Part::ToolResult(_) => return None,
    };
    Some(object.build())
}

fn source_url(source: Source) -> Option<String> {
    match source {
        Source::Url(url) => Some(url),
        Source::Base64 { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
        Source::FileId(_) | Source::PlainText { .. } | Source::Parts(_) => None,
    }
}
