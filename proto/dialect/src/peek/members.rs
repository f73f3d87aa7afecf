//! The outermost members of a request: those whose place matters are kept as raw text, the others walked.

use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::whole::Whole;
use super::{BadBody, MODEL_BYTES_MAX, Peeked};
use crate::Operation;
use crate::json::{self, BadJson, DEPTH_MAX, Key, Kind, OpenNames, Scan, Walk, Walker};

/// The members that are read, as they stand in the body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members<'a> {
    model: Option<&'a str>,
    stream: Option<&'a str>,
    stream_options: Option<&'a str>,
    n: Option<u64>,
    /// The output limits; a request may name two.
    limits: [Option<u64>; 2],
    /// What kind of value carries the prompt, for the operations that must have one.
    prompt: Option<Kind>,
}

/// What a member of some name is to the gateway.
enum Role {
    Model,
    Stream,
    StreamOptions,
    N,
    Limit(usize),
    Prompt,
    Other,
}

impl Role {
    fn of(op: Operation, name: &str) -> Self {
        use Operation::{Chat, Completions, CountTokens, Embeddings, Messages, Responses};
        match (name, op) {
            ("model", _) => Self::Model,
            ("stream", Chat | Completions | Responses | Messages) => Self::Stream,
            ("stream_options", Chat | Completions) => Self::StreamOptions,
            ("n", Chat | Completions) => Self::N,
            ("max_tokens", Chat | Completions | Messages) | ("max_output_tokens", Responses) => Self::Limit(0),
            ("max_completion_tokens", Chat) => Self::Limit(1),
            ("messages", Chat | Messages | CountTokens) | ("input", Embeddings) => Self::Prompt,
            _ => Self::Other,
        }
    }
}

impl<'a> Members<'a> {
    /// Reads all of `text`, which begins an object.
    pub(super) fn read(op: Operation, text: &'a str) -> Result<Self, BadJson> {
        Self::scanned(op, text).map_or_else(|| Self::walked(op, text), Ok)
    }

    /// Reads what nearly every request looks like; `None` leaves it to the full reader.
    pub(super) fn scanned(op: Operation, text: &'a str) -> Option<Self> {
        let (mut members, mut open, mut scan) = (Self::default(), OpenNames::new(), Scan::new(text));
        scan.object(|scan, name| {
            open.add(0, name)?;
            match Role::of(op, name) {
                Role::Model => members.model = Some(scan.raw()?.1),
                Role::Stream => members.stream = Some(scan.raw()?.1),
                Role::StreamOptions => members.stream_options = Some(scan.raw()?.1),
                Role::N => members.n = scan.count_walked(&mut open)?,
                Role::Limit(at) => *members.limits.get_mut(at)? = scan.count_walked(&mut open)?,
                Role::Prompt => members.prompt = Some(scan.walk(&mut open)?),
                Role::Other => {
                    scan.walk(&mut open)?;
                }
            }
            Some(())
        })?;
        scan.end()?;
        Some(members)
    }

    /// The full reader.
    pub(super) fn walked(op: Operation, text: &'a str) -> Result<Self, BadJson> {
        let walk = Walk::default();
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = (&mut reader).deserialize_map(Top { op, walk: &walk });
        members.and_then(|members| reader.end().map(|()| members)).map_err(|error| walk.explain(&error))
    }

    /// Holds what was read to its types.
    pub(super) fn checked(self, op: Operation, text: &str) -> Result<Peeked, BadBody> {
        let (model, model_at) = model(self.model, text)?;
        self.check_prompt(op)?;
        let stream = boolean("stream", self.stream)?;
        let options = StreamOptions::read(self.stream_options, text)?;
        let include_usage = options.asks_for_usage();
        let usage_edit = match op {
            Operation::Chat | Operation::Completions if stream => options.edit(model_at.end),
            Operation::Chat
            | Operation::Completions
            | Operation::Responses
            | Operation::Embeddings
            | Operation::Messages
            | Operation::CountTokens => None,
        };
        let max_tokens = self.limits.into_iter().flatten().max();
        Ok(Peeked { model, stream, include_usage, max_tokens, n: self.n, model_at, usage_edit })
    }

    fn check_prompt(&self, op: Operation) -> Result<(), BadBody> {
        match (op, self.prompt) {
            (Operation::Completions | Operation::Responses, _) => Ok(()),
            (Operation::Embeddings, None | Some(Kind::Null)) => Err(BadBody::field("input", "is required")),
            (Operation::Embeddings, Some(_)) => Ok(()),
            (Operation::Chat | Operation::Messages | Operation::CountTokens, Some(Kind::Array)) => Ok(()),
            (Operation::Chat | Operation::Messages | Operation::CountTokens, None) => {
                Err(BadBody::field("messages", "is required"))
            }
            (Operation::Chat | Operation::Messages | Operation::CountTokens, Some(kind)) => {
                Err(BadBody::field("messages", format_args!("expected an array, found {kind}")))
            }
        }
    }
}

/// Reads the outermost object.
struct Top<'w, 'de> {
    op: Operation,
    walk: &'w Walk<'de>,
}

