//! Tools and tool choice, from OpenAI's words to Anthropic's.

use serde_json::{Value, json};

use crate::call::{Call, Extra, Function, Part, Tool, ToolChoice, ToolRule};
use crate::translate::shaping::Shaping;
use crate::translate::{Context, TranslateError};

pub(super) fn shape(call: &mut Call, context: &Context, shaping: &mut Shaping) -> Result<(), TranslateError> {
    if context.legacy_functions {
        // The old spelling has room for one call an answer.
        call.parallel_tools = Some(false);
    }
    for tool in std::mem::take(&mut call.tools) {
        match tool {
            Tool::Function(function) => call.tools.push(Tool::Function(shape_function(function, shaping))),
            Tool::Other(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
                shaping.refuse_member("tools", kind)?;
            }
        }
    }
    shape_choice(call, shaping)?;
    if call.tools.is_empty() {
        stub_history(call);
    }
    // One call at a time has to be said; several are Anthropic's default. Without tools both say nothing.
    call.parallel_tools = call.parallel_tools.filter(|parallel| !parallel && !call.tools.is_empty());
    if call.tool_choice.as_ref().is_some_and(|choice| choice.rule == ToolRule::None) {
        call.parallel_tools = None;
    }
    Ok(())
}

fn shape_function(mut function: Function, shaping: &mut Shaping) -> Function {
    for (key, value) in std::mem::take(&mut function.extra) {
        match value {
            Value::Object(rest) if key == "function" => shaping.lost.extra("tools.function", &rest),
            value => shaping.lose("tools", &key, value),
        }
    }
    let mut schema = function.schema.take().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    if let Value::Object(members) = &mut schema
        && !members.contains_key("type")
    {
        // Anthropic insists on the word; arguments are an object in any case.
        members.insert("type".to_owned(), "object".into());
    }
    function.schema = Some(schema);
    function
}

fn shape_choice(call: &mut Call, shaping: &mut Shaping) -> Result<(), TranslateError> {
    let Some(choice) = call.tool_choice.take() else { return Ok(()) };
    shaping.lost.extra("tool_choice", &choice.extra);
    let rule = match choice.rule {
        rule @ (ToolRule::Auto | ToolRule::None | ToolRule::Required | ToolRule::Tool(_)) => Some(rule),
        ToolRule::Other(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("type");
            if kind == "allowed_tools" {
                Some(allow_only(call, &value)?)
            } else {
                shaping.refuse_member("tool_choice", kind)?;
                None
            }
        }
    };
    // A rule about no tools says nothing, and Anthropic refuses it.
    call.tool_choice = rule.filter(|_| !call.tools.is_empty()).map(|rule| ToolChoice { rule, extra: Extra::new() });
    Ok(())
}

/// `allowed_tools` keeps the listed tools only, which is what it asks for.
fn allow_only(call: &mut Call, choice: &Value) -> Result<ToolRule, TranslateError> {
    let wrong =
        || TranslateError::invalid_field("tool_choice.allowed_tools", "must have a mode and a list of functions");
    let allowed = choice.get("allowed_tools").ok_or_else(wrong)?;
    let names: Vec<&str> = allowed
        .get("tools")
        .and_then(Value::as_array)
        .ok_or_else(wrong)?
        .iter()
        .filter_map(|tool| tool.pointer("/function/name").or_else(|| tool.get("name")).and_then(Value::as_str))
        .collect();
    call.tools.retain(|tool| match tool {
        Tool::Function(function) => names.contains(&function.name.as_str()),
        Tool::Other(_) => false,
    });
    match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") | None => Ok(ToolRule::Auto),
        Some("required") => Ok(ToolRule::Required),
        Some(_) => Err(wrong()),
    }
}

/// Anthropic wants tools declared once the history calls some. They are declared, and calling them is ruled out, as it
/// was for the client, who declared none.
fn stub_history(call: &mut Call) {
    let mut names: Vec<&str> = Vec::new();
    let mut results = false;
    for part in call.messages.iter().flat_map(|message| &message.content.parts) {
        match part {
            Part::ToolCall(used) if !names.contains(&used.name.as_str()) => names.push(&used.name),
            Part::ToolResult(_) => results = true,
            _ => {}
        }
    }
    if names.is_empty() && results {
        names.push("unknown");
    }
    let stub = |name: &str| {
        Tool::Function(Function {
            name: name.to_owned(),
            description: None,
            schema: Some(json!({ "type": "object" })),
            strict: None,
            extra: Extra::new(),
        })
    };
    let tools: Vec<Tool> = names.into_iter().map(stub).collect();
    if !tools.is_empty() {
        call.tools = tools;
        call.tool_choice = Some(ToolChoice { rule: ToolRule::None, extra: Extra::new() });
    }
}
