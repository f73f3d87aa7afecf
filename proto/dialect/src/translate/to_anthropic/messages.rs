//! Reorders a conversation: early instructions above it, results right after their calls, one turn a speaker.

use serde_json::Value;

use super::parts;
use crate::call::{Content, Extra, Message, Part, Role, Shape};
use crate::translate::TranslateError;
use crate::translate::shaping::{Shaping, is_blank};

/// Returns the instructions that stand above the conversation, and the conversation.
pub(super) fn shape(
    messages: Vec<Message>,
    shaping: &mut Shaping,
) -> Result<(Option<Content>, Vec<Message>), TranslateError> {
    let mut turns = Turns::default();
    let mut ids = parts::LegacyIds::default();
    for (at, message) in messages.into_iter().enumerate() {
        let (role, parts) = shape_message(message, at, &mut ids, shaping)?;
        turns.add(role, parts);
    }
    turns.flush_results();
    trim_last_answer(&mut turns.out, shaping);
    if turns.out.is_empty() {
        return Err(TranslateError::invalid_field("messages", "must hold at least one message that is no instruction"));
    }
    let system = (!turns.system.is_empty()).then(|| content_of(turns.system));
    Ok((system, turns.out))
}

fn shape_message(
    message: Message,
    at: usize,
    ids: &mut parts::LegacyIds,
    shaping: &mut Shaping,
) -> Result<(Role, Vec<Part>), TranslateError> {
    let Message { role, content, mut extra } = message;
    let mut shaped = Vec::with_capacity(content.parts.len());
    let mut place = parts::Place { message: at, part: 0, call: 0 };
    for part in content.parts {
        shaped.extend(parts::shape(part, &mut place, ids, shaping)?);
    }
    match role {
        Role::System | Role::Developer => {
            if shaped.iter().any(|part| !matches!(part, Part::Text(_))) {
                return Err(TranslateError::invalid_field(format!("messages[{at}].content"), "must be text"));
            }
        }
        Role::Assistant => {
            if extra.get("audio").is_some_and(|audio| !audio.is_null()) {
                return Err(TranslateError::unsupported(format!("messages[{at}].audio")));
            }
            if let Some(Value::String(refusal)) = extra.shift_remove("refusal")
                && !is_blank(&refusal)
            {
                shaped.insert(0, Part::text(refusal));
            }
        }
        Role::User | Role::Tool => {}
    }
    shaping.lost.extra("messages", &extra);
    Ok((role, shaped))
}

/// The conversation while it is put in order.
#[derive(Default)]
struct Turns {
    system: Vec<Part>,
    out: Vec<Message>,
    /// Ids of the calls whose results come next, in order.
    calls: Vec<String>,
    /// Results that came so far.
    results: Vec<Part>,
    /// Instructions that came between a call and its result; they go after the results.
    held: Vec<Part>,
}

impl Turns {
    fn add(&mut self, role: Role, parts: Vec<Part>) {
        if parts.is_empty() {
            return;
        }
        match role {
            Role::System | Role::Developer if self.out.is_empty() && self.results.is_empty() => {
                self.system.extend(parts);
            }
            Role::System | Role::Developer if !self.calls.is_empty() => self.held.extend(parts),
            Role::System | Role::Developer => self.push(Role::System, parts),
            Role::Tool => self.results.extend(parts),
            Role::User => {
                self.flush_results();
                self.push(Role::User, parts);
            }
            Role::Assistant => {
                self.flush_results();
                self.calls.extend(parts.iter().filter_map(|part| match part {
                    Part::ToolCall(call) => call.id.clone(),
                    _ => None,
                }));
                self.push(Role::Assistant, parts);
            }
        }
    }

    /// Writes the results that came, in the order of the calls; those of unknown calls last, as they came.
    fn flush_results(&mut self) {
        if !self.results.is_empty() {
            let mut results = std::mem::take(&mut self.results);
            let calls = std::mem::take(&mut self.calls);
            results.sort_by_key(|part| match part {
                Part::ToolResult(result) => {
                    calls.iter().position(|id| Some(id) == result.id.as_ref()).unwrap_or(usize::MAX)
                }
                _ => usize::MAX,
            });
            self.push(Role::User, results);
        }
        self.calls.clear();
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.push(Role::System, held);
        }
    }

    /// Adds to the last turn if the same one speaks, else begins a new turn.
    fn push(&mut self, role: Role, parts: Vec<Part>) {
        match self.out.last_mut() {
            Some(last) if last.role == role => {
                last.content.shape = Shape::Parts;
                last.content.parts.extend(parts);
            }
            Some(_) | None => {
                self.out.push(Message { role, content: content_of(parts), extra: Extra::new() });
            }
        }
    }
}

/// One text is written as a bare string, all else as a list.
fn content_of(parts: Vec<Part>) -> Content {
    let shape = if matches!(parts.as_slice(), [Part::Text(_)]) { Shape::Text } else { Shape::Parts };
    Content { shape, parts }
}

/// Anthropic refuses a conversation whose last, unfinished answer ends in white space.
fn trim_last_answer(messages: &mut [Message], shaping: &mut Shaping) {
    if let Some(Message { role: Role::Assistant, content, .. }) = messages.last_mut()
        && let Some(Part::Text(text)) = content.parts.last_mut()
        && let said = text.text.trim_end().len()
        && said < text.text.len()
    {
        text.text.truncate(said);
        shaping.lost.changed("messages.content");
    }
}
