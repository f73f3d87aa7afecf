//! Token counts: each wire's words, converted to the one internal form at the edge and back.
//!
//! OpenAI's `prompt_tokens` include what was read from a cache; Anthropic's `input_tokens` exclude what was read from
//! and written to one. Both output counts include reasoning.

use serde_json::{Map, Value, json};
use troupe_proto::outcome::Usage;
use troupe_proto::unit::Tokens;

fn tokens(object: &Map<String, Value>, key: &str) -> Option<Tokens> {
    object.get(key).and_then(Value::as_u64).map(Tokens::new)
}

fn nested(object: &Map<String, Value>, outer: &str, key: &str) -> Tokens {
    object.get(outer).and_then(Value::as_object).and_then(|inner| tokens(inner, key)).unwrap_or_default()
}

/// Reads the `usage` object of a chat completion or its last chunk; `None` when it counts nothing.
pub fn from_openai_chat(usage: &Value) -> Option<Usage> {
    let usage = usage.as_object()?;
    let (input, output) = (tokens(usage, "prompt_tokens"), tokens(usage, "completion_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    Some(Usage {
        input: input.unwrap_or_default(),
        cached_read: nested(usage, "prompt_tokens_details", "cached_tokens"),
        cache_write: nested(usage, "prompt_tokens_details", "cache_write_tokens"),
        output: output.unwrap_or_default(),
        reasoning: nested(usage, "completion_tokens_details", "reasoning_tokens"),
    })
}

/// Writes the `usage` object of a chat completion.
pub fn to_openai_chat(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input.get(),
        "completion_tokens": usage.output.get(),
        "total_tokens": usage.input.saturating_add(usage.output).get(),
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_read.get(),
            "cache_write_tokens": usage.cache_write.get(),
        },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning.get() },
    })
}

/// Reads the `usage` object of a message; `None` when it counts nothing.
pub fn from_anthropic(usage: &Value) -> Option<Usage> {
    let usage = usage.as_object()?;
    let (fresh, output) = (tokens(usage, "input_tokens"), tokens(usage, "output_tokens"));
    if fresh.is_none() && output.is_none() {
        return None;
    }
    let cached_read = tokens(usage, "cache_read_input_tokens").unwrap_or_default();
    let cache_write = tokens(usage, "cache_creation_input_tokens").unwrap_or_default();
    Some(Usage {
        input: fresh.unwrap_or_default().saturating_add(cached_read).saturating_add(cache_write),
        cached_read,
        cache_write,
        output: output.unwrap_or_default(),
        reasoning: nested(usage, "output_tokens_details", "thinking_tokens"),
    })
}

/// Writes the `usage` object of a message.
pub fn to_anthropic(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached_read).saturating_sub(usage.cache_write).get(),
        "cache_creation_input_tokens": usage.cache_write.get(),
        "cache_read_input_tokens": usage.cached_read.get(),
        "output_tokens": usage.output.get(),
        "output_tokens_details": { "thinking_tokens": usage.reasoning.get() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_count_once_on_either_wire() {
        let theirs = json!({
            "input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 1000, "output_tokens": 7,
        });

        let usage = from_anthropic(&theirs).unwrap();

        assert_eq!(usage.input, Tokens::new(1110));
        assert_eq!(from_openai_chat(&to_openai_chat(usage)), Some(usage));
        assert_eq!(from_anthropic(&to_anthropic(usage)), Some(usage));
        assert_eq!(to_anthropic(usage)["input_tokens"], 10);
        assert_eq!(to_openai_chat(usage)["total_tokens"], 1117);
    }

    #[test]
    fn an_object_without_counts_is_no_usage() {
        assert_eq!(from_openai_chat(&json!({})), None);
        assert_eq!(from_openai_chat(&Value::Null), None);
        assert_eq!(from_anthropic(&json!({"service_tier": "standard"})), None);
    }
}
