//! Names every member a translation had to drop or change (FIDELITY-2).

use std::borrow::Cow;
use std::fmt;

use crate::call::Extra;

/// The most losses named for one request or reply; further ones are counted as one, named `others`.
pub const LOSSES_MAX: usize = 32;

/// The longest name of a loss in bytes; a longer one is cut.
pub const NAME_BYTES_MAX: usize = 80;

/// What became of a member that the other wire cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was left out.
    Dropped,
    /// It was sent with another value, in another place or in other words.
    Changed,
}

/// One member that did not survive a translation as it was.
///
/// Its name is the member's path without list positions, such as `messages.content.cache_control`, in ASCII letters,
/// digits, `_`, `-` and `.`: fit for a header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The member.
    pub field: Cow<'static, str>,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::Dropped => f.write_str(&self.field),
            Fate::Changed => write!(f, "{};changed", self.field),
        }
    }
}

/// All losses in one header value: `seed, temperature;changed`.
pub fn header_value(losses: &[Loss]) -> String {
    let mut value = String::new();
    for loss in losses {
        if !value.is_empty() {
            value.push_str(", ");
        }
        value.push_str(&loss.to_string());
    }
    value
}

/// Collects losses, each name once, at most [`LOSSES_MAX`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses(Vec<Loss>);

impl Losses {
    pub(crate) fn dropped(&mut self, field: impl Into<Cow<'static, str>>) {
        self.add(field.into(), Fate::Dropped);
    }

    pub(crate) fn changed(&mut self, field: impl Into<Cow<'static, str>>) {
        self.add(field.into(), Fate::Changed);
    }

    /// Notes every member of `extra` that says something as dropped; `null`, `[]` and `{}` say nothing.
    pub(crate) fn extra(&mut self, prefix: &'static str, extra: &Extra) {
        for (key, value) in extra {
            let says_nothing = value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(Extra::is_empty);
            if !says_nothing {
                self.dropped(member_name(prefix, key));
            }
        }
    }

    pub(crate) fn as_slice(&self) -> &[Loss] {
        &self.0
    }

    pub(crate) fn into_vec(self) -> Vec<Loss> {
        self.0
    }

    fn add(&mut self, field: Cow<'static, str>, fate: Fate) {
        if self.0.iter().any(|loss| loss.field == field) {
            return;
        }
        match self.0.len() {
            full if full >= LOSSES_MAX => {}
            last if last == LOSSES_MAX - 1 => self.0.push(Loss { field: Cow::Borrowed("others"), fate: Fate::Dropped }),
            _ => self.0.push(Loss { field, fate }),
        }
    }
}

/// `prefix.key` with what a header value cannot hold replaced: keys come from clients.
fn member_name(prefix: &'static str, key: &str) -> Cow<'static, str> {
    let mut name = String::with_capacity(prefix.len() + key.len() + 1);
    if !prefix.is_empty() {
        name.push_str(prefix);
        name.push('.');
    }
    let room = NAME_BYTES_MAX.saturating_sub(name.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.extend(key.chars().take(room).map(|c| if plain(c) { c } else { '_' }));
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_client_cannot_break_a_header() {
        let mut losses = Losses::default();
        let extra = Extra::from_iter([(format!("a\r\nb: {}", "x".repeat(200)), true.into())]);

        losses.extra("messages", &extra);

        let value = header_value(losses.as_slice());
        assert!(value.starts_with("messages.a__b__xxx"), "{value}");
        assert!(value.len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn the_list_is_bounded_and_each_name_stands_once() {
        let mut losses = Losses::default();

        for number in 0..100 {
            losses.dropped("seed");
            losses.dropped(format!("field_{number}"));
        }

        assert_eq!(losses.as_slice().len(), LOSSES_MAX);
        assert_eq!(losses.as_slice().last().map(|loss| loss.field.as_ref()), Some("others"));
        assert_eq!(losses.as_slice().iter().filter(|loss| loss.field == "seed").count(), 1);
    }

    #[test]
    fn members_that_say_nothing_are_no_loss() {
        let mut losses = Losses::default();
        let extra = Extra::from_iter([
            ("a".to_owned(), serde_json::Value::Null),
            ("b".to_owned(), serde_json::json!([])),
            ("c".to_owned(), serde_json::json!({})),
        ]);

        losses.extra("", &extra);

        assert!(losses.as_slice().is_empty());
    }
}
