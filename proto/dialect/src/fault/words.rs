//! The words by which providers tell their errors apart.

use troupe_proto::failure::{ErrorCode, Fault};

use super::body::Upstream;
use crate::Dialect;

type Verdict = (Fault, ErrorCode);

const CLIENT: Verdict = (Fault::Client, ErrorCode::ProviderRejected);
const CREDENTIAL: Verdict = (Fault::Credential, ErrorCode::ProviderCredential);
const QUOTA: Verdict = (Fault::Quota, ErrorCode::ProviderQuota);
const CAPACITY: Verdict = (Fault::Capacity, ErrorCode::ProviderRateLimited);
const OVERLOADED: Verdict = (Fault::Capacity, ErrorCode::ProviderOverloaded);
const CONTEXT: Verdict = (Fault::ContextLength, ErrorCode::ContextLengthExceeded);
const PROVIDER: Verdict = (Fault::Provider, ErrorCode::ProviderError);
const TIMEOUT: Verdict = (Fault::Provider, ErrorCode::ProviderTimeout);
const NO_ANSWER: Verdict = (Fault::Provider, ErrorCode::ProviderInvalidReply);

/// Types and codes that mean an empty account.
const QUOTA_WORDS: [&str; 7] = [
    "insufficient_quota",
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "exceeded_current_quota_error",
    "Arrearage",
];

/// Beginnings of messages that mean an empty account, from servers that answer 400 to one. Within a message such words
/// may be the client's own, quoted; they must not rest a credential.
const QUOTA_OPENINGS: [&str; 4] = [
    "your credit balance is too low",
    "you have reached your specified api usage limits",
    "you exceeded your current quota",
    "insufficient balance",
];

/// Parts of messages that mean an empty account, in lower case.
const QUOTA_PHRASES: [&str; 7] = [
    "credit balance is too low",
    "exceeded your current quota",
    "insufficient balance",
    "reached your specified api usage limits",
    "prepayment credits are depleted",
    "used all available credits",
    "key limit exceeded",
];

/// Types and codes that mean a refused credential.
const CREDENTIAL_WORDS: [&str; 5] =
    ["authentication_error", "invalid_api_key", "permission_error", "account_deactivated", "invalid_authentication"];

/// Beginnings of messages that mean a refused credential, from servers that answer 400 to one.
const CREDENTIAL_OPENINGS: [&str; 4] =
    ["api key not valid", "incorrect api key", "api key expired", "this organization has been disabled"];

/// Parts of messages of a 403 that speak of what the client wrote, not of who we are.
const MODERATION_PHRASES: [&str; 2] = ["requires moderation", "your input was flagged"];

/// Types and codes that mean a prompt too long for the model.
const CONTEXT_WORDS: [&str; 3] =
    ["context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded"];

/// Parts of messages that mean a prompt too long for the model.
const CONTEXT_PHRASES: [&str; 17] = [
    // OpenAI, Azure, vLLM, Mistral, DeepSeek, OpenRouter, Fireworks.
    "maximum context length",
    "exceeds the context window",
    "exceed the configured limit of",
    "context length exceeded",
    // Anthropic; Bedrock's models.
    "prompt is too long",
    "exceed context limit",
    "input is too long",
    // vLLM and SGLang.
    "longer than the maximum model length",
    "longer than the model's context length",
    "too long to fit into the model",
    // llama.cpp, LM Studio, text-generation-inference.
    "exceeds the available context size",
    "context the overflows",
    "`max_new_tokens` must be <=",
    // Gemini, xAI, Moonshot, Z.ai.
    "exceeds the maximum number of tokens",
    "maximum prompt length is",
    "exceeded model token limit",
    "prompt exceeds max length",
];

/// Parts of messages that mean a single request beyond what a minute or the plan allows: no wait helps, another target
/// may.
const TOO_LARGE_PHRASES: [&str; 2] = ["request too large for", "required for long context requests"];

/// Types and codes that mean "slow down", said to us.
const CAPACITY_WORDS: [&str; 3] = ["rate_limit_error", "rate_limit_exceeded", "too_many_requests"];

/// Types and codes that mean "too much to do", said to everybody.
const OVERLOADED_WORDS: [&str; 4] = ["overloaded_error", "overloaded", "server_is_overloaded", "slow_down"];

/// Parts of messages that mean "too much to do".
const OVERLOADED_PHRASES: [&str; 2] = ["model is overloaded", "currently overloaded"];

/// Types and codes that mean a model the provider does not have, or not for us.
const UNKNOWN_MODEL_WORDS: [&str; 5] =
    ["model_not_found", "DeploymentNotFound", "model_decommissioned", "invalid_model", "model_not_available"];

/// Parts of messages that mean a model the provider does not have. The last is vLLM's.
const UNKNOWN_MODEL_PHRASES: [&str; 7] = [
    "is not a valid model id",
    "no endpoints found",
    "is not found for api version",
    "try pulling it first",
    "model not found",
    "model not exist",
    "` does not exist",
];

