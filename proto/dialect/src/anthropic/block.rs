//! Content blocks, as requests and replies share them.

use serde_json::{Value, json};

use crate::call::{
    Arguments, Content, File, Image, Part, RedactedThinking, Shape, Source, Text, Thinking, ToolCall, ToolResult,
};
use crate::fields::{FieldError, Fields, Object, Path};

/// Takes a member that is a string or a list of blocks.
pub(super) fn decode_content(fields: &mut Fields<'_>, key: &str) -> Result<Content, FieldError> {
    let path = fields.path;
    match fields.take(key) {
        None => Ok(Content { shape: Shape::Absent, parts: Vec::new() }),
        Some(Value::String(text)) => Ok(Content::text(text)),
        Some(Value::Array(list)) => Ok(Content::parts(decode_list(list, path.key(key))?)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Null) => {
            Err(path.key(key).error("must be a string or a list of blocks"))
        }
    }
}

pub(super) fn decode_list(list: Vec<Value>, path: Path<'_>) -> Result<Vec<Part>, FieldError> {
    list.into_iter().enumerate().map(|(at, block)| decode(block, path.index(at))).collect()
}

/// Reads one block. Blocks nest only as deeply as the JSON reader allows (128 levels), which bounds the recursion.
pub(super) fn decode(value: Value, path: Path<'_>) -> Result<Part, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let kind = fields.text_required("type")?;
    match kind.as_str() {
        "text" => {
            let text = fields.text_required("text")?;
            let mut extra = fields.rest();
            // A strict client refuses `citations: null`, and it says nothing.
            if extra.get("citations").is_some_and(Value::is_null) {
                extra.shift_remove("citations");
            }
            Ok(Part::Text(Text { text, extra }))
        }
        "image" => match decode_source(&mut fields)? {
            Some(source) => Ok(Part::Image(Image { source, detail: None, extra: fields.rest() })),
            None => Ok(other(fields, kind)),
        },
        "document" => match decode_source(&mut fields)? {
            Some(source) => {
                let title = fields.text("title")?;
                Ok(Part::File(File { source, title, extra: fields.rest() }))
            }
            None => Ok(other(fields, kind)),
        },
        "thinking" => {
            let (text, signature) = (fields.text_required("thinking")?, fields.text("signature")?);
            Ok(Part::Thinking(Thinking { text, signature, extra: fields.rest() }))
        }
        "redacted_thinking" => {
            let data = fields.text_required("data")?;
            Ok(Part::RedactedThinking(RedactedThinking { data, extra: fields.rest() }))
        }
        "tool_use" => {
            let (id, name) = (fields.text_required("id")?, fields.text_required("name")?);
            let arguments = Arguments::Json(fields.take("input").unwrap_or_else(|| json!({})));
            Ok(Part::ToolCall(ToolCall { id: Some(id), name, arguments, extra: fields.rest() }))
        }
        "tool_result" => {
            let id = fields.text_required("tool_use_id")?;
            let content = decode_content(&mut fields, "content")?;
            let is_error = fields.flag("is_error")?;
            Ok(Part::ToolResult(ToolResult { id: Some(id), name: None, content, is_error, extra: fields.rest() }))
        }
        // search_result, server_tool_use, *_tool_result, container_upload and whatever comes next.
        _ => Ok(other(fields, kind)),
    }
}

fn other(mut fields: Fields<'_>, kind: String) -> Part {
    fields.put("type", kind.into());
    Part::Other(Value::Object(fields.rest()))
}

/// Takes a `source` of a known type; one of another type stays where it was.
fn decode_source(fields: &mut Fields<'_>) -> Result<Option<Source>, FieldError> {
    let path = fields.path;
    let source_path = path.key("source");
    let Some(value) = fields.peek("source") else { return Err(fields.missing("source")) };
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !matches!(kind.as_str(), "base64" | "url" | "file" | "text" | "content") {
        return Ok(None);
    }
    let mut source = Fields::new(fields.take("source").unwrap_or_default(), source_path)?;
    source.take("type");
    let decoded = match kind.as_str() {
        "base64" => {
            let (media_type, data) = (source.text_required("media_type")?, source.text_required("data")?);
            Source::Base64 { media_type, data }
        }
        "url" => Source::Url(source.text_required("url")?),
        "file" => Source::FileId(source.text_required("file_id")?),
        "text" => {
            let (media_type, data) = (source.text_required("media_type")?, source.text_required("data")?);
            Source::PlainText { media_type, data }
        }
        _ => Source::Parts(decode_content(&mut source, "content")?),
    };
    fields.put_back("source", source.rest());
    Ok(Some(decoded))
}

/// Writes content as the member `key`.
pub(super) fn encode_content(object: Object, key: &str, content: Content) -> Object {
    match content.shape {
        Shape::Absent => object,
        Shape::Text => match content.parts.into_iter().next() {
            Some(Part::Text(text)) => object.with(key, text.text),
            Some(part) => object.with(key, encode_list(vec![part])),
            None => object.with(key, ""),
        },
        Shape::Parts => object.with(key, encode_list(content.parts)),
    }
}

pub(super) fn encode_list(parts: Vec<Part>) -> Vec<Value> {
    parts.into_iter().filter_map(encode).collect()
}

/// Writes one block; `None` for kinds that Anthropic's wire does not have.
fn encode(part: Part) -> Option<Value> {
    let block = |kind: &str| Object::default().with("type", kind);
    let object = match part {
        Part::Text(text) | Part::Refusal(text) => block("text").with("text", text.text).extra(text.extra),
        Part::Image(image) => block("image").with("source", encode_source(image.source)).extra(image.extra),
        Part::File(file) => block("document")
            .with("source", encode_source(file.source))
            .with_some("title", file.title)
            .extra(file.extra),
        Part::Thinking(thinking) => block("thinking")
            .with("thinking", thinking.text)
            .with_some("signature", thinking.signature)
            .extra(thinking.extra),
        Part::RedactedThinking(thinking) => {
            block("redacted_thinking").with("data", thinking.data).extra(thinking.extra)
        }
        Part::ToolCall(call) => {
            let input = match call.arguments {
                Arguments::Json(value) => value,
                Arguments::Text(text) => serde_json::from_str(&text).unwrap_or_else(|_| json!({})),
            };
            block("tool_use")
                .with("id", call.id.unwrap_or_default())
                .with("name", call.name)
                .with("input", input)
                .extra(call.extra)
        }
        Part::ToolResult(result) => {
            let object = block("tool_result").with("tool_use_id", result.id.unwrap_or_default());
            encode_content(object, "content", result.content).with_some("is_error", result.is_error).extra(result.extra)
        }
        Part::Other(value) => return Some(value),
        Part::Audio(_) => return None,
    };
    Some(object.build())
}

fn encode_source(source: Source) -> Value {
    let object = |kind: &str| Object::default().with("type", kind);
    match source {
        Source::Base64 { media_type, data } => {
            object("base64").with("media_type", media_type).with("data", data).build()
        }
        Source::Url(url) => object("url").with("url", url).build(),
        Source::FileId(id) => object("file").with("file_id", id).build(),
        Source::PlainText { media_type, data } => {
            object("text").with("media_type", media_type).with("data", data).build()
        }
        Source::Parts(content) => encode_content(object("content"), "content", content).build(),
    }
}
