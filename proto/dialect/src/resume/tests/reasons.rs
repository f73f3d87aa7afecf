//! What cannot be resumed says why.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{heard, stitched};
use crate::resume::{Heard, Join, Reason, Stitch, StitchError, TEXT_BYTES_MAX, continuation, seam_comment};
use crate::translate::{self, RequestOptions, TokenLimitName};
use crate::{Dialect, Operation};

fn chat(choices: &Value) -> Vec<u8> {
    let chunk =
        json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices });
    format!("data: {chunk}\n\n").into_bytes()
}

fn delta(delta: &Value) -> Vec<u8> {
    chat(&json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]))
}

fn reason(op: Operation, stream: &[u8]) -> Option<Reason> {
    heard(op, stream).can_resume().err()
}

fn asked(op: Operation, body: &Value) -> Result<Join, Reason> {
    let stream = match op {
        Operation::Chat => delta(&json!({ "content": "Once upon" })),
        Operation::Completions => chat(&json!([{ "index": 0, "text": "Once upon", "finish_reason": null }])),
        _ => [
            event(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
            event(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Once" } })),
        ]
        .concat(),
    };
    let body = Bytes::from(body.to_string());
    continuation(&body, &heard(op, &stream), true).map(|asked| asked.join)
}

fn event(event: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).into_bytes()
}

#[test]
fn content_that_is_no_text_cannot_be_resumed() {
    let block =
        |kind: &str| event(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": kind } }));
    let call = json!({ "tool_calls": [{ "index": 0, "id": "t", "function": { "name": "f", "arguments": "" } }] });

    assert_eq!(reason(Operation::Chat, &delta(&call)), Some(Reason::ToolCall));
    assert_eq!(reason(Operation::Chat, &delta(&json!({ "reasoning_content": "Hm" }))), Some(Reason::Thinking));
    assert_eq!(reason(Operation::Chat, &delta(&json!({ "reasoning": "Hm" }))), Some(Reason::Thinking));
    assert_eq!(reason(Operation::Chat, &delta(&json!({ "refusal": "No" }))), Some(Reason::Refusal));
    assert_eq!(reason(Operation::Chat, &delta(&json!({ "audio": { "id": "a" } }))), Some(Reason::OtherContent));
    assert_eq!(reason(Operation::Chat, &delta(&json!({ "content": [{ "type": "text" }] }))), Some(Reason::Unreadable));
    assert_eq!(reason(Operation::Messages, &block("tool_use")), Some(Reason::ToolCall));
    assert_eq!(reason(Operation::Messages, &block("thinking")), Some(Reason::Thinking));
    assert_eq!(reason(Operation::Messages, &block("web_search_tool_result")), Some(Reason::OtherContent));
    assert_eq!(reason(Operation::Responses, b""), Some(Reason::Operation));
    assert_eq!(reason(Operation::Embeddings, b""), Some(Reason::Operation));
}

#[test]
fn several_choices_an_end_and_probabilities_cannot_be_resumed() {
    let choice = |index: u64, logprobs: Value, finish: Value| {
        chat(&json!([{ "index": index, "delta": { "content": "a" }, "logprobs": logprobs, "finish_reason": finish }]))
    };

    assert_eq!(reason(Operation::Chat, &choice(0, Value::Null, Value::Null)), None);
    assert_eq!(reason(Operation::Chat, &choice(1, Value::Null, Value::Null)), Some(Reason::Choices));
    assert_eq!(reason(Operation::Chat, &choice(0, json!({ "content": [] }), Value::Null)), Some(Reason::Logprobs));
    assert_eq!(reason(Operation::Chat, &choice(0, Value::Null, json!("stop"))), Some(Reason::Finished));
    assert_eq!(reason(Operation::Messages, &event(&json!({ "type": "message_stop" }))), Some(Reason::Finished));
    assert_eq!(reason(Operation::Chat, b"data: {\"choices\": 7}\n\n"), Some(Reason::Unreadable));
    assert_eq!(reason(Operation::Chat, b"data: {\"choices\": []"), Some(Reason::Unreadable));
}

#[test]
fn thoughts_before_the_text_do_not_matter_and_thoughts_behind_it_do() {
    let thought = delta(&json!({ "reasoning_content": "Hm" }));
    let text = delta(&json!({ "content": "Hi" }));

    assert_eq!(reason(Operation::Chat, &[thought.clone(), text.clone()].concat()), None);
    assert_eq!(reason(Operation::Chat, &[text, thought].concat()), Some(Reason::Thinking));
}

#[test]
fn no_more_text_is_kept_than_may_be() {
    let mut heard = Heard::new(Operation::Chat);
    let events = Bytes::from(delta(&json!({ "content": "x".repeat(TEXT_BYTES_MAX / 2) })));

    heard.observe_bytes(&events);
    heard.observe_bytes(&events);
    assert_eq!((heard.can_resume(), heard.text().len()), (Ok(()), TEXT_BYTES_MAX));
    heard.observe_bytes(&events);
    assert_eq!((heard.can_resume(), heard.text().len()), (Err(Reason::TooLong), 0));
}

#[test]
fn a_request_for_more_than_text_is_not_continued() {
    let turns = json!([{ "role": "user", "content": "Tell" }]);
    let with = |name: &str, value: Value| json!({ "model": "m", "messages": turns, name: value });
    let cases = [
        (Operation::Chat, "n", json!(1), Ok(Join::Prefill)),
        (Operation::Chat, "n", json!(2), Err(Reason::Choices)),
        (Operation::Chat, "logprobs", json!(true), Err(Reason::Logprobs)),
        (Operation::Chat, "logprobs", json!(false), Ok(Join::Prefill)),
        (Operation::Chat, "response_format", json!({ "type": "json_object" }), Err(Reason::Structured)),
        (Operation::Chat, "response_format", json!({ "type": "text" }), Ok(Join::Prefill)),
        (Operation::Chat, "modalities", json!(["text", "audio"]), Err(Reason::OtherContent)),
        (Operation::Messages, "output_config", json!({ "format": { "type": "json_schema" } }), Err(Reason::Structured)),
        (Operation::Messages, "output_config", json!({ "effort": "low" }), Ok(Join::Prefill)),
        (Operation::Messages, "thinking", json!({ "type": "adaptive" }), Ok(Join::Ask)),
        (Operation::Messages, "thinking", json!({ "type": "disabled" }), Ok(Join::Prefill)),
    ];
    for (op, name, value, expected) in cases {
        let body = with(name, value);
        assert_eq!(asked(op, &body), expected, "{body}");
    }
    assert_eq!(
        asked(Operation::Chat, &json!({ "messages": [{ "role": "assistant", "content": "{" }] })),
        Err(Reason::Prompt)
    );
    assert_eq!(asked(Operation::Chat, &json!({ "messages": [] })), Err(Reason::Unreadable));
    assert_eq!(asked(Operation::Chat, &json!({})), Err(Reason::Unreadable));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": ["a"] })), Err(Reason::Prompt));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": "a", "echo": true })), Err(Reason::Prompt));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": "a", "suffix": "b" })), Err(Reason::Prompt));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": "a", "best_of": 2 })), Err(Reason::Choices));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": "a", "logprobs": 1 })), Err(Reason::Logprobs));
    assert_eq!(asked(Operation::Completions, &json!({ "prompt": "a" })), Ok(Join::Prefill));
}

