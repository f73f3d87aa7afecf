//! Tools, tool choice and tool calls, in the current and in the old spelling.

use serde_json::{Value, json};

use crate::call::{Arguments, Extra, Function, Part, Tool, ToolCall, ToolChoice, ToolRule};
use crate::fields::{FieldError, Fields, Object, Path};

/// What a request says about tools.
pub(super) struct ToolSet {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<ToolChoice>,
    pub(super) legacy: bool,
}

pub(super) fn decode(fields: &mut Fields<'_>) -> Result<ToolSet, FieldError> {
    let path = fields.path;
    let listed = |value: Option<&Value>| value.and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    // An empty list says nothing: it stays in `extra`, so that it is written as it came. The old spelling is read only
    // where the new one is absent; with both, it stays in `extra` too.
    let legacy = fields.peek("tools").is_none()
        && fields.peek("tool_choice").is_none()
        && (listed(fields.peek("functions")) || fields.peek("function_call").is_some());
    let key = if legacy { "functions" } else { "tools" };
    let tools = if fields.peek(key).is_some_and(|value| value.as_array().is_some_and(Vec::is_empty)) {
        Vec::new()
    } else {
        let list_path = path.key(key);
        let list = fields.list(key)?.unwrap_or_default();
        let decode = if legacy { decode_function } else { decode_tool };
        list.into_iter().enumerate().map(|(at, tool)| decode(tool, list_path.index(at))).collect::<Result<_, _>>()?
    };
    let choice = decode_choice(fields, if legacy { "function_call" } else { "tool_choice" }, legacy)?;
    Ok(ToolSet { tools, choice, legacy })
}

pub(super) fn encode(object: Object, tools: Vec<Tool>, choice: Option<ToolChoice>, legacy: bool) -> Object {
    let list: Vec<Value> = tools.into_iter().map(|tool| encode_tool(tool, legacy)).collect();
    let object = match (list.is_empty(), legacy) {
        (true, _) => object,
        (false, false) => object.with("tools", list),
        (false, true) => object.with("functions", list),
    };
    let key = if legacy { "function_call" } else { "tool_choice" };
    object.with_some(key, choice.map(|choice| encode_choice(choice, legacy)))
}

fn decode_tool(value: Value, path: Path<'_>) -> Result<Tool, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let kind = fields.text_required("type")?;
    if kind != "function" {
        fields.put("type", kind.into());
        return Ok(Tool::Other(Value::Object(fields.rest())));
    }
    let inner = fields.take("function").ok_or_else(|| fields.missing("function"))?;
    let mut inner = Fields::new(inner, path.key("function"))?;
    let mut function = take_function(&mut inner)?;
    fields.put_back("function", inner.rest());
    function.extra = fields.rest();
    Ok(Tool::Function(function))
}

fn decode_function(value: Value, path: Path<'_>) -> Result<Tool, FieldError> {
    let mut fields = Fields::new(value, path)?;
    let mut function = take_function(&mut fields)?;
    function.extra = fields.rest();
    Ok(Tool::Function(function))
}

fn take_function(fields: &mut Fields<'_>) -> Result<Function, FieldError> {
    Ok(Function {
        name: fields.text_required("name")?,
        description: fields.text("description")?,
        schema: fields.take("parameters"),
        strict: fields.flag("strict")?,
        extra: Extra::new(),
    })
}

fn encode_tool(tool: Tool, legacy: bool) -> Value {
    let function = match tool {
        Tool::Function(function) => function,
        Tool::Other(value) => return value,
    };
    let inner = Object::default()
        .with("name", function.name)
        .with_some("description", function.description)
        .with_some("parameters", function.schema)
        .with_some("strict", function.strict);
    if legacy {
        return inner.extra(function.extra).build();
    }
    Object::default().with("type", "function").with("function", inner.build()).extra(function.extra).build()
}

