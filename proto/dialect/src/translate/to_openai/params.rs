//! Parameters and tools, from Anthropic's words to OpenAI's.

use serde_json::{Number, Value};

use super::parts::Names;
use crate::call::{Call, Extra, Format, ThinkingRule, Tool, ToolChoice, ToolRule};
use crate::translate::shaping::{Shaping, says_nothing};
use crate::translate::{RequestOptions, TranslateError};

/// OpenAI takes so many stop texts.
const STOPS_MAX: usize = 4;
/// OpenAI takes so long a name of a user.
const USER_BYTES_MAX: usize = 64;

pub(super) fn shape_tools(call: &mut Call, names: &mut Names, shaping: &mut Shaping) -> Result<(), TranslateError> {
    for tool in std::mem::take(&mut call.tools) {
        match tool {
            Tool::Function(mut function) => {
                // Saying that a custom tool is custom says nothing.
                function.extra.shift_remove("type");
                shaping.lost.extra("tools", &std::mem::take(&mut function.extra));
                function.name = names.map(function.name);
                call.tools.push(Tool::Function(function));
            }
            Tool::Other(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
                shaping.refuse_member("tools", kind)?;
            }
        }
    }
    if let Some(choice) = call.tool_choice.take() {
        shaping.lost.extra("tool_choice", &choice.extra);
        let rule = match choice.rule {
            rule @ (ToolRule::Auto | ToolRule::None | ToolRule::Required) => Some(rule),
            ToolRule::Tool(name) => Some(ToolRule::Tool(names.map(name))),
            ToolRule::Other(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
                shaping.refuse_member("tool_choice", kind)?;
                None
            }
        };
        // OpenAI refuses a rule about no tools.
        call.tool_choice = rule.filter(|_| !call.tools.is_empty()).map(|rule| ToolChoice { rule, extra: Extra::new() });
    }
    // Several calls at a time are the default on both wires.
    call.parallel_tools = call.parallel_tools.filter(|parallel| !parallel && !call.tools.is_empty());
    Ok(())
}

pub(super) fn shape(
    call: &mut Call,
    options: &RequestOptions<'_>,
    shaping: &mut Shaping,
) -> Result<(), TranslateError> {
    if call.top_k.take().is_some() {
        shaping.lost.dropped("top_k");
    }
    if !options.sampling_allowed {
        let one = |number: &Number| number.as_f64().is_some_and(|number| number.total_cmp(&1.0).is_eq());
        if call.temperature.take().is_some_and(|temperature| !one(&temperature)) {
            shaping.lost.dropped("temperature");
        }
        if call.top_p.take().is_some_and(|top_p| !one(&top_p)) {
            shaping.lost.dropped("top_p");
        }
    }
    if let Some(stop) = &mut call.stop
        && stop.texts.len() > STOPS_MAX
    {
        stop.texts.truncate(STOPS_MAX);
        shaping.lost.changed("stop_sequences");
    }
    call.stop.take_if(|stop| stop.texts.is_empty());
    if call.user.take_if(|user| user.len() > USER_BYTES_MAX).is_some() {
        shaping.lost.dropped("metadata.user_id");
    }
    shape_thinking(call, shaping);
    shape_format(call, shaping);
    let mut kept = Extra::new();
    for (key, value) in std::mem::take(&mut call.extra) {
        if !says_nothing(&value) {
            shape_member(&key, value, &mut kept, shaping)?;
        }
    }
    call.extra = kept;
    Ok(())
}

/// Decides about one member the canonical form has no word for.
fn shape_member(key: &str, value: Value, kept: &mut Extra, shaping: &mut Shaping) -> Result<(), TranslateError> {
    match (key, value) {
        ("mcp_servers", _) => shaping.refuse("mcp_servers")?,
        ("container", _) => shaping.refuse("container")?,
        ("metadata", Value::Object(rest)) => shaping.lost.extra("metadata", &rest),
        ("output_config", Value::Object(rest)) if rest.contains_key("format") => {
            shaping.refuse("output_config.format")?;
        }
        ("output_config", Value::Object(rest)) => shaping.lost.extra("output_config", &rest),
        ("service_tier", Value::String(tier)) if tier == "auto" => {
            kept.insert("service_tier".to_owned(), "auto".into());
        }
        ("service_tier", Value::String(tier)) if tier == "standard_only" => {
            kept.insert("service_tier".to_owned(), "default".into());
        }
        (key, value) => shaping.lose("", key, value),
    }
    Ok(())
}

/// An effort said in words goes as it is; a budget becomes the nearest word. A mode without either is the model's own
/// decision, for which OpenAI has no word.
fn shape_thinking(call: &mut Call, shaping: &mut Shaping) {
    let Some(mode) = call.thinking.take() else { return };
    shaping.lost.extra("thinking", &mode.extra);
    match mode.rule {
        ThinkingRule::Enabled { budget } => {
            shaping.lost.changed("thinking.budget_tokens");
            let word = match budget {
                0..4_096 => "low",
                4_096..12_288 => "medium",
                12_288.. => "high",
            };
            call.effort.get_or_insert_with(|| word.to_owned());
        }
        ThinkingRule::Adaptive if call.effort.is_some() => {}
        ThinkingRule::Adaptive | ThinkingRule::BetweenTools | ThinkingRule::Disabled | ThinkingRule::Other(_) => {
            shaping.lost.dropped("thinking.type");
        }
    }
}

fn shape_format(call: &mut Call, shaping: &mut Shaping) {
    let Some(Format::JsonSchema(schema)) = &mut call.format else { return };
    shaping.lost.extra("output_config.format", &std::mem::take(&mut schema.extra));
    // OpenAI wants a label.
    schema.name.get_or_insert_with(|| "output".to_owned());
    let strict = schema.schema.as_ref().is_some_and(is_strict);
    if !strict {
        // OpenAI refuses to hold output to a schema with optional members; it follows it as well as it can instead.
        shaping.lost.changed("output_config.format");
    }
    schema.strict = Some(strict);
}

/// Whether every object of a schema closes its members and requires them all, as OpenAI's strict mode wants. The JSON
/// reader's depth limit bounds the recursion.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let own = members.get("properties").and_then(Value::as_object).is_none_or(|properties| {
                let required = members.get("required").and_then(Value::as_array);
                let is_required = |name: &String| required.is_some_and(|list| list.iter().any(|entry| entry == name));
                members.get("additionalProperties") == Some(&Value::Bool(false)) && properties.keys().all(is_required)
            });
            own && members.values().all(is_strict)
        }
        Value::Array(list) => list.iter().all(is_strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
