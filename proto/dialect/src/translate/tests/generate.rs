//! Strategies that make canonical calls and replies as one dialect can say them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Number, Value, json};
use troupe_proto::outcome::Usage;
use troupe_proto::unit::Tokens;

use crate::Dialect;
use crate::call::{
    Arguments, Audio, Call, Content, Extra, File, Format, Function, Image, JsonSchema, Message, Part, RedactedThinking,
    Role, Shape, Source, Stop, Text, Thinking, ThinkingMode, ThinkingRule, TokenLimit, TokenLimitName, Tool, ToolCall,
    ToolChoice, ToolResult, ToolRule,
};
use crate::reply::{Finish, Output, Reply};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z_]{1,8}"
}

/// JSON text as a model would write it for a call.
pub(super) fn input() -> impl Strategy<Value = Value> {
    vec(
        (
            name(),
            prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(json!([{"a": "}\""}]))],
        ),
        0..3,
    )
    .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn extra() -> impl Strategy<Value = Extra> {
    option::of(text()).prop_map(|text| text.map(|text| ("x_extra".to_owned(), text.into())).into_iter().collect())
}

fn text_part() -> impl Strategy<Value = Part> {
    (text(), extra()).prop_map(|(text, extra)| Part::Text(Text { text, extra }))
}

fn other_part() -> impl Strategy<Value = Part> {
    text().prop_map(|text| Part::Other(json!({ "type": "brand_new", "x": text })))
}

fn contents(part: impl Strategy<Value = Part> + 'static) -> BoxedStrategy<Content> {
    prop_oneof![text().prop_map(Content::text), vec(part, 0..3).prop_map(Content::parts)].boxed()
}

fn openai_part() -> BoxedStrategy<Part> {
    let source = || prop_oneof![text().prop_map(Source::Url), text().prop_map(Source::FileId)];
    prop_oneof![
        text_part(),
        (text(), option::of(text()), extra()).prop_map(|(url, detail, extra)| Part::Image(Image {
            source: Source::Url(url),
            detail,
            extra
        })),
        (source(), option::of(text()), extra()).prop_map(|(source, title, extra)| Part::File(File {
            source,
            title,
            extra
        })),
        (text(), text(), extra()).prop_map(|(data, format, extra)| Part::Audio(Audio { data, format, extra })),
        (text(), extra()).prop_map(|(text, extra)| Part::Refusal(Text { text, extra })),
        other_part(),
    ]
    .boxed()
}

fn openai_message() -> BoxedStrategy<Message> {
    let role = prop_oneof![Just(Role::System), Just(Role::Developer), Just(Role::User)];
    let plain =
        (role, contents(openai_part()), extra()).prop_map(|(role, content, extra)| Message { role, content, extra });
    let call = (text(), name(), text(), extra()).prop_map(|(id, name, arguments, extra)| {
        Part::ToolCall(ToolCall { id: Some(id), name, arguments: Arguments::Text(arguments), extra })
    });
    let absent = Just(Content { shape: Shape::Absent, parts: Vec::new() });
    let said = prop_oneof![contents(text_part()), absent];
    let thought = option::of(text())
        .prop_map(|text| text.map(|text| Part::Thinking(Thinking { text, signature: None, extra: Extra::new() })));
    let assistant = (thought, said, vec(call, 0..3), extra()).prop_map(|(thought, said, calls, extra)| {
        let parts = thought.into_iter().chain(said.parts).chain(calls).collect();
        Message { role: Role::Assistant, content: Content { shape: said.shape, parts }, extra }
    });
    let tool = (text(), option::of(name()), contents(openai_part()), extra()).prop_map(|(id, name, content, extra)| {
        let result = ToolResult { id: Some(id), name, content, is_error: None, extra };
        let content = Content::parts(vec![Part::ToolResult(result)]);
        Message { role: Role::Tool, content, extra: Extra::new() }
    });
    prop_oneof![plain, assistant, tool].boxed()
}

