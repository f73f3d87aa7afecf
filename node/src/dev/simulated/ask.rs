//! What a request wants from the simulated model, in one form for every wire.

use serde_json::{Value, json};
use troupe_proto::failure::ErrorCode;

use super::schema;

/// The most characters of a prompt that an answer quotes.
const QUOTE_CHARS_MAX: usize = 200;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// The member of the body at fault.
    pub(super) param: Option<&'static str>,
}

impl Bad {
    /// A member that is missing or unfit.
    pub(super) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { code: ErrorCode::InvalidField, message: message.into(), param: Some(param) }
    }
}

/// Whether the reply comes whole or as events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Stream,
}

/// What kind of answer is wanted.
#[derive(Debug, PartialEq)]
pub(super) enum Form {
    Text,
    /// JSON as text: this value.
    Json(Value),
    /// A call of this tool with these arguments.
    Call {
        name: String,
        arguments: Value,
    },
}

/// One request, understood.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    /// The same for the same body, so that the same request always gets the same reply.
    pub(super) id: String,
    pub(super) delivery: Delivery,
    pub(super) form: Form,
    /// A sentence about the last thing the caller said.
    pub(super) heard: String,
    pub(super) tokens_in: u64,
    pub(super) tokens_out_max: Option<u64>,
}

impl Ask {
    /// Reads the members that all wires share; `limits` names those that bound the output, the first present wins.
    pub(super) fn read(body: &Value, id: String, limits: &[&'static str]) -> Result<Self, Bad> {
        let model = body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| Bad::field("model", "'model' must be a string that is not empty"))?.to_owned();
        let delivery = match body.get("stream") {
            None | Some(Value::Null | Value::Bool(false)) => Delivery::Whole,
            Some(Value::Bool(true)) => Delivery::Stream,
            Some(_) => return Err(Bad::field("stream", "'stream' must be true or false")),
        };
        let limit = limits.iter().find_map(|name| body.get(*name).filter(|v| !v.is_null()).map(|v| (*name, v)));
        let tokens_out_max = match limit {
            None => None,
            Some((name, value)) => match value.as_u64() {
                Some(limit) if limit > 0 => Some(limit),
                _ => return Err(Bad::field(name, format!("'{name}' must be a whole number from 1 on"))),
            },
        };
        let tokens_in = prompt_tokens(body);
        Ok(Self { model, id, delivery, form: Form::Text, heard: String::new(), tokens_in, tokens_out_max })
    }
}

/// The sentence about a text that the caller said.
pub(super) fn heard(text: &str) -> String {
    if text.is_empty() { "You sent no text.".to_owned() } else { format!("You said: {}.", quote(text)) }
}

/// The sentence about what a tool gave back.
pub(super) fn heard_tool(text: &str) -> String {
    format!("The tool answered: {}.", quote(text))
}

fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    format!("\"{quoted}\"")
}

/// The text of a message's content: a string, or what the text parts among its parts say.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// The messages (or items) of a request, at least one.
pub(super) fn messages<'a>(body: &'a Value, name: &'static str) -> Result<&'a [Value], Bad> {
    let list = body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() || !list.iter().all(Value::is_object) {
        return Err(Bad::field(name, format!("'{name}' must be a list of at least one message")));
    }
    Ok(list)
}

/// A function the model may call.
pub(super) struct Tool<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Option<&'a Value>,
}

/// Which tool the caller forces.
pub(super) enum Forced<'a> {
    None,
    Any,
    Named(&'a str),
}

/// The call that `forced` demands of `tools`; a simulated model calls nothing it is not made to.
pub(super) fn call(tools: &[Tool<'_>], forced: &Forced<'_>) -> Result<Option<Form>, Bad> {
    let tool = match forced {
        Forced::None => return Ok(None),
        Forced::Any => tools.first(),
        Forced::Named(name) => tools.iter().find(|tool| tool.name == *name),
    };
    let tool = tool.ok_or_else(|| Bad::field("tool_choice", "'tool_choice' names no function among 'tools'"))?;
    let arguments = tool.parameters.map_or_else(|| json!({}), schema::fill);
    Ok(Some(Form::Call { name: tool.name.to_owned(), arguments }))
}

/// Which tool an OpenAI `tool_choice` forces, in the shape of chat and of Responses.
pub(super) fn forced(choice: Option<&Value>) -> Forced<'_> {
    let Some(choice) = choice else { return Forced::None };
    let named = |value: &'_ Value, path: &str| value.pointer(path).is_some_and(Value::is_string);
    match choice.get("type").and_then(Value::as_str) {
        None if choice == "required" => Forced::Any,
        Some("function") => {
            let path = if named(choice, "/function/name") { "/function/name" } else { "/name" };
            choice.pointer(path).and_then(Value::as_str).map_or(Forced::Any, Forced::Named)
        }
        Some("allowed_tools") => {
            let allowed = choice.get("allowed_tools").unwrap_or(choice);
            let first = allowed.pointer("/tools/0/function/name").or_else(|| allowed.pointer("/tools/0/name"));
            match first.and_then(Value::as_str) {
                Some(name) if allowed.get("mode").is_some_and(|mode| mode == "required") => Forced::Named(name),
                _ => Forced::None,
            }
        }
        _ => Forced::None,
    }
}

/// The JSON that a `response_format` (or `text.format`) asks for; `schema` is where that wire keeps the schema.
pub(super) fn json_form(format: Option<&Value>, schema: &str) -> Result<Form, Bad> {
    match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_object") => Ok(Form::Json(json!({ "message": "Hello from the simulated model." }))),
        Some("json_schema") => {
            let schema = format.and_then(|format| format.pointer(schema));
            let schema = schema.ok_or_else(|| Bad::field("response_format", "the format's 'schema' is missing"))?;
            Ok(Form::Json(schema::fill(schema)))
        }
        _ => Ok(Form::Text),
    }
}

/// About four bytes of text are a token, rounded up. Pictures and other data count nothing.
pub(super) fn prompt_tokens(body: &Value) -> u64 {
    let members = ["system", "instructions", "messages", "input", "prompt", "tools"];
    let bytes: usize = members.iter().filter_map(|name| body.get(*name)).map(|value| text_bytes(value, None)).sum();
    tokens_of(bytes)
}

/// The tokens of so many bytes.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Members whose strings are no text: labels, ids, and data that is no text either.
const NO_TEXT: [&str; 12] = [
    "cache_control",
    "call_id",
    "data",
    "file_data",
    "id",
    "image_url",
    "media_type",
    "role",
    "signature",
    "tool_call_id",
    "tool_use_id",
    "type",
];

fn text_bytes(value: &Value, member: Option<&str>) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| text_bytes(item, member)).sum(),
        Value::Object(members) => {
            let texts = members.iter().filter(|(name, _)| !NO_TEXT.contains(&name.as_str()));
            texts.map(|(name, value)| text_bytes(value, Some(name))).sum()
        }
        // A prompt may come as token numbers; each is one token.
        Value::Number(_) if member.is_none() => 4,
        Value::Number(_) | Value::Null | Value::Bool(_) => 0,
    }
}

/// A number that is the same for the same bytes, on every machine (FNV-1a).
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