fn decode_choice(fields: &mut Fields<'_>, key: &str, legacy: bool) -> Result<Option<ToolChoice>, FieldError> {
    let path = fields.path;
    let wrong = || path.key(key).error("must be none, auto, required or an object that names a tool");
    let Some(value) = fields.take(key) else { return Ok(None) };
    let plain = |rule| ToolChoice { rule, extra: Extra::new() };
    match value {
        Value::String(word) => match word.as_str() {
            "none" => Ok(Some(plain(ToolRule::None))),
            "auto" => Ok(Some(plain(ToolRule::Auto))),
            "required" | "any" => Ok(Some(plain(ToolRule::Required))),
            _ => Err(wrong()),
        },
        Value::Object(mut object) => {
            let named = |object: &mut Extra| match object.shift_remove("name") {
                Some(Value::String(name)) => Ok(name),
                _ => Err(wrong()),
            };
            if legacy {
                let name = named(&mut object)?;
                return Ok(Some(ToolChoice { rule: ToolRule::Tool(name), extra: object }));
            }
            if object.get("type").is_none_or(|kind| kind != "function") {
                return Ok(Some(plain(ToolRule::Other(Value::Object(object)))));
            }
            object.shift_remove("type");
            let Some(Value::Object(mut inner)) = object.shift_remove("function") else { return Err(wrong()) };
            let name = named(&mut inner)?;
            if !inner.is_empty() {
                object.insert("function".to_owned(), Value::Object(inner));
            }
            Ok(Some(ToolChoice { rule: ToolRule::Tool(name), extra: object }))
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Null => Err(wrong()),
    }
}

fn encode_choice(choice: ToolChoice, legacy: bool) -> Value {
    match choice.rule {
        ToolRule::Auto => "auto".into(),
        ToolRule::None => "none".into(),
        ToolRule::Required => "required".into(),
        ToolRule::Tool(name) if legacy => Object::default().with("name", name).extra(choice.extra).build(),
        ToolRule::Tool(name) => Object::default()
            .with("type", "function")
            .with("function", json!({ "name": name }))
            .extra(choice.extra)
            .build(),
        ToolRule::Other(value) => value,
    }
}

/// Takes the calls out of an assistant's message and appends them to its parts.
pub(super) fn decode_calls(fields: &mut Fields<'_>, parts: &mut Vec<Part>) -> Result<(), FieldError> {
    let path = fields.path;
    if fields.peek("tool_calls").is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
        let list_path = path.key("tool_calls");
        for (at, call) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
            parts.push(decode_call(call, list_path.index(at))?);
        }
    }
    if let Some(value) = fields.take("function_call") {
        let mut call = Fields::new(value, path.key("function_call"))?;
        let (name, arguments) = (call.text_required("name")?, take_arguments(&mut call));
        parts.push(Part::ToolCall(ToolCall { id: None, name, arguments, extra: call.rest() }));
    }
    Ok(())
}

fn decode_call(value: Value, path: Path<'_>) -> Result<Part, FieldError> {
    let mut fields = Fields::new(value, path)?;
    // Some compatible servers leave the type out, and their clients send back what they got.
    let kind = fields.text("type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        fields.put("type", kind.into());
        return Ok(Part::Other(Value::Object(fields.rest())));
    }
    let id = fields.text_required("id")?;
    let inner = fields.take("function").ok_or_else(|| fields.missing("function"))?;
    let mut inner = Fields::new(inner, path.key("function"))?;
    let (name, arguments) = (inner.text_required("name")?, take_arguments(&mut inner));
    fields.put_back("function", inner.rest());
    Ok(Part::ToolCall(ToolCall { id: Some(id), name, arguments, extra: fields.rest() }))
}

fn take_arguments(fields: &mut Fields<'_>) -> Arguments {
    match fields.take("arguments") {
        None => Arguments::Text(String::new()),
        Some(Value::String(text)) => Arguments::Text(text),
        Some(other) => Arguments::Json(other),
    }
}

/// Calls of one assistant's message, to be written after its content.
#[derive(Default)]
pub(super) struct Calls {
    list: Vec<Value>,
    legacy: Option<Value>,
}

impl Calls {
    pub(super) fn push(&mut self, call: ToolCall) {
        let arguments = match call.arguments {
            Arguments::Text(text) => Value::String(text),
            Arguments::Json(value) => value,
        };
        let function = Object::default().with("name", call.name).with("arguments", arguments);
        match call.id {
            Some(id) => self.list.push(
                Object::default()
                    .with("id", id)
                    .with("type", "function")
                    .with("function", function.build())
                    .extra(call.extra)
                    .build(),
            ),
            None => self.legacy = Some(function.extra(call.extra).build()),
        }
    }

    pub(super) fn push_other(&mut self, call: Value) {
        self.list.push(call);
    }

    pub(super) fn write(self, object: Object) -> Object {
        let object = object.with_some("function_call", self.legacy);
        if self.list.is_empty() { object } else { object.with("tool_calls", self.list) }
    }
}
