//! Splits Anthropic's turns into OpenAI's messages: one for each tool result, right after the calls.

use super::parts::{self, Names};
use crate::call::{Content, Extra, Message, Part, Role, Shape, ToolResult};
use crate::translate::TranslateError;
use crate::translate::shaping::{PARAGRAPH, Shaping};

pub(super) fn shape(
    system: Option<Content>,
    messages: Vec<Message>,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<Vec<Message>, TranslateError> {
    let mut out = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = system {
        let mut parts = Vec::with_capacity(system.parts.len());
        for (at, part) in system.parts.into_iter().enumerate() {
            if !matches!(part, Part::Text(_)) {
                return Err(TranslateError::invalid_field(format!("system[{at}]"), "must be text"));
            }
            parts.extend(parts::shape(part, "system", names, shaping)?);
        }
        push(&mut out, Role::System, parts);
    }
    // Instructions between a call and its result go after the result: OpenAI wants the two side by side.
    let mut held: Vec<Part> = Vec::new();
    for message in messages {
        shaping.lost.extra("messages", &message.extra);
        match message.role {
            Role::User | Role::Tool => {
                shape_user(message.content, std::mem::take(&mut held), &mut out, names, shaping)?;
            }
            Role::Assistant => {
                let held = std::mem::take(&mut held);
                push(&mut out, Role::System, held);
                shape_assistant(message.content, &mut out, names, shaping)?;
            }
            Role::System | Role::Developer => {
                let mut parts = Vec::with_capacity(message.content.parts.len());
                for part in message.content.parts {
                    parts.extend(parts::shape(part, "messages.content", names, shaping)?);
                }
                if out.last().is_some_and(has_calls) { held.extend(parts) } else { push(&mut out, Role::System, parts) }
            }
        }
    }
    push(&mut out, Role::System, held);
    Ok(out)
}

fn has_calls(message: &Message) -> bool {
    message.content.parts.iter().any(|part| matches!(part, Part::ToolCall(_)))
}

fn push(out: &mut Vec<Message>, role: Role, parts: Vec<Part>) {
    if !parts.is_empty() {
        out.push(Message { role, content: content_of(parts), extra: Extra::new() });
    }
}

fn content_of(parts: Vec<Part>) -> Content {
    let shape = if matches!(parts.as_slice(), [Part::Text(_)]) { Shape::Text } else { Shape::Parts };
    Content { shape, parts }
}

/// Results first, then the instructions that had to wait for them, then what the user says.
fn shape_user(
    content: Content,
    held: Vec<Part>,
    out: &mut Vec<Message>,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<(), TranslateError> {
    // What a tool's message cannot hold (pictures, documents) follows in the user's message after all results.
    let mut moved = Vec::new();
    let mut said = Vec::with_capacity(content.parts.len());
    for part in content.parts {
        if let Part::ToolResult(result) = part {
            out.push(shape_result(result, &mut moved, names, shaping)?);
        } else {
            said.extend(parts::shape(part, "messages.content", names, shaping)?);
        }
    }
    push(out, Role::System, held);
    moved.append(&mut said);
    push(out, Role::User, moved);
    Ok(())
}

fn shape_result(
    result: ToolResult,
    moved: &mut Vec<Part>,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<Message, TranslateError> {
    shaping.lost.extra("messages.content", &result.extra);
    if result.is_error == Some(true) {
        shaping.lost.dropped("messages.content.is_error");
    }
    let mut texts = Vec::new();
    for part in result.content.parts {
        match parts::shape(part, "messages.content.content", names, shaping)? {
            Some(text @ Part::Text(_)) => texts.push(text),
            Some(other) => {
                shaping.lost.changed("messages.content.content");
                moved.push(other);
            }
            None => {}
        }
    }
    let content = if texts.is_empty() { Content::text("") } else { content_of(texts) };
    let id = result.id.as_deref().map(crate::translate::ids::for_openai);
    let result = ToolResult { id, name: None, content, is_error: None, extra: Extra::new() };
    let content = Content::parts(vec![Part::ToolResult(result)]);
    Ok(Message { role: Role::Tool, content, extra: Extra::new() })
}

/// Texts of one turn are joined as the model wrote them: many compatible servers take only a string here. This wire has
/// all text before all calls, so a text that stood behind a call comes before it, as a paragraph of its own.
fn shape_assistant(
    content: Content,
    out: &mut Vec<Message>,
    names: &mut Names,
    shaping: &mut Shaping,
) -> Result<(), TranslateError> {
    let mut joined = String::new();
    let mut calls = Vec::new();
    let mut behind_call = false;
    for part in content.parts {
        match parts::shape(part, "messages.content", names, shaping)? {
            Some(Part::Text(text)) => {
                if std::mem::take(&mut behind_call) {
                    shaping.lost.changed("messages.content");
                    if !joined.is_empty() {
                        joined.push_str(PARAGRAPH);
                    }
                }
                joined.push_str(&text.text);
            }
            Some(Part::ToolCall(call)) => {
                behind_call = true;
                calls.push(Part::ToolCall(call));
            }
            Some(_) => {
                return Err(TranslateError::invalid_field("messages.content", "is no part of an assistant's turn"));
            }
            None => {}
        }
    }
    let shape = if joined.is_empty() { Shape::Absent } else { Shape::Text };
    let mut parts = Vec::with_capacity(calls.len() + 1);
    if shape == Shape::Text {
        parts.push(Part::text(joined));
    }
    parts.append(&mut calls);
    if !parts.is_empty() {
        out.push(Message { role: Role::Assistant, content: Content { shape, parts }, extra: Extra::new() });
    }
    Ok(())
}
