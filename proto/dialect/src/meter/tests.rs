use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use troupe_proto::failure::Fault;
use troupe_proto::unit::Tokens;

use super::*;
use crate::json::BadJson;
use crate::sse::Framer;

fn operation(word: &str) -> Operation {
    use Operation::{Chat, Completions, CountTokens, Embeddings, Messages, Responses};
    let all = [Chat, Completions, Responses, Embeddings, Messages, CountTokens];
    all.into_iter().find(|op| op.as_str() == word).unwrap()
}

fn frame(data: &str) -> Frame {
    let mut raw = BytesMut::new();
    crate::sse::event(&mut raw, None, data.as_bytes());
    Frame::parse(raw.freeze())
}

fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new(1 << 20);
    framer.push(Bytes::copy_from_slice(stream));
    framer.finish();
    std::iter::from_fn(|| framer.next()).map(Result::unwrap).collect()
}

/// `fixtures/stream_meter/<operation>/<case>.stream` (or `<operation>-hidden/`, where the gateway asked for the usage)
/// is what a provider sends; `<case>.seen` has a line for each event, and a last one for the stream.
#[test]
fn every_fixture_is_seen_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stream_meter");
    let mut cases = 0;
    for folder in fs::read_dir(folder).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        let (op, hidden) = name.strip_suffix("-hidden").map_or((name.as_str(), false), |op| (op, true));
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "stream") {
                continue;
            }
            let seen = describe(StreamMeter::new(operation(op), hidden), &fs::read(&path).unwrap());
            let expected = fs::read_to_string(path.with_extension("seen")).unwrap();
            assert_eq!(seen.trim_end(), expected.trim_end(), "{}", path.display());
            cases += 1;
        }
    }
    assert!(cases >= 15, "the fixtures are gone");
}

fn describe(mut meter: StreamMeter, stream: &[u8]) -> String {
    let mut out = String::new();
    for frame in frames(stream) {
        let seen = meter.observe(&frame);
        out += match &seen.relay {
            Relay::Forward => "forward",
            Relay::Drop => "drop",
            Relay::Replace(_) => "replace",
        };
        for (word, set) in [(" content", seen.content), (" end", seen.end), (" invalid", seen.invalid)] {
            out += if set { word } else { "" };
        }
        if let Relay::Replace(bytes) = &seen.relay {
            out += &format!(" {:?}", String::from_utf8_lossy(bytes));
        }
        out += "\n";
    }
    let usage = meter.usage().map(|usage| {
        let parts = [usage.input, usage.cached_read, usage.cache_write, usage.output, usage.reasoning];
        parts.map(Tokens::get)
    });
    out += &format!(
        "finished={} finish={} model={} usage={usage:?}",
        meter.finished(),
        meter.finish_reason().unwrap_or("-"),
        meter.model().unwrap_or("-")
    );
    if let Some(error) = meter.in_band_error() {
        out += &format!(" error={} {:?}", error.fault.as_str(), error.message.as_deref().unwrap_or_default());
    }
    out
}

