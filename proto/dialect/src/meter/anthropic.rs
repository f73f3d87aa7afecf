//! The events of Anthropic's Messages streams.

use serde::Deserialize;

use super::loose::{Object, Text, last_wins, object};
use super::{AnthropicUsage, Seen, StreamMeter, finish, quick};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    message: Object<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Object<Block<'a>>,
    #[serde(borrow, default)]
    pub(super) delta: Object<Delta<'a>>,
    #[serde(default)]
    usage: Object<AnthropicUsage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(default)]
    usage: Object<AnthropicUsage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
}

impl Block<'_> {
    /// Whether more than the opening of a block came: text and thoughts begin empty, long before their first word.
    fn is_content(&self) -> bool {
        let begun = |text: &Text<'_>| text.get().is_some_and(|text| !text.is_empty());
        match self.kind.get() {
            Some("text") => begun(&self.text),
            Some("thinking") => begun(&self.thinking),
            Some(_) | None => true,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, default)]
    pub(super) stop_reason: Text<'a>,
}

impl StreamMeter {
    pub(super) fn observe_messages(&mut self, text: &str) -> Option<Seen> {
        if let Some(event) = quick::messages_event(text).or_else(|| object(text)) {
            return Some(self.messages_event(&event, text));
        }
        let again = last_wins(text)?;
        object(&again).map(|event| self.messages_event(&event, &again))
    }

    fn messages_event(&mut self, event: &Event<'_>, text: &str) -> Seen {
        match event.kind.get().unwrap_or_default() {
            "content_block_delta" => Seen { content: true, ..Seen::FORWARD },
            "content_block_start" => {
                let content = event.content_block.0.as_ref().is_none_or(Block::is_content);
                Seen { content, ..Seen::FORWARD }
            }
            "message_start" => {
                if let Some(message) = &event.message.0 {
                    self.note_model(message.model.get());
                    self.note_usage(message.usage.0.as_ref());
                }
                Seen::FORWARD
            }
            "message_delta" => {
                self.note_usage(event.usage.0.as_ref());
                let reason = event.delta.0.as_ref().and_then(|delta| delta.stop_reason.get());
                self.finish = reason.and_then(finish::word).or(self.finish);
                Seen { content: true, ..Seen::FORWARD }
            }
            "message_stop" => {
                self.ended = true;
                Seen { end: true, ..Seen::FORWARD }
            }
            "error" => self.observe_error(text),
            // `content_block_stop`, `ping`, and whatever the wire gains.
            _ => Seen::FORWARD,
        }
    }

    fn note_usage(&mut self, usage: Option<&AnthropicUsage>) {
        if let Some(usage) = usage {
            self.anthropic.get_or_insert_default().merge(usage);
        }
    }
}
