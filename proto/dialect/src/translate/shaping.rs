//! What both directions share while they reshape a request.

use serde_json::Value;

use super::{Context, TranslateError};
use crate::call::{Call, Extra};
use crate::loss::{Loss, Losses};

/// What parts two texts that a tool call stood between, where the wire has no place for a call between texts.
pub(super) const PARAGRAPH: &str = "\n\n";

/// A reshaped request, ready to be encoded.
pub(super) struct Shaped {
    pub(super) call: Call,
    pub(super) lost: Vec<Loss>,
    pub(super) context: Context,
}

/// Notes losses and decides about what cannot be carried.
pub(super) struct Shaping {
    pub(super) lost: Losses,
    drop_params: bool,
}

impl Shaping {
    pub(super) fn new(drop_params: bool) -> Self {
        Self { lost: Losses::default(), drop_params }
    }

    /// Refuses a parameter that changes the meaning, unless the operator chose to drop such.
    pub(super) fn refuse(&mut self, field: &'static str) -> Result<(), TranslateError> {
        if self.drop_params {
            self.lost.dropped(field);
            return Ok(());
        }
        Err(TranslateError::unsupported(field))
    }

    /// The same for a name that comes from the client.
    pub(super) fn refuse_member(&mut self, prefix: &'static str, name: &str) -> Result<(), TranslateError> {
        if self.drop_params {
            self.lost.extra(prefix, &Extra::from_iter([(name.to_owned(), Value::Bool(true))]));
            return Ok(());
        }
        Err(TranslateError::unsupported(format!("{prefix}.{name}")))
    }

    /// Notes the rest of an object that was taken apart, or a member that is unknown as a whole.
    pub(super) fn lose(&mut self, outer: &'static str, key: &str, value: Value) {
        self.lost.extra(outer, &Extra::from_iter([(key.to_owned(), value)]));
    }
}

/// Whether a member says nothing: `null`, `[]` or `{}`.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a text is blank: Anthropic refuses such blocks, and they say nothing.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
