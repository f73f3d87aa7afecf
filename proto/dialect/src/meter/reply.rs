//! A whole reply that is relayed as it is.

use serde::Deserialize;
use troupe_proto::outcome::Usage;

use super::loose::{Fold, Folded, Object, Says, Text, last_wins, object, raw};
use super::{finish, quick};
use crate::Operation;
use crate::json::{self, BadJson};

/// What was read of a whole reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyPeek {
    /// What the provider says was used.
    pub usage: Option<Usage>,
    /// The model it says it used.
    pub model: Option<String>,
    /// Why it stopped, as one of a bounded set of words; the last choice's, if there are several.
    pub finish_reason: Option<&'static str>,
    /// The body is an error, whatever the status said.
    pub is_error: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Reply<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    pub(super) model: Text<'a>,
    #[serde(default)]
    pub(super) choices: Folded<Ends>,
    #[serde(borrow, default)]
    pub(super) stop_reason: Text<'a>,
    #[serde(borrow, default)]
    pub(super) status: Text<'a>,
    #[serde(borrow, default)]
    pub(super) incomplete_details: Object<Details<'a>>,
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) usage: Option<&'a str>,
    #[serde(default)]
    pub(super) error: Says,
}

#[derive(Debug, Deserialize)]
pub(super) struct Details<'a> {
    #[serde(borrow, default)]
    reason: Text<'a>,
}

/// How the choices of one reply ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends(Option<&'static str>);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub(super) finish_reason: Text<'a>,
}

impl<'de> Fold<'de> for Ends {
    type Item = Object<Choice<'de>>;

    fn take(&mut self, item: Self::Item) {
        let reason = item.0.as_ref().and_then(|choice| choice.finish_reason.get()).and_then(finish::word);
        self.0 = reason.or(self.0);
    }
}

/// Checks that `body` is a reply and reads what it used. Members that are missing or of another type are absent.
///
/// # Errors
/// [`BadJson`] when it is no JSON object: such a reply is the provider's failure and is not relayed.
pub fn reply_usage(op: Operation, body: &[u8]) -> Result<ReplyPeek, BadJson> {
    let text = json::text(body)?;
    if let Some(reply) = quick::reply(text).or_else(|| object(text)) {
        return Ok(peek(op, &reply));
    }
    if let Some(reply) = last_wins(text).as_deref().and_then(object) {
        return Ok(peek(op, &reply));
    }
    // It is no object; `check` finds out what it is, and JSON that it refuses is refused for the same reason.
    Err(match json::check(body) {
        Ok(kind) => BadJson::NotAnObject { found: kind.a() },
        Err(bad) => bad,
    })
}

fn peek(op: Operation, reply: &Reply<'_>) -> ReplyPeek {
    let usage = reply.usage;
    let (usage, reason) = match op {
        Operation::Chat | Operation::Completions | Operation::Embeddings => {
            (usage.and_then(quick::openai_usage).map(|usage| usage.normal()), reply.choices.0.and_then(|ends| ends.0))
        }
        Operation::Responses => {
            let why = reply.incomplete_details.0.as_ref().and_then(|details| details.reason.get());
            let why = why.or_else(|| reply.status.get()).and_then(finish::word);
            (usage.and_then(quick::responses_usage).map(|usage| usage.normal()), why)
        }
        Operation::Messages | Operation::CountTokens => {
            let usage = usage.and_then(quick::anthropic_usage).map(|usage| usage.normal());
            (usage, reply.stop_reason.get().and_then(finish::word))
        }
    };
    // A Response that failed has an `error` and a `status`, and is a reply all the same.
    let failed_response = op == Operation::Responses && reply.status.get().is_some();
    let is_error = reply.kind.get() == Some("error") || (reply.error.0 && !failed_response);
    ReplyPeek { usage, model: reply.model.get().map(str::to_owned), finish_reason: reason, is_error }
}