/// What the body says, if it says something that outranks the status.
pub(super) fn by_content(dialect: Dialect, status: Option<u16>, upstream: &Upstream) -> Option<Verdict> {
    let refused = status.is_none_or(|status| (400..500).contains(&status));
    let any = |words: &[&str]| words.iter().any(|word| upstream.is(word));
    let says = |phrases: &[&str]| upstream.says(phrases);
    // Google says of a limit a minute what OpenAI says of an empty account, and how many seconds to wait.
    let names_a_wait = upstream.wait.is_some() || upstream.state.as_deref() == Some("RESOURCE_EXHAUSTED");
    // These speak of us; another refusal may speak of what the client wrote.
    let is_ours = matches!(status, Some(401..=403 | 429));
    let says_empty = if is_ours { says(&QUOTA_PHRASES) } else { upstream.opens(&QUOTA_OPENINGS) };
    let is_empty = any(&QUOTA_WORDS) || (says_empty && !(names_a_wait && says(&["current quota"])));
    if refused && is_empty {
        return Some(QUOTA);
    }
    if status == Some(403) && says(&MODERATION_PHRASES) {
        return Some(CLIENT);
    }
    // An OpenAI-like server has more reasons to answer 403 than Anthropic has words for; the status decides those.
    if refused && (any(&CREDENTIAL_WORDS) || (status != Some(429) && upstream.opens(&CREDENTIAL_OPENINGS))) {
        return Some(CREDENTIAL);
    }
    if any(&CONTEXT_WORDS) {
        return Some(CONTEXT);
    }
    // llama.cpp answered 500 to it once.
    if matches!(status, None | Some(400 | 413 | 422 | 500)) && says(&CONTEXT_PHRASES) {
        return Some(CONTEXT);
    }
    if matches!(status, None | Some(413 | 429)) && says(&TOO_LARGE_PHRASES) {
        return Some(CONTEXT);
    }
    if dialect == Dialect::Anthropic && matches!(status, None | Some(413)) && any(&["request_too_large"]) {
        return Some(CONTEXT);
    }
    if any(&OVERLOADED_WORDS) || (matches!(status, None | Some(429 | 503)) && says(&OVERLOADED_PHRASES)) {
        return Some(OVERLOADED);
    }
    any(&CAPACITY_WORDS).then_some(CAPACITY)
}

/// Whether a refusal is about a model that the provider does not have.
pub(super) fn is_unknown_model(dialect: Dialect, status: Option<u16>, upstream: &Upstream) -> bool {
    if !matches!(status, None | Some(400 | 401 | 403 | 404 | 410 | 422)) {
        return false;
    }
    // Anthropic's says which, and nothing else.
    let is_anthropics = dialect == Dialect::Anthropic
        && upstream.is("not_found_error")
        && upstream.message.as_deref().is_some_and(|message| message.starts_with("model:"));
    UNKNOWN_MODEL_WORDS.iter().any(|word| upstream.is(word)) || upstream.says(&UNKNOWN_MODEL_PHRASES) || is_anthropics
}

/// What an error without a status means by its type or code; a code that is a number is taken for a status.
pub(super) fn by_name(upstream: &Upstream) -> Option<Verdict> {
    let status = upstream.code.as_deref().and_then(|code| code.parse::<u16>().ok());
    if let Some(status) = status.filter(|status| (400..600).contains(status)) {
        return Some(by_status(status, upstream.well_formed));
    }
    if ["timeout_error", "timeout"].iter().any(|word| upstream.is(word)) {
        return Some(TIMEOUT);
    }
    let client = ["invalid_request_error", "not_found_error", "invalid_prompt", "request_too_large"];
    client.iter().any(|word| upstream.is(word)).then_some(CLIENT)
}

/// What the status means when the body says nothing special.
pub(super) fn by_status(status: u16, is_api: bool) -> Verdict {
    match status {
        401 | 403 => CREDENTIAL,
        402 => QUOTA,
        429 => CAPACITY,
        529 => OVERLOADED,
        408 | 504 => TIMEOUT,
        // An answer from something that is not the API: a wrong path, a captive proxy.
        404 | 405 if !is_api => PROVIDER,
        400..=499 => CLIENT,
        500..=599 => PROVIDER,
        // No error status at all: a redirect, or nonsense.
        _ => NO_ANSWER,
    }
}

impl Upstream {
    fn is(&self, word: &str) -> bool {
        self.kind.as_deref() == Some(word) || self.code.as_deref() == Some(word)
    }

    /// Whether the message has one of `phrases` in it, which are in lower case.
    fn says(&self, phrases: &[&str]) -> bool {
        let Some(message) = self.message.as_deref() else { return false };
        let message = message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// Whether the message begins with one of `phrases`, which are in lower case.
    fn opens(&self, phrases: &[&str]) -> bool {
        let message = self.message.as_deref().map(str::as_bytes).unwrap_or_default();
        let head =
            |phrase: &str| message.get(..phrase.len()).is_some_and(|head| head.eq_ignore_ascii_case(phrase.as_bytes()));
        phrases.iter().any(|phrase| head(phrase))
    }
}
