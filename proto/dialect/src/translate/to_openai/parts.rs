//! Turns Anthropic's blocks into OpenAI's parts.

use serde_json::Value;

use crate::call::{Arguments, Content, Extra, File, Image, Part, Source, Text, ToolCall};
use crate::translate::shaping::{Shaping, is_blank};
use crate::translate::{TranslateError, ids};

/// Names of tools, shortened where OpenAI's limit asks for it.
#[derive(Default)]
pub(super) struct Names {
    renamed: Vec<(String, String)>,
}

impl Names {
    pub(super) fn map(&mut self, name: String) -> String {
        let sent = ids::name_for_openai(&name);
        if sent != name && !self.renamed.iter().any(|(known, _)| *known == sent) {
            self.renamed.push((sent.clone(), name));
        }
        sent
    }

    pub(super) fn into_renamed(self) -> Vec<(String, String)> {
        self.renamed
    }
}

/// Reshapes one part; `None` when nothing of it is left. Losses are named below `prefix`.
pub(super) fn shape(
    part: Part,
    prefix: &'static str,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<Option<Part>, TranslateError> {
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            shaping.lost.extra(prefix, &text.extra);
            Ok((!is_blank(&text.text)).then(|| Part::text(text.text)))
        }
        Part::Image(image) => shape_image(image, prefix, shaping),
        Part::File(file) => shape_file(file, prefix, names, shaping),
        Part::Thinking(_) => {
            shaping.lost.dropped("messages.content.thinking");
            Ok(None)
        }
        Part::RedactedThinking(_) => {
            shaping.lost.dropped("messages.content.redacted_thinking");
            Ok(None)
        }
        Part::ToolCall(call) => {
            shaping.lost.extra(prefix, &call.extra);
            let arguments = match call.arguments {
                Arguments::Json(value) => Arguments::Text(value.to_string()),
                Arguments::Text(text) => Arguments::Text(text),
            };
            let id = call.id.as_deref().map(ids::for_openai);
            let name = names.map(call.name);
            Ok(Some(Part::ToolCall(ToolCall { id, name, arguments, extra: Extra::new() })))
        }
        Part::Other(value) => shape_other(value, prefix, shaping),
        Part::Audio(_) | Part::ToolResult(_) => {
            Err(TranslateError::invalid_field(prefix, "holds a block that cannot stand here"))
        }
    }
}

fn shape_image(image: Image, prefix: &'static str, shaping: &mut Shaping) -> Result<Option<Part>, TranslateError> {
    shaping.lost.extra(prefix, &image.extra);
    let url = match image.source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url(url) => url,
        Source::FileId(_) | Source::PlainText { .. } | Source::Parts(_) => {
            shaping.refuse_member(prefix, "source.file_id")?;
            return Ok(None);
        }
    };
    Ok(Some(Part::Image(Image { source: Source::Url(url), detail: image.detail, extra: Extra::new() })))
}

fn shape_file(
    file: File,
    prefix: &'static str,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<Option<Part>, TranslateError> {
    shaping.lost.extra(prefix, &file.extra);
    match file.source {
        Source::Base64 { media_type, data } => {
            let title = file.title.unwrap_or_else(|| "document.pdf".to_owned());
            let source = Source::Url(format!("data:{media_type};base64,{data}"));
            Ok(Some(Part::File(File { source, title: Some(title), extra: Extra::new() })))
        }
        Source::PlainText { data, .. } => {
            // OpenAI has no documents of plain text: the text goes in as text, its title above it.
            shaping.lost.changed("messages.content.document");
            Ok(Some(titled(file.title, None, &data)))
        }
        Source::Parts(content) => {
            shaping.lost.changed("messages.content.document");
            let text = text_of(content, prefix, names, shaping)?;
            Ok(Some(titled(file.title, None, &text)))
        }
        Source::Url(_) => {
            shaping.refuse_member(prefix, "source.url")?;
            Ok(None)
        }
        Source::FileId(_) => {
            shaping.refuse_member(prefix, "source.file_id")?;
            Ok(None)
        }
    }
}

fn text_of(
    content: Content,
    prefix: &'static str,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<String, TranslateError> {
    let mut lines = Vec::new();
    for part in content.parts {
        if let Part::Text(Text { text, extra }) = part {
            shaping.lost.extra(prefix, &extra);
            lines.push(text);
        } else if shape(part, prefix, names, shaping)?.is_some() {
            shaping.refuse_member(prefix, "source.content")?;
        }
    }
    Ok(lines.join("\n\n"))
}

fn titled(title: Option<String>, source: Option<String>, text: &str) -> Part {
    let head: Vec<String> = title.into_iter().chain(source).collect();
    if head.is_empty() { Part::text(text) } else { Part::text(format!("{}\n\n{text}", head.join("\n"))) }
}

fn shape_other(value: Value, prefix: &'static str, shaping: &mut Shaping) -> Result<Option<Part>, TranslateError> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
    if kind != "search_result" {
        shaping.refuse_member(prefix, kind)?;
        return Ok(None);
    }
    shaping.lost.changed("messages.content.search_result");
    let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let texts: Vec<&str> = value
        .get("content")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|block| block.get("text").and_then(Value::as_str))
        .collect();
    Ok(Some(titled(word("title"), word("source"), &texts.join("\n\n"))))
}
