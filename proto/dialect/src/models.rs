//! The model list, as each dialect's clients read it.

use serde::Serialize;

use crate::Dialect;
use crate::fault::rfc3339;

/// The most entries one page of Anthropic's list has; their API's own bound.
pub const PAGE_MAX: usize = 1000;

/// The entries of a page when the client names no number; their API's own default.
pub const PAGE_DEFAULT: usize = 20;

/// One model that a key may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name that requests use.
    pub id: &'a str,
    /// Since when it exists, in seconds since 1970; 0 when that is not known.
    pub created: u64,
    /// Who offers it.
    pub owned_by: &'a str,
}

/// Which part of Anthropic's list is wanted; OpenAI's has no pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page<'a> {
    /// At most so many, 1 to [`PAGE_MAX`]; [`PAGE_DEFAULT`] if absent.
    pub limit: Option<usize>,
    /// Those after this id.
    pub after_id: Option<&'a str>,
    /// Those before this id.
    pub before_id: Option<&'a str>,
}

#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    lifecycle: &'static str,
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

impl<'a> From<&Entry<'a>> for OpenAiModel<'a> {
    fn from(entry: &Entry<'a>) -> Self {
        Self { id: entry.id, object: "model", created: entry.created, owned_by: entry.owned_by }
    }
}

impl<'a> From<&Entry<'a>> for AnthropicModel<'a> {
    fn from(entry: &Entry<'a>) -> Self {
        Self {
            r#type: "model",
            id: entry.id,
            display_name: entry.id,
            created_at: rfc3339(entry.created),
            lifecycle: "active",
        }
    }
}

/// The body for `GET /v1/models`: `entries` in their order, or the page of them that is wanted.
pub fn list(dialect: Dialect, entries: &[Entry<'_>], page: &Page<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi => json(&OpenAiList { object: "list", data: entries.iter().map(OpenAiModel::from).collect() }),
        Dialect::Anthropic => {
            let (shown, has_more) = cut(entries, page);
            json(&AnthropicList {
                has_more,
                first_id: shown.first().map(|entry| entry.id),
                last_id: shown.last().map(|entry| entry.id),
                data: shown.iter().map(AnthropicModel::from).collect(),
            })
        }
    }
}

/// The body for `GET /v1/models/{id}`.
pub fn one(dialect: Dialect, entry: &Entry<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenAi => json(&OpenAiModel::from(entry)),
        Dialect::Anthropic => json(&AnthropicModel::from(entry)),
    }
}

/// The entries of a page, and whether there are more in its direction. An id that is not there bounds nothing.
fn cut<'e, 'a>(entries: &'e [Entry<'a>], page: &Page<'_>) -> (&'e [Entry<'a>], bool) {
    let place = |id: Option<&str>| entries.iter().position(|entry| Some(entry.id) == id);
    let start = place(page.after_id).map_or(0, |at| at + 1);
    let end = place(page.before_id).unwrap_or(entries.len());
    let within = entries.get(start..end).unwrap_or_default();
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX).min(within.len());
    // Paging backwards shows the ones next to `before_id`.
    let backwards = page.before_id.is_some() && page.after_id.is_none();
    let (head, tail) = within.split_at(if backwards { within.len() - limit } else { limit });
    if backwards { (tail, !head.is_empty()) } else { (head, !tail.is_empty()) }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Structs of strings and numbers: there is nothing in them that JSON cannot hold.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
