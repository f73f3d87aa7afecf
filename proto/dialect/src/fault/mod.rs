//! What kind of trouble a provider's refusal is, and what of it a client may read.
//!
//! The body decides before the status, because providers use the same status for different things: OpenAI's 429 is
//! "slow down" or "out of quota", Anthropic's 400 is a bad request or an empty account. What each class does to
//! retries and breakers is said at [`Fault`].
//!
//! A 404 in the provider's own words (an unknown model, say) is the request's fault and is relayed as such, though the
//! cause may be a wrong mapping of ours: the client sees which name the provider did not know. It says nothing of the
//! provider's health, and another target may have the model: [`Classified::is_unknown_model`] tells it from other
//! requests that are at fault. A 404 that is no error of that API comes from something that is not the API, and counts
//! as the provider's.
//!
//! One request that is larger than all a minute allows is taken for one that is too long: no wait helps it, and another
//! target may. Google says "you exceeded your current quota" of a limit a minute; a wait in seconds tells that from an
//! empty account.

mod body;
mod date;
mod hints;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use troupe_proto::failure::{ErrorCode, Fault};

use crate::Dialect;
use body::Upstream;
pub(crate) use date::{parse_rfc3339, rfc3339};
pub use hints::RetryHints;
pub(crate) use hints::parse_length;

/// The most of a provider's message that is kept.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// The largest error body that is relayed as it is.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A provider's refusal, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// Whose fault it is and what can be done.
    pub fault: Fault,
    /// The code a client reads if the error is not relayed as it is.
    pub code: ErrorCode,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider says a further try makes sense (`x-should-retry`).
    pub should_retry: Option<bool>,
    /// The provider's own message, at most [`MESSAGE_BYTES_MAX`], without control characters. It may name our
    /// credential: for the log, and for clients only where `relay_body` is set.
    pub message: Option<String>,
    /// The provider's `type`.
    pub provider_type: Option<String>,
    /// The provider's `code`.
    pub provider_code: Option<String>,
    /// Whether a client of the same dialect may read the body as it came: it is a well-formed error of the dialect
    /// and does not concern our credential or our account (KEY-2).
    pub relay_body: bool,
    /// Whether it is about a model that the provider does not have, or not for our credential: another target may have
    /// it. Where a client may name any model, it says nothing of the target either.
    pub is_unknown_model: bool,
}

/// Understands an answer with a status that is no success.
pub fn classify(dialect: Dialect, status: u16, hints: &RetryHints, body: &[u8]) -> Classified {
    let upstream = Upstream::read(dialect, body);
    let is_unknown_model = words::is_unknown_model(dialect, Some(status), &upstream);
    // Whoever names the model is the API, in whatever form it says so.
    let is_api = upstream.well_formed || is_unknown_model;
    let (fault, code) =
        words::by_content(dialect, Some(status), &upstream).unwrap_or_else(|| words::by_status(status, is_api));
    Classified { is_unknown_model, ..answer(fault, code, hints, upstream, body) }
}

/// Understands an error event in a stream, or an error in the body of a success. There is no status to go by; what
/// says nothing is the provider's fault.
pub fn classify_event(dialect: Dialect, data: &[u8]) -> Classified {
    let upstream = Upstream::read(dialect, data);
    let (fault, code) = words::by_content(dialect, None, &upstream)
        .or_else(|| words::by_name(&upstream))
        .unwrap_or((Fault::Provider, ErrorCode::ProviderError));
    let is_unknown_model = words::is_unknown_model(dialect, None, &upstream);
    Classified { is_unknown_model, ..answer(fault, code, &RetryHints::default(), upstream, data) }
}

fn answer(fault: Fault, code: ErrorCode, hints: &RetryHints, upstream: Upstream, body: &[u8]) -> Classified {
    let may_be_read = match fault {
        Fault::Client | Fault::Capacity | Fault::ContextLength | Fault::Provider => true,
        Fault::Credential | Fault::Quota | Fault::Ours => false,
    };
    Classified {
        fault,
        code,
        // Only who is told to slow down is told how long in words.
        retry_after: hints.after.or_else(|| upstream.wait.filter(|_| fault == Fault::Capacity).map(hints::believed)),
        should_retry: hints.should_retry,
        relay_body: may_be_read && upstream.well_formed && body.len() <= BODY_BYTES_MAX,
        message: upstream.message,
        provider_type: upstream.kind,
        provider_code: upstream.code,
        is_unknown_model: false,
    }
}