#[test]
fn the_request_keeps_every_byte_but_what_is_added() {
    let body = br#"{ "messages" : [ {"role":"user","content":"a\u0062"} ] , "x":1.50, "model":"m"}"#;
    let said = heard(Operation::Chat, &delta(&json!({ "content": "Say \"hi\"\n" })));

    let asked = continuation(&Bytes::from_static(body), &said, true).unwrap();

    let expected = br#"{ "messages" : [ {"role":"user","content":"a\u0062"} ,{"role":"assistant","content":"Say \"hi\""}] , "x":1.50, "model":"m"}"#;
    assert_eq!(asked.body, expected.as_slice());
}

#[test]
fn a_continuation_is_translated_like_any_request() {
    let translated = |can_prefill: bool| -> Value {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Tell" }], "stream": true });
        let said = heard(Operation::Chat, &delta(&json!({ "content": "Once upon " })));
        let asked = continuation(&Bytes::from(body.to_string()), &said, can_prefill).unwrap();
        let options = RequestOptions {
            model: "claude",
            max_tokens_default: 100,
            sampling_allowed: true,
            drop_params: false,
            stream: true,
            token_limit: TokenLimitName::default(),
            created: 0,
        };
        let request = translate::request(Operation::Chat, Dialect::Anthropic, &asked.body, &options).unwrap();
        assert!(request.lost.is_empty());
        serde_json::from_slice(&request.body).unwrap()
    };

    let (prefill, ask) = (translated(true), translated(false));

    assert_eq!(prefill["messages"][1], json!({ "role": "assistant", "content": "Once upon" }));
    assert_eq!(prefill["messages"].as_array().unwrap().len(), 2);
    assert_eq!(ask["messages"][1], prefill["messages"][1]);
    assert!(ask["messages"][2]["content"].as_str().unwrap().ends_with("\n---\nOnce upon"));
}

#[test]
fn a_leg_that_does_not_take_the_text_up_ends_in_an_error() {
    let said = heard(Operation::Chat, &delta(&json!({ "content": "Once upon a time there" })));
    let other = delta(&json!({ "content": "Sure, here is the story." }));
    let call =
        delta(&json!({ "tool_calls": [{ "index": 0, "id": "t", "function": { "name": "f", "arguments": "{}" } }] }));

    for events in [other, call, b"data: [1]\n\n".to_vec()] {
        let mut stitch = Stitch::new(said.clone(), Join::Ask);
        let expected = if events.contains(&b'{') { StitchError::NoJoint } else { StitchError::Unreadable };
        assert_eq!(stitched(&mut stitch, &events), Err(expected));
        assert_eq!(stitch.into_heard().text(), said.text());
    }
}

#[test]
fn a_seam_is_one_comment_whatever_the_names_are() {
    assert_eq!(seam_comment("a/b/c", "d\n\nevent: x"), ": troupe-seam from=a/b/c to=devent: x\n\n");
}

#[test]
fn reasons_are_distinct_words() {
    let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Reason::ALL.len());
}
