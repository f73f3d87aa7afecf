//! Any bytes as a request, in both directions: a translation or an error, never a panic, and what was translated reads
//! back on the other wire.

use troupe_dialect::translate::{self, RequestOptions, TokenLimitName};
use troupe_dialect::{Dialect, Operation, anthropic, openai};

/// Holds one input to it.
pub(crate) fn run(data: &[u8]) {
    let Some((flags, body)) = data.split_first() else { return };
    let options = RequestOptions {
        model: "m",
        max_tokens_default: 4096,
        sampling_allowed: flags & 1 != 0,
        drop_params: flags & 2 != 0,
        stream: flags & 4 != 0,
        token_limit: TokenLimitName::MaxCompletionTokens,
        created: 0,
    };
    if let Ok(translated) = translate::request(Operation::Chat, Dialect::Anthropic, body, &options) {
        let value = serde_json::from_slice(&translated.body).expect("a translated body is JSON");
        anthropic::request::decode(value).expect("a translated body is of its wire");
    }
    if let Ok(translated) = translate::request(Operation::Messages, Dialect::OpenAi, body, &options) {
        let value = serde_json::from_slice(&translated.body).expect("a translated body is JSON");
        openai::chat::request::decode(value).expect("a translated body is of its wire");
    }
}
