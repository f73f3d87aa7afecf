//! The reasons to stop, as a bounded set: they become labels of metrics.

/// Every reason the wires know.
const WORDS: [&str; 17] = [
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "function_call",
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    "completed",
    "incomplete",
    "failed",
    "cancelled",
    "max_output_tokens",
];

/// The word for a reason that a provider gave; `other` for one we do not know, nothing for an empty one.
pub(super) fn word(reason: &str) -> Option<&'static str> {
    if reason.is_empty() {
        return None;
    }
    Some(WORDS.into_iter().find(|word| *word == reason).unwrap_or("other"))
}