impl<'de> Visitor<'de> for Top<'_, 'de> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut names = self.walk.open();
        while let Some(name) = map.next_key_seed(Key)? {
            let role = Role::of(self.op, &name);
            names.add::<A::Error>(name)?;
            match role {
                // The model and `stream` may not be a list or an object, so there is nothing in them to walk.
                Role::Model => members.model = Some(map.next_value::<&RawValue>()?.get()),
                Role::Stream => members.stream = Some(map.next_value::<&RawValue>()?.get()),
                Role::StreamOptions => members.stream_options = Some(map.next_value::<&RawValue>()?.get()),
                Role::N => {
                    members.n = map.next_value_seed(Whole::new(self.walk)).inspect_err(|_| names.note())?;
                }
                Role::Limit(at) => {
                    let value = map.next_value_seed(Whole::new(self.walk)).inspect_err(|_| names.note())?;
                    if let Some(limit) = members.limits.get_mut(at) {
                        *limit = value;
                    }
                }
                Role::Prompt => {
                    let kind = map.next_value_seed(Walker::new(self.walk)).inspect_err(|_| names.note())?;
                    members.prompt = Some(kind);
                }
                Role::Other => {
                    map.next_value_seed(Walker::new(self.walk)).inspect_err(|_| names.note())?;
                }
            }
        }
        Ok(members)
    }
}

/// Where a value that was borrowed from `text` is in it.
fn span(value: &str, text: &str) -> Range<usize> {
    let start = value.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + value.len()
}

fn model(value: Option<&str>, text: &str) -> Result<(String, Range<usize>), BadBody> {
    let Some(value) = value else { return Err(BadBody::field("model", "is required")) };
    if Kind::of(value) != Kind::String {
        return Err(BadBody::expected("model", "a string", value));
    }
    let model = match value.get(1..value.len() - 1) {
        Some(plain) if !plain.contains('\\') => plain.to_owned(),
        Some(_) | None => serde_json::from_str::<String>(value)
            .map_err(|_| BadBody::field("model", "has an escape that is no character"))?,
    };
    if model.is_empty() {
        return Err(BadBody::field("model", "must not be empty"));
    }
    if model.len() > MODEL_BYTES_MAX {
        return Err(BadBody::field("model", format_args!("is longer than {MODEL_BYTES_MAX} bytes")));
    }
    Ok((model, span(value, text)))
}

fn boolean(name: &str, value: Option<&str>) -> Result<bool, BadBody> {
    match value {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(found) => Err(BadBody::expected(name, "true or false", found)),
    }
}

/// What `stream_options` says about usage, and where.
enum StreamOptions {
    Absent,
    Null(Range<usize>),
    /// An object without `include_usage`: where its first member would stand, and whether it has any.
    Silent {
        inside: usize,
        empty: bool,
    },
    /// `include_usage` is false or null.
    No(Range<usize>),
    Yes,
}

impl StreamOptions {
    fn read(value: Option<&str>, text: &str) -> Result<Self, BadBody> {
        let Some(value) = value else { return Ok(Self::Absent) };
        let at = span(value, text);
        match Kind::of(value) {
            Kind::Null => return Ok(Self::Null(at)),
            Kind::Object => {}
            Kind::Bool | Kind::Number | Kind::String | Kind::Array => {
                return Err(BadBody::expected("stream_options", "an object", value));
            }
        }
        // It is read by itself, so its depth is counted from itself. Only a long text can come near the bound; that is
        // walked once more, a level further in.
        let too_deep = || BadBody::field("stream_options", "nests too deeply");
        if value.len() > DEPTH_MAX
            && let Err(BadJson::TooDeep { .. }) = json::check(format!("[{value}]").as_bytes())
        {
            return Err(too_deep());
        }
        let walk = Walk::default();
        let mut reader = serde_json::Deserializer::from_str(value);
        let found = (&mut reader).deserialize_map(Options { walk: &walk });
        let found = found.map_err(|error| match walk.explain(&error) {
            BadJson::Duplicate { key, .. } => BadBody {
                code: troupe_proto::failure::ErrorCode::DuplicateKey,
                message: format!("stream_options: the member {key:?} is there twice"),
                param: Some(format!("stream_options.{key}")),
            },
            // The place would be counted from the start of this member.
            BadJson::TooDeep { .. } => too_deep(),
            BadJson::NotUtf8 { .. } | BadJson::Syntax { .. } | BadJson::NotAnObject { .. } => {
                BadBody::field("stream_options", "is not valid JSON")
            }
        })?;
        match found.include_usage {
            Some(usage) if boolean("stream_options.include_usage", Some(usage))? => Ok(Self::Yes),
            Some(usage) => Ok(Self::No(span(usage, text))),
            None => Ok(Self::Silent { inside: at.start + 1, empty: found.empty }),
        }
    }

    const fn asks_for_usage(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// What to write where so that usage is asked for. `after_model` is a place where a member may follow.
    fn edit(self, after_model: usize) -> Option<(Range<usize>, &'static str)> {
        match self {
            Self::Absent => Some((after_model..after_model, r#","stream_options":{"include_usage":true}"#)),
            Self::Null(at) => Some((at, r#"{"include_usage":true}"#)),
            Self::Silent { inside, empty: true } => Some((inside..inside, r#""include_usage":true"#)),
            Self::Silent { inside, empty: false } => Some((inside..inside, r#""include_usage":true,"#)),
            Self::No(at) => Some((at, "true")),
            Self::Yes => None,
        }
    }
}

/// Reads `stream_options`.
struct Options<'w, 'de> {
    walk: &'w Walk<'de>,
}

struct OptionsFound<'de> {
    include_usage: Option<&'de str>,
    empty: bool,
}

impl<'de> Visitor<'de> for Options<'_, 'de> {
    type Value = OptionsFound<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = OptionsFound { include_usage: None, empty: true };
        let mut names = self.walk.open();
        while let Some(name) = map.next_key_seed(Key)? {
            found.empty = false;
            let is_usage = name == "include_usage";
            names.add::<A::Error>(name)?;
            if is_usage {
                found.include_usage = Some(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value_seed(Walker::new(self.walk)).inspect_err(|_| names.note())?;
            }
        }
        Ok(found)
    }
}
