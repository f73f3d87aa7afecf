//! The OpenAI wire: chat completions, legacy completions, embeddings, models, errors.

use base64::Engine as _;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Ask, Call, Choice, Content, Format, Stop, Tool, Usage, pieces, tokens_of};
use super::faults::Event;
use super::resume::said;

/// A fixed birthday for everything, so that replies are the same in every run.
pub(super) const CREATED: u64 = 1_760_000_000;
/// Numbers of an embedding when the request names none.
const DIMENSIONS: usize = 16;
/// Most choices of one reply.
const CHOICES_MAX: u64 = 16;

pub(super) fn error(status: StatusCode, message: &str, code: Option<&str>) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    let usual = match status.as_u16() {
        401 => Some("invalid_api_key"),
        404 => Some("model_not_found"),
        429 => Some("rate_limit_exceeded"),
        _ => None,
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code.or(usual)}})
}

pub(super) fn in_band_error() -> String {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    data(&error(status, "the mock breaks this stream as it was told to", None))
}

pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// Fills in what a chat request asks for.
pub(super) fn read_chat(body: &Value, ask: &mut Ask) -> Result<(), String> {
    let messages = body.get("messages").and_then(Value::as_array).filter(|all| !all.is_empty());
    let messages = messages.ok_or("'messages' must be a list with at least one message")?;
    ask.after_tool_result = messages.last().and_then(|last| last.get("role")).is_some_and(|role| role == "tool");
    ask.said = body.get("messages").and_then(said);
    ask.tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(function).collect();
    ask.choice = choice(body.get("tool_choice"));
    ask.parallel = body.get("parallel_tool_calls") != Some(&Value::Bool(false));
    ask.include_usage = body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let limit = body.get("max_completion_tokens").or_else(|| body.get("max_tokens"));
    ask.max_tokens = limit.and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    ask.format = match body.pointer("/response_format/type").and_then(Value::as_str) {
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => {
            let schema = body.pointer("/response_format/json_schema/schema");
            Format::JsonSchema(schema.cloned().ok_or("'response_format.json_schema.schema' is missing")?)
        }
        _ => Format::Text,
    };
    Ok(())
}

fn function(tool: &Value) -> Option<Tool> {
    let function = tool.get("function")?;
    let name = function.get("name")?.as_str()?.to_owned();
    Some(Tool { name, parameters: function.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"})) })
}

/// Reads `tool_choice` of chat and of Responses.
pub(super) fn choice(value: Option<&Value>) -> Choice {
    match value {
        Some(Value::String(word)) if word == "none" => Choice::None,
        Some(Value::String(word)) if word == "required" || word == "any" => Choice::Any,
        Some(Value::Object(_)) => {
            let name = value.and_then(|value| value.pointer("/function/name").or_else(|| value.get("name")));
            name.and_then(Value::as_str).map_or(Choice::Auto, |name| Choice::Named(name.to_owned()))
        }
        _ => Choice::Auto,
    }
}

fn usage(usage: Usage) -> Value {
    let prompt = usage.prompt + usage.cached;
    json!({
        "prompt_tokens": prompt, "completion_tokens": usage.completion, "total_tokens": prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.thought, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    })
}

fn finish(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "stop",
        Stop::Length => "length",
        Stop::Calls => "tool_calls",
    }
}

fn call_id(ask: &Ask, index: usize) -> String {
    format!("call_mock_{}_{index}", ask.serial)
}

fn choices_of(body: &Value) -> u64 {
    body.get("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, CHOICES_MAX)
}

fn wants_logprobs(body: &Value) -> bool {
    body.get("logprobs") == Some(&Value::Bool(true))
}

fn logprobs<'a>(pieces: impl Iterator<Item = &'a String>) -> Value {
    let content: Vec<Value> = pieces
        .map(|piece| json!({"token": piece, "logprob": -0.5, "bytes": piece.as_bytes(), "top_logprobs": []}))
        .collect();
    json!({"content": content, "refusal": null})
}

pub(super) fn chat_whole(body: &Value, ask: &Ask, answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    let mut odds = Value::Null;
    match &answer.content {
        Content::Text(pieces) => {
            message["content"] = json!(answer.text());
            if wants_logprobs(body) {
                odds = logprobs(pieces.iter());
            }
        }
        Content::Calls(calls) => {
            let called = calls.iter().enumerate().map(|(index, call)| called(ask, index, call));
            message["tool_calls"] = called.collect();
        }
    }
    if !answer.thought.is_empty() {
        message["reasoning_content"] = json!(answer.thought.concat());
    }
    let choices: Vec<Value> = (0..choices_of(body))
        .map(
            |index| json!({"index": index, "message": message, "logprobs": odds, "finish_reason": finish(answer.stop)}),
        )
        .collect();
    json!({
        "id": format!("chatcmpl-mock-{}", ask.serial), "object": "chat.completion", "created": CREATED,
        "model": ask.model, "choices": choices, "usage": usage(answer.usage),
        "service_tier": "default", "system_fingerprint": "fp_mock"
    })
}

fn called(ask: &Ask, index: usize, call: &Call) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": call_id(ask, index), "type": "function", "function": function})
}