fn anthropic_part() -> BoxedStrategy<Part> {
    let source = || {
        prop_oneof![
            (text(), text()).prop_map(|(media_type, data)| Source::Base64 { media_type, data }),
            text().prop_map(Source::Url),
            text().prop_map(Source::FileId),
        ]
    };
    let document = prop_oneof![
        source(),
        (text(), text()).prop_map(|(media_type, data)| Source::PlainText { media_type, data }),
        contents(text_part()).prop_map(Source::Parts),
    ];
    prop_oneof![
        text_part(),
        (source(), extra()).prop_map(|(source, extra)| Part::Image(Image { source, detail: None, extra })),
        (document, option::of(text()), extra()).prop_map(|(source, title, extra)| Part::File(File {
            source,
            title,
            extra
        })),
        (text(), option::of(text()), extra()).prop_map(|(text, signature, extra)| Part::Thinking(Thinking {
            text,
            signature,
            extra
        })),
        (text(), extra()).prop_map(|(data, extra)| Part::RedactedThinking(RedactedThinking { data, extra })),
        (text(), name(), input(), extra()).prop_map(|(id, name, input, extra)| {
            Part::ToolCall(ToolCall { id: Some(id), name, arguments: Arguments::Json(input), extra })
        }),
        (text(), contents(text_part()), option::of(any::<bool>()), extra()).prop_map(
            |(id, content, is_error, extra)| {
                Part::ToolResult(ToolResult { id: Some(id), name: None, content, is_error, extra })
            }
        ),
        other_part(),
    ]
    .boxed()
}

fn anthropic_message() -> BoxedStrategy<Message> {
    let role = prop_oneof![Just(Role::System), Just(Role::Assistant), Just(Role::User)];
    (role, contents(anthropic_part()), extra())
        .prop_map(|(role, content, extra)| Message { role, content, extra })
        .boxed()
}

fn tool() -> impl Strategy<Value = Tool> {
    prop_oneof![
        (name(), option::of(text()), option::of(input()), option::of(any::<bool>()), extra()).prop_map(
            |(name, description, schema, strict, extra)| Tool::Function(Function {
                name,
                description,
                schema,
                strict,
                extra
            })
        ),
        text().prop_map(|text| Tool::Other(json!({ "type": "brand_new", "x": text }))),
    ]
}

fn tool_choice() -> impl Strategy<Value = ToolChoice> {
    prop_oneof![
        Just(ToolRule::Auto),
        Just(ToolRule::None),
        Just(ToolRule::Required),
        name().prop_map(ToolRule::Tool),
        text().prop_map(|text| ToolRule::Other(json!({ "type": "brand_new", "x": text }))),
    ]
    .prop_map(|rule| ToolChoice { rule, extra: Extra::new() })
}

fn schema() -> impl Strategy<Value = JsonSchema> {
    (option::of(name()), option::of(text()), option::of(any::<bool>()), option::of(input()), extra())
        .prop_map(|(name, description, strict, schema, extra)| JsonSchema { name, description, strict, schema, extra })
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::from),
        (0.0_f64..2.0).prop_map(|number| Number::from_f64(number).unwrap())
    ]
}

/// What both wires say alike.
fn common(dialect: Dialect, message: BoxedStrategy<Message>) -> impl Strategy<Value = Call> {
    let numbers = (option::of(number()), option::of(number()), any::<u64>());
    let tools = (vec(tool(), 0..3), option::of(tool_choice()));
    let words = (option::of(name()), option::of(text()), option::of(any::<bool>()), vec(text(), 1..3), any::<bool>());
    (name(), vec(message, 0..5), numbers, tools, words, extra()).prop_map(
        move |(model, messages, numbers, tools, words, extra)| Call {
            dialect,
            model,
            system: None,
            messages,
            tools: tools.0,
            tool_choice: tools.1,
            parallel_tools: None,
            legacy_functions: false,
            max_tokens: Some(TokenLimit { tokens: numbers.2, name: TokenLimitName::default() }),
            temperature: numbers.0,
            top_p: numbers.1,
            top_k: None,
            stop: words.4.then_some(Stop { texts: words.3, bare: false }),
            stream: words.2,
            include_usage: None,
            thinking: None,
            effort: words.0,
            format: None,
            user: words.1,
            extra,
        },
    )
}

/// A call as OpenAI's wire can say it.
pub(super) fn openai_call() -> impl Strategy<Value = Call> {
    let format = prop_oneof![Just(Format::Text), Just(Format::JsonObject), schema().prop_map(Format::JsonSchema)];
    let own = (option::of(format), option::of(any::<bool>()), option::of(any::<bool>()), any::<bool>(), any::<bool>());
    (common(Dialect::OpenAi, openai_message()), own).prop_map(|(mut call, own)| {
        (call.format, call.include_usage, call.parallel_tools) = (own.0, own.1, own.2);
        if own.3
            && let Some(limit) = &mut call.max_tokens
        {
            limit.name = TokenLimitName::MaxTokens;
        }
        if let Some(stop) = &mut call.stop {
            stop.bare = own.4 && stop.texts.len() == 1;
        }
        call
    })
}

