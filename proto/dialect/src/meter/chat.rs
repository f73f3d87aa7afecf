//! OpenAI's chat and completions chunks.

use std::ops::Range;

use serde::Deserialize;

use super::choices::Choices;
use super::loose::{Count, Fold, Folded, Object, Says, Text, last_wins, object, raw};
use super::{Relay, Seen, StreamMeter, finish, quick, with_data};
use crate::sse::Frame;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) model: Text<'a>,
    #[serde(default)]
    pub(super) choices: Folded<Summary>,
    /// Kept as text, because a `null` may have to be cut out of the bytes.
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) usage: Option<&'a str>,
    #[serde(default)]
    pub(super) error: Says,
}

/// The choices of one chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    choices: Choices,
    content: bool,
    finish: Option<&'static str>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub(super) index: Count,
    #[serde(default)]
    pub(super) delta: Object<Delta>,
    #[serde(default)]
    pub(super) text: Says,
    #[serde(borrow, default)]
    pub(super) finish_reason: Text<'a>,
}

/// The parts of a delta that are content; a role is not.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta {
    #[serde(default)]
    pub(super) content: Says,
    #[serde(default)]
    pub(super) tool_calls: Says,
    #[serde(default)]
    pub(super) function_call: Says,
    #[serde(default)]
    pub(super) reasoning_content: Says,
    #[serde(default)]
    pub(super) reasoning: Says,
    #[serde(default)]
    pub(super) refusal: Says,
    #[serde(default)]
    pub(super) audio: Says,
}

impl Delta {
    const fn says(&self) -> bool {
        self.content.0
            || self.tool_calls.0
            || self.function_call.0
            || self.reasoning_content.0
            || self.reasoning.0
            || self.refusal.0
            || self.audio.0
    }
}

/// What the fold over `choices` needs of the items; an item that is no object counts for nothing.
impl<'de> Fold<'de> for Summary {
    type Item = Object<Choice<'de>>;

    fn take(&mut self, item: Self::Item) {
        let Some(choice) = item.0 else { return };
        let finish = choice.finish_reason.get().and_then(finish::word);
        self.choices.begin(choice.index.0.unwrap_or(0), finish.is_some());
        self.content |= choice.text.0 || finish.is_some() || choice.delta.0.is_some_and(|delta| delta.says());
        self.finish = finish.or(self.finish);
    }
}

impl StreamMeter {
    pub(super) fn observe_chat(&mut self, frame: &Frame, text: &str) -> Option<Seen> {
        if let Some(chunk) = quick::chunk(text).or_else(|| object(text)) {
            return Some(self.chunk(chunk, frame, text));
        }
        let again = last_wins(text)?;
        object(&again).map(|chunk| self.chunk(chunk, frame, &again))
    }

    fn chunk(&mut self, chunk: Chunk<'_>, frame: &Frame, text: &str) -> Seen {
        if chunk.error.0 {
            return self.observe_error(text);
        }
        self.note_model(chunk.model.get());
        let summary = chunk.choices.0.unwrap_or_default();
        self.choices.merge(summary.choices);
        self.finish = summary.finish.or(self.finish);
        let usage = chunk.usage.and_then(quick::openai_usage);
        if let Some(usage) = &usage {
            self.openai = Some(usage.normal());
        }
        let relay = match chunk.usage {
            Some(raw) if self.hide_usage => hide(raw, usage.is_some(), summary.choices.any(), frame, text),
            Some(_) | None => Relay::Forward,
        };
        Seen { relay, content: summary.content, end: false, invalid: false }
    }
}

/// What the client sees of a chunk whose `usage` it did not ask for: nothing, if usage is all the chunk is for, and no
/// `usage: null`. A usage that stands beside choices stays: only servers send it there that send it to everyone.
fn hide(usage: &str, has_usage: bool, has_choices: bool, frame: &Frame, text: &str) -> Relay {
    if has_usage {
        return if has_choices { Relay::Forward } else { Relay::Drop };
    }
    let start = usage.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let Some(cut) = member(text.as_bytes(), start..start + usage.len()) else { return Relay::Forward };
    let mut rest = Vec::with_capacity(text.len());
    rest.extend_from_slice(text.as_bytes().get(..cut.start).unwrap_or_default());
    rest.extend_from_slice(text.as_bytes().get(cut.end..).unwrap_or_default());
    Relay::Replace(with_data(frame, &rest))
}

/// Where the member with the value at `value` is, one of the commas around it included.
fn member(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let before = text.get(..value.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let before = before.strip_suffix(b"\"usage\"")?;
    if let Some(rest) = before.trim_ascii_end().strip_suffix(b",") {
        return Some(rest.len()..value.end);
    }
    let after = text.get(value.end..)?;
    let end = match after.trim_ascii_start().strip_prefix(b",") {
        Some(rest) => text.len() - rest.trim_ascii_start().len(),
        None => value.end,
    };
    Some(before.len()..end)
}
