//! What the goldens cannot show of streams: what follows the end, and what is cut.

use super::properties::context;
use crate::Dialect;
use crate::delta::HELD_BYTES_MAX;
use crate::translate::{StreamError, StreamTranslator};

const CHAT: [&str; 2] = [r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#, "[DONE]"];
const MESSAGES: [&str; 3] = [
    r#"{"type":"message_start","message":{"id":"m","model":"c"}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
    r#"{"type":"message_stop"}"#,
];

#[test]
fn nothing_is_written_after_the_end() {
    let late = [
        "oops",
        "[DONE]",
        r#"{"error":{"message":"late"}}"#,
        r#"{"type":"error","error":{"type":"api_error","message":"late"}}"#,
        r#"{"type":"message_stop"}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"late"}}]}"#,
    ];
    for (upstream, events) in [(Dialect::OpenAi, &CHAT[..]), (Dialect::Anthropic, &MESSAGES[..])] {
        let mut translator = StreamTranslator::new(context(upstream));
        let mut out = Vec::new();
        let mut end = false;
        for data in events {
            end = translator.event(None, data.as_bytes(), &mut out).unwrap().end;
        }
        assert!(end && !out.is_empty());
        let whole = out.clone();

        for data in late {
            assert_eq!(translator.event(None, data.as_bytes(), &mut out), Ok(Default::default()), "{data}");
        }
        assert_eq!(translator.finish(&mut out), Ok(()));

        assert_eq!(out, whole);
        assert!(translator.finished());
    }
}

#[test]
fn a_call_that_waits_for_its_name_is_held_within_a_bound() {
    let mut translator = StreamTranslator::new(context(Dialect::OpenAi));
    let mut out = Vec::new();
    let piece = "x".repeat(1 << 20);
    let chunk = format!(
        r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,"id":"a","function":{{"arguments":"{piece}"}}}}]}}}}]}}"#
    );

    for _ in 0..HELD_BYTES_MAX / piece.len() {
        translator.event(None, chunk.as_bytes(), &mut out).unwrap();
    }
    let before = out.len();
    let more = translator.event(None, chunk.as_bytes(), &mut out);

    assert!(matches!(more, Err(StreamError::InvalidReply { .. })), "{more:?}");
    assert_eq!(out.len(), before);
}