/// A call as Anthropic's wire can say it.
pub(super) fn anthropic_call() -> impl Strategy<Value = Call> {
    let rule = prop_oneof![
        any::<u64>().prop_map(|budget| ThinkingRule::Enabled { budget }),
        Just(ThinkingRule::Adaptive),
        Just(ThinkingRule::BetweenTools),
        Just(ThinkingRule::Disabled),
        Just(ThinkingRule::Other("brand_new".to_owned())),
    ];
    let thinking = (rule, extra()).prop_map(|(rule, extra)| ThinkingMode { rule, extra });
    let own = (
        option::of(contents(text_part())),
        option::of(schema()),
        option::of(thinking),
        option::of(any::<u64>()),
        option::of(any::<bool>()),
    );
    (common(Dialect::Anthropic, anthropic_message()), own).prop_map(|(mut call, own)| {
        call.system = own.0;
        call.format = own.1.map(|schema| Format::JsonSchema(JsonSchema { strict: None, ..schema }));
        (call.thinking, call.top_k) = (own.2, own.3);
        // This wire says it inside the choice, and a choice of an unknown kind is kept whole.
        let has_choice = call.tool_choice.as_ref().is_some_and(|choice| !matches!(choice.rule, ToolRule::Other(_)));
        call.parallel_tools = own.4.filter(|_| has_choice);
        call
    })
}

/// An answer as either provider may give it: thought, text, calls.
pub(super) fn reply(dialect: Dialect) -> impl Strategy<Value = Reply> {
    let said = || option::of("\\PC{1,12}");
    let calls = vec((name(), input()), 0..4);
    let finish = prop_oneof![Just(Finish::Stop), Just(Finish::Length), Just(Finish::ToolCalls), Just(Finish::Filtered)];
    let usage = option::of((0..1000_u64, 0..1000_u64, 0..1000_u64, 0..1000_u64, 0..1000_u64));
    (said(), said(), calls, finish, usage).prop_map(move |(thought, text, calls, finish, usage)| {
        let signature = (dialect == Dialect::Anthropic).then(|| "sig".to_owned());
        let mut parts = Vec::new();
        parts.extend(thought.map(|text| Part::Thinking(Thinking { text, signature, extra: Extra::new() })));
        parts.extend(text.map(Part::text));
        for (at, (name, input)) in calls.into_iter().enumerate() {
            let arguments = match dialect {
                Dialect::OpenAi => Arguments::Text(input.to_string()),
                Dialect::Anthropic => Arguments::Json(input),
            };
            parts.push(Part::ToolCall(ToolCall {
                id: Some(format!("call_{at}")),
                name,
                arguments,
                extra: Extra::new(),
            }));
        }
        let usage = usage.map(|(fresh, cached_read, cache_write, reasoning, output)| Usage {
            input: Tokens::new(fresh + cached_read + cache_write),
            cached_read: Tokens::new(cached_read),
            cache_write: Tokens::new(cache_write),
            output: Tokens::new(output + reasoning),
            reasoning: Tokens::new(reasoning),
        });
        let output = Output {
            index: 0,
            parts,
            finish: Some(finish),
            stop_sequence: None,
            extra: Extra::new(),
            message_extra: Extra::new(),
        };
        Reply {
            dialect,
            id: Some("id_1".to_owned()),
            model: Some("m".to_owned()),
            created: None,
            outputs: vec![output],
            usage,
            usage_wire: None,
            extra: Extra::new(),
        }
    })
}

/// JSON made of words the decoders know, so that it gets past their first checks.
pub(super) fn likely_json() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "user",
        "assistant",
        "system",
        "tool",
        "tool_calls",
        "id",
        "function",
        "name",
        "arguments",
        "tool_call_id",
        "tools",
        "tool_choice",
        "input_schema",
        "max_tokens",
        "image_url",
        "url",
        "file",
        "file_data",
        "source",
        "base64",
        "media_type",
        "data",
        "tool_use",
        "input",
        "tool_result",
        "tool_use_id",
        "thinking",
        "signature",
        "document",
        "search_result",
        "choices",
        "message",
        "delta",
        "index",
        "finish_reason",
        "stop_reason",
        "usage",
        "message_start",
        "content_block_start",
        "content_block",
        "stop",
        "content_block_delta",
        "text_delta",
        "input_json_delta",
        "partial_json",
        "message_delta",
        "message_stop",
        "error",
        "response_format",
        "json_schema",
        "schema",
        "output_config",
        "format",
        "effort",
        "metadata",
        "user_id",
        "{}",
        "",
        "data:image/png;base64,AA",
        "functions",
        "function_call",
        "stream_options",
        "stop_sequences",
        "budget_tokens",
    ];
    let word = || prop::sample::select(WORDS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((word(), inner), 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