#[test]
fn a_stream_that_broke_before_the_second_of_two_choices_is_not_finished() {
    let only = frame(r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#);
    let mut one = StreamMeter::new(Operation::Chat, false);
    let mut two = StreamMeter::new(Operation::Chat, false).with_choices(2);

    one.observe(&only);
    two.observe(&only);

    assert!(one.finished());
    assert!(!two.finished());
}

#[test]
fn a_chat_stream_is_finished_by_its_reasons_and_needs_no_done() {
    let mut meter = StreamMeter::new(Operation::Chat, false).with_choices(2);

    meter.observe(&frame(r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#));
    assert!(!meter.finished());
    meter.observe(&frame(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#));

    assert!(meter.finished());
}

#[test]
fn what_follows_the_end_is_kept_from_the_client_and_counts_for_nothing() {
    let ends = [
        (Operation::Chat, "[DONE]"),
        (Operation::Messages, r#"{"type":"message_stop"}"#),
        (Operation::Responses, r#"{"type":"response.completed","response":{"status":"completed"}}"#),
    ];
    for (op, end) in ends {
        let mut meter = StreamMeter::new(op, false);
        if op == Operation::Chat {
            meter.observe(&frame(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#));
        }
        let last = meter.observe(&frame(end));
        assert!(last.end && last.relay == Relay::Forward && meter.finished(), "{end}");

        let mut after = frames(b": a comment\n\nevent: ping\n\n");
        after.extend([
            end,
            "[DONE]",
            "oops",
            r#"{"type":"error","error":{"type":"api_error","message":"late"}}"#,
            r#"{"error":{"message":"late"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        ].map(frame));
        for frame in after {
            assert_eq!(meter.observe(&frame), Seen::DROP, "{frame:?}");
        }
        assert!(meter.finished() && meter.usage().is_none() && meter.in_band_error().is_none(), "{end}");
    }
}

#[test]
fn the_next_number_of_a_responses_stream_follows_the_last_seen() {
    let mut meter = StreamMeter::new(Operation::Responses, false);

    meter.observe(&frame(r#"{"type":"response.created","sequence_number":0,"response":{}}"#));
    meter.observe(&frame(r#"{"type":"response.in_progress","sequence_number":1,"response":{}}"#));

    assert_eq!(meter.next_sequence(), 2);
}

#[test]
fn a_chunk_of_odd_types_is_relayed_and_counts_for_nothing() {
    let odd = [
        r#"{"choices":null,"model":7,"usage":[]}"#,
        r#"{"choices":[null,3,{"index":"0","delta":"x","finish_reason":{}}]}"#,
        r#"{"choices":{"a":1},"usage":{"prompt_tokens":"many"}}"#,
        r#"{"model":"m","model":"n"}"#,
    ];
    for data in odd {
        let seen = StreamMeter::new(Operation::Chat, false).observe(&frame(data));

        assert_eq!(seen, Seen::FORWARD, "{data}");
    }
}

#[test]
fn what_is_no_json_object_is_marked_for_the_relay() {
    for data in ["oops", "[]", "7", "{\"choices\":", "\"text\"", ""] {
        for op in [Operation::Chat, Operation::Completions, Operation::Responses, Operation::Messages] {
            assert!(StreamMeter::new(op, false).observe(&frame(data)).invalid, "{data}");
        }
    }
}

#[test]
fn a_member_named_twice_counts_as_most_clients_read_it() {
    let twice = frame(r#"{"usage":null,"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4.0}}"#);
    let mut meter = StreamMeter::new(Operation::Chat, true);

    let seen = meter.observe(&twice);

    assert_eq!(seen.relay, Relay::Drop);
    assert_eq!(meter.usage().map(|usage| (usage.input.get(), usage.output.get())), Some((3, 4)));
}

#[test]
fn anthropics_input_becomes_whole_by_adding_what_the_cache_did() {
    let whole = br#"{"type":"message","model":"c","stop_reason":"end_turn","usage":{"input_tokens":10,
        "cache_creation_input_tokens":5,"cache_read_input_tokens":100,"output_tokens":7,
        "output_tokens_details":{"thinking_tokens":3}}}"#;

    let reply = reply_usage(Operation::Messages, whole).unwrap();

    let usage = reply.usage.unwrap();
    assert_eq!(usage.input, Tokens::new(115));
    assert_eq!((usage.cached_read, usage.cache_write), (Tokens::new(100), Tokens::new(5)));
    assert_eq!((usage.output, usage.reasoning), (Tokens::new(7), Tokens::new(3)));
    assert_eq!((reply.model.as_deref(), reply.finish_reason, reply.is_error), (Some("c"), Some("end_turn"), false));
}

#[test]
fn whole_replies_of_openais_wires_are_read() {
    let chat = br#"{"model":"g","choices":[{"finish_reason":"stop"},{"finish_reason":"tool_calls"}],"usage":{
        "prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":1},
        "completion_tokens_details":{"reasoning_tokens":3}},"error":null}"#;
    let responses = br#"{"object":"response","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},
        "error":null,"usage":{"input_tokens":9,"output_tokens":4,"input_tokens_details":{"cached_tokens":2,
        "cache_write_tokens":1},"output_tokens_details":{"reasoning_tokens":3}}}"#;

    let chat = reply_usage(Operation::Chat, chat).unwrap();
    let responses = reply_usage(Operation::Responses, responses).unwrap();

    assert_eq!(chat.usage, responses.usage);
    assert_eq!(chat.usage.map(|usage| usage.input), Some(Tokens::new(9)));
    assert_eq!((chat.finish_reason, responses.finish_reason), (Some("tool_calls"), Some("max_output_tokens")));
    assert!(!chat.is_error && !responses.is_error);
}

#[test]
fn an_error_that_comes_as_a_success_is_flagged() {
    let openai = reply_usage(Operation::Chat, br#"{"error":{"message":"no","type":"server_error"}}"#).unwrap();
    let anthropic = reply_usage(Operation::Messages, br#"{"type":"error","error":{"type":"api_error"}}"#).unwrap();
    let failed = br#"{"object":"response","status":"failed","error":{"code":"server_error","message":"no"}}"#;

    assert!(openai.is_error && anthropic.is_error);
    assert!(!reply_usage(Operation::Responses, failed).unwrap().is_error);
}

#[test]
fn a_reply_that_is_no_json_object_is_none() {
    assert!(matches!(reply_usage(Operation::Chat, b"<html>"), Err(BadJson::Syntax { .. })));
    assert!(matches!(reply_usage(Operation::Chat, b"[]"), Err(BadJson::NotAnObject { .. })));
    assert!(matches!(reply_usage(Operation::Chat, b"{\"a\":1"), Err(BadJson::Syntax { .. })));
    assert!(matches!(reply_usage(Operation::Chat, b"\xff"), Err(BadJson::NotUtf8 { offset: 0 })));
}

#[test]
fn an_error_of_our_credential_is_kept_from_the_client() {
    let mut meter = StreamMeter::new(Operation::Chat, false);

    let seen = meter.observe(&frame(r#"{"error":{"message":"Incorrect API key sk-ours","code":"invalid_api_key"}}"#));

    assert_eq!(seen.relay, Relay::Drop);
    assert_eq!(meter.in_band_error().map(|error| error.fault), Some(Fault::Credential));
}

proptest! {
    #[test]
    fn taking_out_a_usage_member_leaves_the_rest_as_it_was(
        place in 0_usize..3,
        space in prop_oneof![Just(""), Just(" ")],
    ) {
        let mut members = vec![r#""id":"\"usage\":null,""#, r#""choices":[{"index":0,"usage":null}]"#];
        let plain = format!("{{{}}}", members.join(","));
        let usage = format!(r#""usage"{space}:{space}null"#);
        members.insert(place, &usage);
        let chunk = format!("{{{}}}", members.join(&format!("{space},{space}")));

        let seen = StreamMeter::new(Operation::Chat, true).observe(&frame(&chunk));

        let Relay::Replace(out) = seen.relay else { return Err(TestCaseError::fail("not replaced")) };
        let out = Frame::parse(out);
        let left: serde_json::Value = serde_json::from_slice(&out.data()).unwrap();
        prop_assert_eq!(left, serde_json::from_str::<serde_json::Value>(&plain).unwrap());
        if space.is_empty() {
            prop_assert_eq!(out.data(), plain.as_bytes());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>(), text in r#"[\[\]{}",:a0\\u choiesrdlt_.]{0,40}"#) {
        for op in ["chat", "completions", "responses", "embeddings", "messages", "count_tokens"] {
            let mut meter = StreamMeter::new(operation(op), true).with_choices(3);
            for frame in frames(&bytes).iter().chain([&frame(&text)]) {
                meter.observe(frame);
            }
            let _ = (meter.finished(), meter.usage(), reply_usage(operation(op), &bytes).is_ok());
        }
    }
}
