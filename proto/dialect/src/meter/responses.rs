//! The events of OpenAI's Responses streams.

use serde::Deserialize;

use super::loose::{Count, Object, Says, Text, last_wins, object};
use super::{Relay, ResponsesUsage, Seen, StreamMeter, finish, quick};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(default)]
    pub(super) sequence_number: Count,
    #[serde(borrow, default)]
    response: Object<Response<'a>>,
    #[serde(default)]
    pub(super) error: Says,
}

/// The response as the events at the start and the end of a stream carry it.
#[derive(Debug, Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(default)]
    usage: Object<ResponsesUsage>,
    #[serde(borrow, default)]
    incomplete_details: Object<Details<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Details<'a> {
    #[serde(borrow, default)]
    reason: Text<'a>,
}

impl StreamMeter {
    pub(super) fn observe_responses(&mut self, text: &str) -> Option<Seen> {
        if let Some(event) = quick::responses_event(text).or_else(|| object(text)) {
            return Some(self.responses_event(event, text));
        }
        let again = last_wins(text)?;
        object(&again).map(|event| self.responses_event(event, &again))
    }

    fn responses_event(&mut self, event: Event<'_>, text: &str) -> Seen {
        if let Some(number) = event.sequence_number.0 {
            self.next_sequence = number.saturating_add(1);
        }
        let kind = event.kind.get().unwrap_or_default();
        if kind == "error" || (kind.is_empty() && event.error.0) {
            return self.observe_error(text);
        }
        if let Some(response) = &event.response.0 {
            self.note_model(response.model.get());
            self.openai = response.usage.0.as_ref().map(ResponsesUsage::normal).or(self.openai);
        }
        let end = match kind {
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => true,
            _ => return Seen { content: is_content(kind), ..Seen::FORWARD },
        };
        self.ended = end;
        self.finish = event.response.0.as_ref().and_then(|response| {
            let why = response.incomplete_details.0.as_ref().and_then(|details| details.reason.get());
            why.or_else(|| response.status.get()).and_then(finish::word)
        });
        if kind == "response.failed" {
            return Seen { end, ..self.observe_error(text) };
        }
        Seen { relay: Relay::Forward, content: true, end, invalid: false }
    }
}

fn is_content(kind: &str) -> bool {
    kind == "response.output_item.added" || kind.ends_with(".delta")
}