pub(super) fn chat_events(body: &Value, ask: &Ask, answer: &Answer) -> Vec<Event> {
    let chunk = |choices: Value, used: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-mock-{}", ask.serial), "object": "chat.completion.chunk", "created": CREATED,
            "model": ask.model, "service_tier": "default", "system_fingerprint": "fp_mock", "choices": choices
        });
        if ask.include_usage {
            chunk["usage"] = used;
        }
        data(&chunk)
    };
    let delta = |index: u64, delta: Value, odds: Value, reason: Option<&str>| {
        let choice = json!({"index": index, "delta": delta, "logprobs": odds, "finish_reason": reason});
        chunk(json!([choice]), Value::Null)
    };
    let all = || 0..choices_of(body);
    let mut events = Vec::new();
    for index in all() {
        let head = json!({"role": "assistant", "content": "", "refusal": null});
        events.push(Event::frame(delta(index, head, Value::Null, None)));
    }
    for piece in &answer.thought {
        let thought = |index| Event::content(delta(index, json!({"reasoning_content": piece}), Value::Null, None));
        events.extend(all().map(thought));
    }
    match &answer.content {
        Content::Text(pieces) => {
            for piece in pieces {
                let odds = if wants_logprobs(body) { logprobs(std::iter::once(piece)) } else { Value::Null };
                let text = |index| Event::content(delta(index, json!({"content": piece}), odds.clone(), None));
                events.extend(all().map(text));
            }
        }
        Content::Calls(calls) => {
            for (at, call) in calls.iter().enumerate() {
                let head = json!({"index": at, "id": call_id(ask, at), "type": "function",
                    "function": {"name": call.name, "arguments": ""}});
                let open = |index| Event::frame(delta(index, json!({"tool_calls": [head]}), Value::Null, None));
                events.extend(all().map(open));
                for piece in pieces(&call.arguments) {
                    let part = json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]});
                    events.extend(all().map(|index| Event::content(delta(index, part.clone(), Value::Null, None))));
                }
            }
        }
    }
    let end = |index| Event::frame(delta(index, json!({}), Value::Null, Some(finish(answer.stop))));
    events.extend(all().map(end));
    if ask.include_usage {
        events.push(Event::frame(chunk(json!([]), usage(answer.usage))));
    }
    events.push(Event::frame("data: [DONE]\n\n".to_owned()));
    events
}

/// Fills in what a legacy completion asks for.
pub(super) fn read_completion(body: &Value, ask: &mut Ask) -> Result<(), String> {
    body.get("prompt").filter(|prompt| !prompt.is_null()).ok_or("'prompt' is missing")?;
    ask.include_usage = body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    ask.max_tokens = body.get("max_tokens").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    Ok(())
}

