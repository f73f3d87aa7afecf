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
const QUOTA_WORDS: [&str; 5] =
    ["insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"];

/// Parts of messages that mean an empty account.
const QUOTA_PHRASES: [&str; 3] = ["credit balance is too low", "exceeded your current quota", "insufficient balance"];

/// Types and codes that mean a refused credential.
const CREDENTIAL_WORDS: [&str; 5] =
    ["authentication_error", "invalid_api_key", "permission_error", "account_deactivated", "invalid_authentication"];

/// Parts of messages that mean a refused credential, for servers that answer 400 to one.
const CREDENTIAL_PHRASES: [&str; 2] = ["api key not valid", "incorrect api key"];

/// Parts of messages that mean a prompt too long for the model.
const CONTEXT_PHRASES: [&str; 6] = [
    "maximum context length",
    "prompt is too long",
    "exceed context limit",
    "exceeds the context window",
    "exceeds the available context size",
    "context length exceeded",
];

/// Types and codes that mean "slow down", said to us.
const CAPACITY_WORDS: [&str; 3] = ["rate_limit_error", "rate_limit_exceeded", "too_many_requests"];

/// Types and codes that mean "too much to do", said to everybody.
const OVERLOADED_WORDS: [&str; 2] = ["overloaded_error", "overloaded"];

/// What the body says, if it says something that outranks the status.
pub(super) fn by_content(dialect: Dialect, status: Option<u16>, upstream: &Upstream) -> Option<Verdict> {
    let refused = status.is_none_or(|status| (400..500).contains(&status));
    let any = |words: &[&str]| words.iter().any(|word| upstream.is(word));
    let says = |phrases: &[&str]| upstream.says(phrases);
    if refused && (any(&QUOTA_WORDS) || says(&QUOTA_PHRASES)) {
        return Some(QUOTA);
    }
    // An OpenAI-like server has more reasons to answer 403 than Anthropic has words for; the status decides those.
    if refused && (any(&CREDENTIAL_WORDS) || (status != Some(429) && says(&CREDENTIAL_PHRASES))) {
        return Some(CREDENTIAL);
    }
    if any(&["context_length_exceeded"]) {
        return Some(CONTEXT);
    }
    if matches!(status, None | Some(400 | 413 | 422)) && says(&CONTEXT_PHRASES) {
        return Some(CONTEXT);
    }
    if dialect == Dialect::Anthropic && matches!(status, None | Some(413)) && any(&["request_too_large"]) {
        return Some(CONTEXT);
    }
    if any(&OVERLOADED_WORDS) {
        return Some(OVERLOADED);
    }
    any(&CAPACITY_WORDS).then_some(CAPACITY)
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
pub(super) fn by_status(status: u16, well_formed: bool) -> Verdict {
    match status {
        401 | 403 => CREDENTIAL,
        402 => QUOTA,
        429 => CAPACITY,
        529 => OVERLOADED,
        408 | 504 => TIMEOUT,
        // An answer from something that is not the API: a wrong path, a captive proxy.
        404 | 405 if !well_formed => PROVIDER,
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

    fn says(&self, phrases: &[&str]) -> bool {
        let Some(message) = self.message.as_deref() else { return false };
        let message = message.to_ascii_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }
}
