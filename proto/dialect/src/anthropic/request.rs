//! The request of a message.

use serde_json::{Value, json};

use super::block;
use crate::Dialect;
use crate::call::{
    Call, Content, Extra, Format, Function, JsonSchema, Message, Role, Shape, Stop, ThinkingMode, ThinkingRule,
    TokenLimit, TokenLimitName, Tool, ToolChoice, ToolRule,
};
use crate::fields::{FieldError, Fields, Object, Path};

/// Reads a request.
///
/// # Errors
/// [`FieldError`] naming the first member that is missing or of the wrong type.
pub fn decode(body: Value) -> Result<Call, FieldError> {
    let mut fields = Fields::new(body, Path::ROOT)?;
    let path = fields.path;

    let model = fields.text_required("model")?;
    let tokens = fields.count("max_tokens")?.ok_or_else(|| fields.missing("max_tokens"))?;
    let listed = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    let messages_path = path.key("messages");
    let messages = listed
        .into_iter()
        .enumerate()
        .map(|(at, message)| decode_message(message, messages_path.index(at)))
        .collect::<Result<_, _>>()?;
    let system = Some(block::decode_content(&mut fields, "system")?).filter(|system| system.shape != Shape::Absent);
    let (tool_choice, parallel_tools) = decode_choice(&mut fields)?;
    let (effort, format) = decode_output(&mut fields)?;

    Ok(Call {
        dialect: Dialect::Anthropic,
        model,
        system,
        messages,
        tools: decode_tools(&mut fields)?,
        tool_choice,
        parallel_tools,
        legacy_functions: false,
        max_tokens: Some(TokenLimit { tokens, name: TokenLimitName::MaxCompletionTokens }),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stop: decode_stop(&mut fields)?,
        stream: fields.flag("stream")?,
        include_usage: None,
        thinking: decode_thinking(&mut fields)?,
        effort,
        format,
        user: decode_user(&mut fields)?,
        extra: fields.rest(),
    })
}

/// Writes a request. What Anthropic's wire has no words for must have been translated away before.
pub fn encode(call: Call) -> Value {
    let messages: Vec<Value> = call.messages.into_iter().map(encode_message).collect();
    let mut object =
        Object::default().with("model", call.model).with_some("max_tokens", call.max_tokens.map(|limit| limit.tokens));
    if let Some(system) = call.system {
        object = block::encode_content(object, "system", system);
    }
    object = object.with("messages", messages);
    let tools: Vec<Value> = call.tools.into_iter().map(encode_tool).collect();
    if !tools.is_empty() {
        object = object.with("tools", tools);
    }
    let output =
        Object::default().with_some("effort", call.effort).with_some("format", call.format.and_then(encode_format));
    if !output.is_empty() {
        object = object.with("output_config", output.build());
    }
    object
        .with_some("tool_choice", encode_choice(call.tool_choice, call.parallel_tools))
        .with_some("temperature", call.temperature.map(Value::Number))
        .with_some("top_p", call.top_p.map(Value::Number))
        .with_some("top_k", call.top_k)
        .with_some("stop_sequences", call.stop.map(|stop| stop.texts))
        .with_some("stream", call.stream)
        .with_some("thinking", call.thinking.map(encode_thinking))
        .with_some("metadata", call.user.map(|user| json!({ "user_id": user })))
        .extra(call.extra)
        .build()
}

fn decode_message(value: Value, path: Path<'_>) -> Result<Message, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let role = match fields.text_required("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(path.key("role").error("must be one of user, assistant, system")),
    };
    let content = block::decode_content(&mut fields, "content")?;
    if content.shape == Shape::Absent {
        return Err(fields.missing("content"));
    }
    Ok(Message { role, content, extra: fields.rest() })
}

fn encode_message(message: Message) -> Value {
    let role = match message.role {
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
        Role::System | Role::Developer => "system",
    };
    // Content is required on this wire.
    let content = match message.content.shape {
        Shape::Absent => Content::parts(message.content.parts),
        Shape::Text | Shape::Parts => message.content,
    };
    block::encode_content(Object::default().with("role", role), "content", content).extra(message.extra).build()
}

fn decode_tools(fields: &mut Fields<'_>) -> Result<Vec<Tool>, FieldError> {
    if fields.peek("tools").is_some_and(|tools| tools.as_array().is_some_and(Vec::is_empty)) {
        return Ok(Vec::new());
    }
    let path = fields.path;
    let list_path = path.key("tools");
    let list = fields.list("tools")?.unwrap_or_default();
    list.into_iter().enumerate().map(|(at, tool)| decode_tool(tool, list_path.index(at))).collect()
}

fn decode_tool(value: Value, path: Path<'_>) -> Result<Tool, FieldError> {
    // A custom tool may or may not say its type; saying it stays in `extra`.
    if value.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "custom") {
        return Ok(Tool::Other(value));
    }
    let mut fields = Fields::new(value, path)?;
    Ok(Tool::Function(Function {
        name: fields.text_required("name")?,
        description: fields.text("description")?,
        schema: fields.take("input_schema"),
        strict: fields.flag("strict")?,
        extra: fields.rest(),
    }))
}

fn encode_tool(tool: Tool) -> Value {
    match tool {
        Tool::Other(value) => value,
        Tool::Function(function) => Object::default()
            .with("name", function.name)
            .with_some("description", function.description)
            .with_some("input_schema", function.schema)
            .with_some("strict", function.strict)
            .extra(function.extra)
            .build(),
    }
}

