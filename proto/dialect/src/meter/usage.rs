//! How each wire counts tokens, brought to the one internal form.

use serde::Deserialize;
use troupe_proto::outcome::Usage;
use troupe_proto::unit::Tokens;

use super::loose::{Count, Object};

/// `usage` of OpenAI's chat, completions and embeddings. Counts that are missing or no numbers are absent.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OpenAiUsage {
    #[serde(default)]
    pub(super) prompt_tokens: Count,
    #[serde(default)]
    pub(super) completion_tokens: Count,
    #[serde(default)]
    pub(super) prompt_tokens_details: Object<InputDetails>,
    #[serde(default)]
    pub(super) completion_tokens_details: Object<OutputDetails>,
    /// DeepSeek's spelling of the cached part.
    #[serde(default)]
    pub(super) prompt_cache_hit_tokens: Count,
}

/// `usage` of OpenAI's Responses.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ResponsesUsage {
    #[serde(default)]
    pub(super) input_tokens: Count,
    #[serde(default)]
    pub(super) output_tokens: Count,
    #[serde(default)]
    pub(super) input_tokens_details: Object<InputDetails>,
    #[serde(default)]
    pub(super) output_tokens_details: Object<OutputDetails>,
}

/// `usage` of Anthropic's messages. In a stream it comes in parts, each cumulative: see [`merge`](Self::merge).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AnthropicUsage {
    #[serde(default)]
    pub(super) input_tokens: Count,
    #[serde(default)]
    pub(super) cache_creation_input_tokens: Count,
    #[serde(default)]
    pub(super) cache_read_input_tokens: Count,
    #[serde(default)]
    pub(super) output_tokens: Count,
    #[serde(default)]
    pub(super) output_tokens_details: Object<ThinkingDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct InputDetails {
    #[serde(default)]
    pub(super) cached_tokens: Count,
    #[serde(default)]
    pub(super) cache_write_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct OutputDetails {
    #[serde(default)]
    pub(super) reasoning_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct ThinkingDetails {
    #[serde(default)]
    pub(super) thinking_tokens: Count,
}

impl OpenAiUsage {
    /// The internal form. The prompt's count includes what came from a cache already.
    pub fn normal(&self) -> Usage {
        let mut details = self.prompt_tokens_details.0.unwrap_or_default();
        if details.cached_tokens.0.is_none() {
            details.cached_tokens = self.prompt_cache_hit_tokens;
        }
        normal(self.prompt_tokens, self.completion_tokens, details, self.completion_tokens_details.0)
    }
}

impl ResponsesUsage {
    /// The internal form. The input's count includes what came from a cache already.
    pub fn normal(&self) -> Usage {
        let details = self.input_tokens_details.0.unwrap_or_default();
        normal(self.input_tokens, self.output_tokens, details, self.output_tokens_details.0)
    }
}

fn normal(input: Count, output: Count, details: InputDetails, output_details: Option<OutputDetails>) -> Usage {
    Usage {
        input: tokens(input),
        cached_read: tokens(details.cached_tokens),
        cache_write: tokens(details.cache_write_tokens),
        output: tokens(output),
        reasoning: tokens(output_details.unwrap_or_default().reasoning_tokens),
    }
}

impl AnthropicUsage {
    /// The internal form: this wire counts what was read from and written to a cache apart, so it is added.
    pub fn normal(&self) -> Usage {
        let (read, written) = (tokens(self.cache_read_input_tokens), tokens(self.cache_creation_input_tokens));
        Usage {
            input: tokens(self.input_tokens).saturating_add(read).saturating_add(written),
            cached_read: read,
            cache_write: written,
            output: tokens(self.output_tokens),
            reasoning: tokens(self.output_tokens_details.0.unwrap_or_default().thinking_tokens),
        }
    }

    /// Takes over each count that `later`, a later part of the same stream, has.
    pub fn merge(&mut self, later: &Self) {
        let over = |count: &mut Count, later: Count| {
            if later.0.is_some() {
                *count = later;
            }
        };
        over(&mut self.input_tokens, later.input_tokens);
        over(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        over(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        over(&mut self.output_tokens, later.output_tokens);
        if let Some(details) = later.output_tokens_details.0 {
            over(&mut self.output_tokens_details.0.get_or_insert_default().thinking_tokens, details.thinking_tokens);
        }
    }
}

fn tokens(count: Count) -> Tokens {
    Tokens::new(count.0.unwrap_or_default())
}
