//! Turns OpenAI's parts into Anthropic's blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::call::{Arguments, Content, Extra, File, Image, Part, Shape, Source, Text, ToolCall, ToolResult};
use crate::translate::shaping::{Shaping, is_blank};
use crate::translate::{TranslateError, ids};

/// Where a part stands in the client's request, for errors that name it.
pub(super) struct Place {
    pub(super) message: usize,
    pub(super) part: usize,
    pub(super) call: usize,
}

impl Place {
    fn content(&self, member: &str) -> String {
        format!("messages[{}].content[{}].{member}", self.message, self.part)
    }
}

/// Ids for OpenAI's old functions, which have none: a result answers the last call of its name.
#[derive(Default)]
pub(super) struct LegacyIds {
    last: Option<(String, String)>,
    count: u32,
}

impl LegacyIds {
    fn begin(&mut self, name: &str) -> String {
        let id = format!("fn_{}", self.count);
        self.count = self.count.saturating_add(1);
        self.last = Some((name.to_owned(), id.clone()));
        id
    }

    fn answer(&self, name: &str) -> Option<String> {
        self.last.as_ref().filter(|(called, _)| called == name).map(|(_, id)| id.clone())
    }
}

/// Reshapes one part; `None` when nothing of it is left.
pub(super) fn shape(
    part: Part,
    place: &mut Place,
    legacy: &mut LegacyIds,
    shaping: &mut Shaping,
) -> Result<Option<Part>, TranslateError> {
    let shaped = match part {
        Part::Text(text) | Part::Refusal(text) => shape_text(text, shaping),
        Part::Image(image) => Some(shape_image(image, place, shaping)?),
        Part::File(file) => Some(shape_file(file, place, shaping)?),
        Part::Audio(_) => return Err(TranslateError::unsupported(place.content("input_audio"))),
        Part::Thinking(_) => {
            // Without its signature Anthropic refuses a thought, and chat clients cannot carry one.
            shaping.lost.dropped("messages.reasoning_content");
            return Ok(None);
        }
        Part::RedactedThinking(_) => None,
        Part::ToolCall(call) => {
            let shaped = shape_call(call, place, legacy, shaping)?;
            place.call += 1;
            return Ok(Some(shaped));
        }
        Part::ToolResult(result) => {
            let shaped = shape_result(result, place, legacy, shaping)?;
            return Ok(Some(shaped));
        }
        Part::Other(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
            let param = if kind == "custom" {
                format!("messages[{}].tool_calls[{}].custom", place.message, place.call)
            } else {
                place.content(kind)
            };
            return Err(TranslateError::unsupported(param));
        }
    };
    place.part += 1;
    Ok(shaped)
}

fn shape_text(text: Text, shaping: &mut Shaping) -> Option<Part> {
    if is_blank(&text.text) {
        return None;
    }
    shaping.lost.extra("messages.content", &text.extra);
    Some(Part::text(text.text))
}

fn shape_image(image: Image, place: &Place, shaping: &mut Shaping) -> Result<Part, TranslateError> {
    let Source::Url(url) = image.source else {
        return Err(TranslateError::invalid_field(place.content("image_url.url"), "must be a URL"));
    };
    if image.detail.is_some_and(|detail| detail != "auto") {
        shaping.lost.dropped("messages.content.image_url.detail");
    }
    lose_nested(&image.extra, "image_url", "messages.content.image_url", shaping);
    let is_http = |scheme: &str| url.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    let source = match split_data_url(&url) {
        Some((media_type, data)) => Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() },
        None if is_http("https://") || is_http("http://") => Source::Url(url),
        None => {
            let problem = "must be an http(s) URL or a base64 data URL";
            return Err(TranslateError::invalid_field(place.content("image_url.url"), problem));
        }
    };
    Ok(Part::Image(Image { source, detail: None, extra: Extra::new() }))
}