fn decode_choice(fields: &mut Fields<'_>) -> Result<(Option<ToolChoice>, Option<bool>), FieldError> {
    let Some(value) = fields.take("tool_choice") else { return Ok((None, None)) };
    let path = fields.path;
    let mut choice = Fields::new(value, path.key("tool_choice"))?;
    let kind = choice.text_required("type")?;
    let rule = match kind.as_str() {
        "auto" => ToolRule::Auto,
        "any" => ToolRule::Required,
        "none" => ToolRule::None,
        "tool" => ToolRule::Tool(choice.text_required("name")?),
        _ => {
            choice.put("type", kind.into());
            let rule = ToolRule::Other(Value::Object(choice.rest()));
            return Ok((Some(ToolChoice { rule, extra: Extra::new() }), None));
        }
    };
    let disabled = choice.flag("disable_parallel_tool_use")?;
    Ok((Some(ToolChoice { rule, extra: choice.rest() }), disabled.map(|disabled| !disabled)))
}

fn encode_choice(choice: Option<ToolChoice>, parallel: Option<bool>) -> Option<Value> {
    let disabled = parallel.map(|parallel| !parallel);
    let Some(choice) = choice else {
        return disabled.map(|disabled| json!({ "type": "auto", "disable_parallel_tool_use": disabled }));
    };
    let object = match choice.rule {
        ToolRule::Auto => Object::default().with("type", "auto"),
        ToolRule::Required => Object::default().with("type", "any"),
        ToolRule::None => Object::default().with("type", "none"),
        ToolRule::Tool(name) => Object::default().with("type", "tool").with("name", name),
        ToolRule::Other(value) => return Some(value),
    };
    Some(object.with_some("disable_parallel_tool_use", disabled).extra(choice.extra).build())
}

fn decode_stop(fields: &mut Fields<'_>) -> Result<Option<Stop>, FieldError> {
    let path = fields.path;
    let Some(list) = fields.list("stop_sequences")? else { return Ok(None) };
    let texts = list.into_iter().enumerate().map(|(at, text)| match text {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(path.key("stop_sequences").index(at).error("must be a string"))
        }
    });
    Ok(Some(Stop { texts: texts.collect::<Result<_, _>>()?, bare: false }))
}

fn decode_output(fields: &mut Fields<'_>) -> Result<(Option<String>, Option<Format>), FieldError> {
    let Some(value) = fields.take("output_config") else { return Ok((None, None)) };
    let path = fields.path;
    let output_path = path.key("output_config");
    let mut output = Fields::new(value, output_path)?;
    let effort = output.text("effort")?;
    let is_schema =
        output.peek("format").and_then(|format| format.get("type")).is_some_and(|kind| kind == "json_schema");
    let mut format = None;
    if is_schema {
        let mut inner = Fields::new(output.take("format").unwrap_or_default(), output_path.key("format"))?;
        inner.take("type");
        format = Some(Format::JsonSchema(JsonSchema {
            name: inner.text("name")?,
            description: inner.text("description")?,
            strict: None,
            schema: inner.take("schema"),
            extra: inner.rest(),
        }));
    }
    let rest = output.rest();
    if effort.is_none() && format.is_none() {
        fields.put("output_config", Value::Object(rest));
    } else {
        fields.put_back("output_config", rest);
    }
    Ok((effort, format))
}

/// Writes an output format; `None` for those Anthropic's wire does not have.
fn encode_format(format: Format) -> Option<Value> {
    match format {
        Format::JsonSchema(schema) => Some(
            Object::default()
                .with("type", "json_schema")
                .with_some("name", schema.name)
                .with_some("description", schema.description)
                .with_some("schema", schema.schema)
                .extra(schema.extra)
                .build(),
        ),
        Format::Text | Format::JsonObject => None,
    }
}

fn decode_thinking(fields: &mut Fields<'_>) -> Result<Option<ThinkingMode>, FieldError> {
    let Some(value) = fields.take("thinking") else { return Ok(None) };
    let path = fields.path;
    let mut mode = Fields::new(value, path.key("thinking"))?;
    let kind = mode.text_required("type")?;
    let rule = match kind.as_str() {
        "enabled" => {
            let budget = mode.count("budget_tokens")?.ok_or_else(|| mode.missing("budget_tokens"))?;
            ThinkingRule::Enabled { budget }
        }
        "adaptive" => ThinkingRule::Adaptive,
        "between_tools" => ThinkingRule::BetweenTools,
        "disabled" => ThinkingRule::Disabled,
        _ => ThinkingRule::Other(kind),
    };
    Ok(Some(ThinkingMode { rule, extra: mode.rest() }))
}

fn encode_thinking(mode: ThinkingMode) -> Value {
    let object = match mode.rule {
        ThinkingRule::Enabled { budget } => Object::default().with("type", "enabled").with("budget_tokens", budget),
        ThinkingRule::Adaptive => Object::default().with("type", "adaptive"),
        ThinkingRule::BetweenTools => Object::default().with("type", "between_tools"),
        ThinkingRule::Disabled => Object::default().with("type", "disabled"),
        ThinkingRule::Other(kind) => Object::default().with("type", kind),
    };
    object.extra(mode.extra).build()
}

fn decode_user(fields: &mut Fields<'_>) -> Result<Option<String>, FieldError> {
    if fields.peek("metadata").and_then(|metadata| metadata.get("user_id")).is_none_or(Value::is_null) {
        return Ok(None);
    }
    let path = fields.path;
    let mut metadata = Fields::new(fields.take("metadata").unwrap_or_default(), path.key("metadata"))?;
    let user = metadata.text("user_id")?;
    fields.put_back("metadata", metadata.rest());
    Ok(user)
}
