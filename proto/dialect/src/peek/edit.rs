//! The edits that FIDELITY-1 permits, made on the bytes.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::Peeked;

/// What to change in a request that goes out in the dialect it came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The provider's own name for the model.
    pub model: Option<&'a str>,
    /// Has the provider report usage at the end of a stream (OpenAI's chat and completions) though the client did not
    /// ask; the chunk that carries it is to be taken out again. No effect on what is no stream.
    pub include_usage: bool,
}

impl Peeked {
    /// Whether [`Edits::include_usage`] would change this request: then the usage must be hidden from the client.
    pub const fn usage_can_be_added(&self) -> bool {
        self.usage_edit.is_some()
    }

    /// The body with `edits` made; `body` is the one this was read from. All other bytes are as they came, and without
    /// a change it is `body` itself.
    pub fn edit(&self, body: &Bytes, edits: &Edits<'_>) -> Bytes {
        let model = edits.model.filter(|model| *model != self.model).map(|model| {
            let name = serde_json::Value::from(model).to_string();
            (self.model_at.clone(), Cow::Owned(name))
        });
        let usage = self.usage_edit.clone().filter(|_| edits.include_usage);
        let usage = usage.map(|(at, text)| (at, Cow::Borrowed(text)));
        match (model, usage) {
            (None, None) => body.clone(),
            (Some(one), None) | (None, Some(one)) => splice(body, &[one]),
            // An insertion right after the model's value starts where that value ends, so it stays behind it.
            (Some(model), Some(usage)) if model.0.start <= usage.0.start => splice(body, &[model, usage]),
            (Some(model), Some(usage)) => splice(body, &[usage, model]),
        }
    }
}

/// `body` with each span, in order, replaced by its text.
fn splice(body: &Bytes, edits: &[(Range<usize>, Cow<'static, str>)]) -> Bytes {
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut from = 0;
    for (at, text) in edits {
        out.extend_from_slice(body.get(from..at.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        from = at.end;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    Bytes::from(out)
}
