//! Texts that are JSON, or nearly, for holding a quick reader to a full one.

use proptest::prelude::*;
use proptest::sample::select;

/// Names that some reader looks for, some of them written so that only an unescaping reader sees it.
const NAMES: [&str; 40] = [
    "model",
    "choices",
    "usage",
    "error",
    "index",
    "delta",
    "text",
    "finish_reason",
    "content",
    "tool_calls",
    "refusal",
    "type",
    "message",
    "content_block",
    "stop_reason",
    "sequence_number",
    "response",
    "status",
    "incomplete_details",
    "reason",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    "cached_tokens",
    "reasoning_tokens",
    "input_tokens",
    "output_tokens",
    "output_tokens_details",
    "thinking_tokens",
    "cache_read_input_tokens",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "mod\\u0065l",
    "created",
    "x",
    "é\\n",
];

const PLAIN: [&str; 19] = [
    "null",
    "true",
    "false",
    "0",
    "7",
    "18446744073709551615",
    "\"\"",
    "\"stop\"",
    "\"error\"",
    "\"content_block_delta\"",
    "\"message_delta\"",
    "\"response.output_text.delta\"",
    "\"response.completed\"",
    "\"a longer text, of more than eight bytes\"",
    "\"line\\nend \\\"quoted\\\" \\\\\"",
    "\"\\u0041\\u00e9\"",
    "\"\u{7f}é漢😀\"",
    "\"1234567\\\"\"",
    "\"12345678\"",
];

/// What readers differ over, and what none of them takes.
const ODD: [&str; 20] = [
    "-1",
    "-0",
    "12.0",
    "-0.5",
    "1e3",
    "1e999",
    "18446744073709551616",
    "123456789012345678901234567890123456789012345678901234567890123456789",
    "007",
    "1.",
    ".5",
    "+1",
    "nul",
    "NaN",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\u12\"",
    "\"\\x\"",
    "\"raw\ttab\"",
    "\"open",
];

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![200 => Just(""), 20 => Just(" "), 10 => Just("\n\t\r "), 1 => Just("\u{b}")]
}

/// One value, perhaps with a flaw.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![12 => select(&PLAIN[..]), 1 => select(&ODD[..])].prop_map(str::to_owned);
    scalar.prop_recursive(5, 40, 6, |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (select(&NAMES[..]), space(), inner, space())
            .prop_map(|(name, a, value, b)| format!("{a}\"{name}\"{b}:{a}{value}{b}"));
        prop_oneof![
            1 => proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            3 => proptest::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// A text that is an object most of the time, and now and then has a character too many or too few.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let flaw = prop_oneof![6 => Just(None), 1 => (any::<prop::sample::Index>(), "[\\]},:\"a0 ]?").prop_map(Some)];
    (value(), flaw).prop_map(|(text, flaw)| {
        let Some((at, instead)) = flaw else { return text };
        let at = at.index(text.chars().count().max(1));
        text.chars().enumerate().map(|(i, c)| if i == at { instead.clone() } else { c.to_string() }).collect()
    })
}
