//! Reads, writes and translates every LLM wire format without IO.
//!
//! The same dialect in and out is never decoded: `peek` looks at the few members the gateway needs and the bytes are
//! forwarded as they came. Between dialects a body goes through one canonical form.

pub mod anthropic;
pub mod call;
pub mod delta;
pub mod error;
pub mod fault;
mod fields;
pub mod headers;
pub mod json;
pub mod loss;
pub mod meter;
pub mod models;
pub mod openai;
pub mod peek;
pub mod quota;
pub mod reply;
pub mod resume;
pub mod sse;
pub mod translate;
pub mod usage;

pub use fields::FieldError;

/// A wire format that clients or providers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// OpenAI's API: chat completions, responses, embeddings and legacy completions.
    OpenAi,
    /// Anthropic's API: messages.
    Anthropic,
}

impl Dialect {
    /// The word used for it in configuration, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// What a request asks for; decided by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
}

impl Operation {
    /// The dialect this operation belongs to.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Responses | Self::Embeddings => Dialect::OpenAi,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
        }
    }

    /// The operation that clients ask for by this path.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completions),
            "/v1/responses" => Some(Self::Responses),
            "/v1/embeddings" => Some(Self::Embeddings),
            "/v1/messages" => Some(Self::Messages),
            "/v1/messages/count_tokens" => Some(Self::CountTokens),
            _ => None,
        }
    }

    /// The path below a provider's `base_url` as that vendor's own SDK appends it.
    ///
    /// OpenAI's base URL ends in `/v1`, Anthropic's does not.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// The word used for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }
}