fn shape_file(file: File, place: &Place, shaping: &mut Shaping) -> Result<Part, TranslateError> {
    let Source::Url(data) = &file.source else {
        return Err(TranslateError::unsupported(place.content("file.file_id")));
    };
    lose_nested(&file.extra, "file", "messages.content.file", shaping);
    let Some((media_type, data)) = split_data_url(data) else {
        return Err(TranslateError::invalid_field(place.content("file.file_data"), "must be a base64 data URL"));
    };
    let source = match media_type {
        "application/pdf" => Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() },
        "text/plain" => {
            let bytes = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let data = bytes.ok_or_else(|| {
                TranslateError::invalid_field(place.content("file.file_data"), "must be base64 of UTF-8 text")
            })?;
            Source::PlainText { media_type: media_type.to_owned(), data }
        }
        _ => return Err(TranslateError::unsupported(place.content("file.file_data"))),
    };
    Ok(Part::File(File { source, title: file.title, extra: Extra::new() }))
}

/// Splits `data:image/png;base64,AAAA`; parameters between the two are left out, as Anthropic's wire has none.
fn split_data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let head = head.strip_suffix(";base64")?;
    let media_type = head.split(';').next().unwrap_or(head);
    (!media_type.is_empty() && !data.is_empty()).then_some((media_type, data))
}

/// Notes what is left of a part: members beside the inner object, and those inside it under their full name.
fn lose_nested(extra: &Extra, inner: &str, inner_name: &'static str, shaping: &mut Shaping) {
    for (key, value) in extra {
        match value {
            Value::Object(rest) if key == inner => shaping.lost.extra(inner_name, rest),
            _ => shaping.lose("messages.content", key, value.clone()),
        }
    }
}

fn shape_call(
    call: ToolCall,
    place: &Place,
    legacy: &mut LegacyIds,
    shaping: &mut Shaping,
) -> Result<Part, TranslateError> {
    shaping.lost.extra("messages.tool_calls", &call.extra);
    let param = || match call.id {
        Some(_) => format!("messages[{}].tool_calls[{}].function.arguments", place.message, place.call),
        None => format!("messages[{}].function_call.arguments", place.message),
    };
    let arguments = match call.arguments {
        Arguments::Text(text) if is_blank(&text) => json!({}),
        Arguments::Text(text) => {
            serde_json::from_str(&text).map_err(|error| TranslateError::invalid_field(param(), error.to_string()))?
        }
        Arguments::Json(value) => value,
    };
    if !arguments.is_object() {
        return Err(TranslateError::invalid_field(param(), "must be a JSON object"));
    }
    let id = match &call.id {
        Some(id) => ids::for_anthropic(id),
        None => legacy.begin(&call.name),
    };
    let arguments = Arguments::Json(arguments);
    Ok(Part::ToolCall(ToolCall { id: Some(id), name: call.name, arguments, extra: Extra::new() }))
}

fn shape_result(
    result: ToolResult,
    place: &mut Place,
    legacy: &mut LegacyIds,
    shaping: &mut Shaping,
) -> Result<Part, TranslateError> {
    shaping.lost.extra("messages", &result.extra);
    let id = match (&result.id, &result.name) {
        (Some(id), _) => ids::for_anthropic(id),
        (None, Some(name)) => legacy.answer(name).ok_or_else(|| {
            TranslateError::invalid_field(format!("messages[{}].name", place.message), "answers no call before it")
        })?,
        (None, None) => {
            return Err(TranslateError::invalid_field(format!("messages[{}]", place.message), "answers no call"));
        }
    };
    let mut parts = Vec::with_capacity(result.content.parts.len());
    for part in result.content.parts {
        parts.extend(shape(part, place, legacy, shaping)?);
    }
    let shape = match (parts.as_slice(), result.content.shape) {
        ([], _) => Shape::Absent,
        ([Part::Text(_)], Shape::Text) => Shape::Text,
        (_, Shape::Absent | Shape::Text | Shape::Parts) => Shape::Parts,
    };
    let content = Content { shape, parts };
    Ok(Part::ToolResult(ToolResult { id: Some(id), name: None, content, is_error: None, extra: Extra::new() }))
}