fn completion(ask: &Ask, choices: Value) -> Value {
    json!({"id": format!("cmpl-mock-{}", ask.serial), "object": "text_completion", "created": CREATED,
        "model": ask.model, "system_fingerprint": "fp_mock", "choices": choices})
}

pub(super) fn completion_whole(ask: &Ask, answer: &Answer) -> Value {
    let choice = json!({"index": 0, "text": answer.text(), "logprobs": null, "finish_reason": finish(answer.stop)});
    let mut reply = completion(ask, json!([choice]));
    reply["usage"] = usage(answer.usage);
    reply
}

pub(super) fn completion_events(ask: &Ask, answer: &Answer) -> Vec<Event> {
    let chunk = |text: &str, reason: Option<&str>| {
        let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason});
        let mut chunk = completion(ask, json!([choice]));
        if ask.include_usage {
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    };
    let mut events = Vec::new();
    if let Content::Text(pieces) = &answer.content {
        events.extend(pieces.iter().map(|piece| Event::content(chunk(piece, None))));
    }
    events.push(Event::frame(chunk("", Some(finish(answer.stop)))));
    if ask.include_usage {
        let mut last = completion(ask, json!([]));
        last["usage"] = usage(answer.usage);
        events.push(Event::frame(data(&last)));
    }
    events.push(Event::frame("data: [DONE]\n\n".to_owned()));
    events
}

/// Answers an embeddings request: one vector an input, the same for the same input.
pub(super) fn embeddings(body: &Value, model: &str) -> Result<Value, String> {
    let inputs: Vec<String> = match body.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_number) => {
            vec![Value::Array(items.clone()).to_string()]
        }
        Some(Value::Array(items)) if !items.is_empty() => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        _ => return Err("'input' must be text, tokens, or a list of them".to_owned()),
    };
    let length = body.get("dimensions").and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
    let length = length.unwrap_or(DIMENSIONS).clamp(1, 4096);
    let as_base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let vectors = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(input, length);
        let shown = if as_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": shown})
    });
    let vectors: Vec<Value> = vectors.collect();
    let tokens: u64 = inputs.iter().map(|input| tokens_of(input.len())).sum();
    Ok(json!({"object": "list", "data": vectors, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
}

/// Numbers in steps of 1/128, which f32 and decimal text both hold exactly.
fn vector(input: &str, length: usize) -> Vec<f32> {
    // FNV-1a, running on through the places of the vector.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = input.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let mut next = || {
        hash = mix(hash, 1);
        let byte = u8::try_from(hash >> 56).unwrap_or(0);
        (f32::from(byte) - 128.0) / 128.0
    };
    (0..length).map(|_| next()).collect()
}

/// Names shown in the list; any other name that can be obeyed works as well.
pub(super) const MODELS: [&str; 4] = ["mock", "mock+reasoning", "mock+tools", "mock+parallel-tools"];

pub(super) fn models() -> Value {
    json!({"object": "list", "data": MODELS.map(model)})
}

pub(super) fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "mock"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_embeddings_are_the_same_numbers() {
        let plain = embeddings(&json!({"input": "hello"}), "mock").unwrap();
        let packed = embeddings(&json!({"input": "hello", "encoding_format": "base64"}), "mock").unwrap();

        let text = packed["data"][0]["embedding"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let unpacked: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();

        assert_eq!(plain["data"][0]["embedding"], json!(unpacked));
        assert_eq!(unpacked.len(), DIMENSIONS);
    }

    #[test]
    fn different_inputs_have_different_vectors() {
        let both = embeddings(&json!({"input": ["a", "b"], "dimensions": 4}), "mock").unwrap();

        assert_eq!(both["data"].as_array().unwrap().len(), 2);
        assert_ne!(both["data"][0]["embedding"], both["data"][1]["embedding"]);
        assert!(embeddings(&json!({"input": [[1, 2], [3]]}), "mock").is_ok());
        assert!(embeddings(&json!({"input": []}), "mock").is_err());
    }
}
