mod generate;
mod goldens;
mod lossless;
mod properties;
mod streams;

use super::{RequestOptions, TokenLimitName};

/// Boring defaults.
pub(super) const fn options() -> RequestOptions<'static> {
    RequestOptions {
        model: "target-model",
        max_tokens_default: 4096,
        sampling_allowed: true,
        drop_params: false,
        stream: false,
        token_limit: TokenLimitName::MaxCompletionTokens,
        created: 1_790_000_000,
    }
}

/// Splits a stream into events: name and data.
pub(super) fn events(stream: &str) -> Vec<(Option<String>, String)> {
    let mut events = Vec::new();
    for block in stream.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut name = None;
        let mut data = Vec::new();
        for line in block.lines() {
            if let Some(rest) = line.strip_prefix("event: ") {
                name = Some(rest.to_owned());
            } else if let Some(rest) = line.strip_prefix("data: ") {
                data.push(rest);
            }
        }
        events.push((name, data.join("\n")));
    }
    events
}
