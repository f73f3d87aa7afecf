//! The request that asks for the rest, in the client's own dialect: the original with the text so far behind it, and
//! every other byte as it was.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::joint::{Join, anchor};
use super::{Heard, Reason};
use crate::Operation;

/// The request for the rest of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The body, valid in the client's dialect.
    pub body: Bytes,
    /// How it asks.
    pub join: Join,
}

/// What stands between the request for the rest and the words to begin it with.
const ASK: &str = "Your answer was cut off by a fault in its transmission. Write the rest of it. Begin by repeating, \
                   exactly and without quotation marks, the last words that arrived, which stand below the line. Then \
                   go on from there as if nothing had happened: no apology, no comment, and nothing said before.\n---\n";

/// Writes the request for the rest of a stream. `body` is what the client sent as `heard`'s operation; it is edited on
/// its bytes. `can_prefill` says whether the target's model writes on from an answer that stands last in the request.
///
/// # Errors
/// Why it cannot be asked for, be it what was heard or what the request is.
pub fn continuation(body: &Bytes, heard: &Heard, can_prefill: bool) -> Result<Continuation, Reason> {
    heard.can_resume()?;
    let text = std::str::from_utf8(body).map_err(|_| Reason::Unreadable)?;
    match heard.op {
        Operation::Chat | Operation::Messages => conversation(body, text, heard, can_prefill),
        Operation::Completions => completion(body, text, heard),
        Operation::Responses | Operation::Embeddings | Operation::CountTokens => Err(Reason::Operation),
    }
}

fn conversation(body: &Bytes, text: &str, heard: &Heard, can_prefill: bool) -> Result<Continuation, Reason> {
    let request: Conversation<'_> = serde_json::from_str(text).map_err(|_| Reason::Unreadable)?;
    request.check()?;
    let turns: Vec<Turn<'_>> = serde_json::from_str(request.messages.get()).map_err(|_| Reason::Unreadable)?;
    let last = turns.last().ok_or(Reason::Unreadable)?;
    if last.role.as_deref() == Some("assistant") {
        return Err(Reason::Prompt);
    }
    let said = heard.text.trim_end();
    if said.trim().is_empty() {
        return Ok(Continuation { body: body.clone(), join: Join::Anew });
    }
    let join = if can_prefill && !heard.has_thought && !request.thinks() { Join::Prefill } else { Join::Ask };
    let mut added = format!(r#",{{"role":"assistant","content":{}}}"#, quoted(said));
    if join == Join::Ask {
        let ask = format!("{ASK}{}", anchor(said));
        added.push_str(&format!(r#",{{"role":"user","content":{}}}"#, quoted(&ask)));
    }
    Ok(Continuation { body: insert(text, request.messages, &added), join })
}

/// A completion has no turns: the prompt grows by what was written.
fn completion(body: &Bytes, text: &str, heard: &Heard) -> Result<Continuation, Reason> {
    let request: Completion<'_> = serde_json::from_str(text).map_err(|_| Reason::Unreadable)?;
    request.check()?;
    let said = heard.text.trim_end();
    if said.is_empty() {
        return Ok(Continuation { body: body.clone(), join: Join::Anew });
    }
    let added = quoted(said);
    let added = added.strip_prefix('"').and_then(|added| added.strip_suffix('"')).unwrap_or_default();
    Ok(Continuation { body: insert(text, request.prompt, added), join: Join::Prefill })
}

/// `text` with `added` before the bracket or quotation mark that ends `value`, which is a part of it.
fn insert(text: &str, value: &RawValue, added: &str) -> Bytes {
    let start = value.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let at = (start + value.get().len()).saturating_sub(1);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    Bytes::from([before, added, after].concat())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The members of a conversation, of either wire, that decide whether its answer can be continued.
#[derive(Deserialize)]
struct Conversation<'a> {
    #[serde(borrow)]
    messages: &'a RawValue,
    n: Option<Value>,
    logprobs: Option<Value>,
    response_format: Option<Typed<'a>>,
    modalities: Option<Vec<Value>>,
    #[serde(borrow)]
    thinking: Option<Typed<'a>>,
    output_config: Option<OutputConfig>,
    output_format: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct OutputConfig {
    format: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
}

impl Conversation<'_> {
    fn check(&self) -> Result<(), Reason> {
        let is_text = |format: &Typed<'_>| format.kind.as_deref() == Some("text");
        let is_structured = self.response_format.as_ref().is_some_and(|format| !is_text(format))
            || self.output_config.as_ref().is_some_and(|config| config.format.is_some())
            || self.output_format.is_some();
        if is_structured {
            return Err(Reason::Structured);
        }
        if is_many(self.n.as_ref()) {
            return Err(Reason::Choices);
        }
        if self.logprobs == Some(Value::Bool(true)) {
            return Err(Reason::Logprobs);
        }
        if self.modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
            return Err(Reason::OtherContent);
        }
        Ok(())
    }

    /// Whether the client has the model think: it refuses a prefill then.
    fn thinks(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.kind.as_deref() != Some("disabled"))
    }
}

/// The members of a completion that decide whether it can be continued.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    prompt: &'a RawValue,
    n: Option<Value>,
    best_of: Option<Value>,
    logprobs: Option<Value>,
    echo: Option<Value>,
    suffix: Option<Cow<'a, str>>,
}

impl Completion<'_> {
    fn check(&self) -> Result<(), Reason> {
        if is_many(self.n.as_ref()) || is_many(self.best_of.as_ref()) {
            return Err(Reason::Choices);
        }
        if self.logprobs.as_ref().is_some_and(|logprobs| !logprobs.is_null()) {
            return Err(Reason::Logprobs);
        }
        let is_plain = self.prompt.get().starts_with('"')
            && self.echo != Some(Value::Bool(true))
            && self.suffix.as_ref().is_none_or(|suffix| suffix.is_empty());
        if is_plain { Ok(()) } else { Err(Reason::Prompt) }
    }
}

fn is_many(n: Option<&Value>) -> bool {
    n.is_some_and(|n| !n.is_null() && n.as_u64() != Some(1))
}
