//! The one event each request leaves behind.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use troupe_dialect::{Dialect, Operation};
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{KeyId, ModelId, ProviderId, RequestId, TargetId};
use troupe_proto::outcome::{AttemptEnd, CallEnded, Usage};

use super::trace::TraceId;

/// The longest text a client can put into a record, in characters.
pub const CLIENT_TEXT_CHARS_MAX: usize = 128;

/// How a request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply was sent whole.
    Finished,
    /// The gateway said no before any provider was asked.
    Refused,
    /// A provider was asked and the client got an error.
    Failed,
    /// The reply broke off after content had been sent.
    Interrupted,
    /// The client went away first.
    ClientGone,
}

impl Outcome {
    /// Every outcome, in the order of their index.
    pub const ALL: [Self; 5] = [Self::Finished, Self::Refused, Self::Failed, Self::Interrupted, Self::ClientGone];

    /// The word used for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::ClientGone => "client_gone",
        }
    }
}

/// One try at one target.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Where it went.
    pub target: TargetId,
    /// How it ended.
    pub end: AttemptEnd,
    /// The status the provider answered with, if it answered.
    pub upstream_status: Option<u16>,
    /// Time from sending to the first content.
    pub first_token: Option<Duration>,
    /// Time from sending to the end.
    pub total: Duration,
    /// The tokens of a leg of a stream that several providers served; the request's own are their sum.
    pub usage: Option<Usage>,
}

impl AttemptRecord {
    /// The record of an attempt that ended, and the status its provider answered with.
    pub fn of(ended: &CallEnded, upstream_status: Option<u16>) -> Self {
        Self {
            target: ended.target.clone(),
            end: ended.end,
            upstream_status,
            first_token: ended.first_token,
            total: ended.total,
            usage: ended.usage,
        }
    }
}

/// The names of what a translation had to drop.
///
/// Fixed names (`Cow::Borrowed`) become metric labels. Whatever else a body held is given as `Cow::Owned`; it is logged,
/// and counted under `other`, because a client's words are no label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// What the request lost on its way to the provider.
    pub request: Vec<Cow<'static, str>>,
    /// What the reply lost on its way to the client.
    pub reply: Vec<Cow<'static, str>>,
}

impl Lost {
    /// Whether nothing was lost.
    pub const fn is_empty(&self) -> bool {
        self.request.is_empty() && self.reply.is_empty()
    }
}

/// What is known of a request once it is over.
///
/// It holds no prompt, no completion and no secret. Texts that clients choose are bounded by [`client_text`].
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// When its head was read, by the wall clock.
    pub at: SystemTime,
    /// The id the gateway gave it.
    pub request_id: RequestId,
    /// The id the client gave it.
    pub client_request_id: Option<Box<str>>,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// The virtual key it came with, once that was known.
    pub key: Option<KeyId>,
    /// What it asked for; `None` where the path says nothing of the kind.
    pub operation: Option<Operation>,
    /// The wire its client speaks.
    pub dialect: Option<Dialect>,
    /// The model's name as the client wrote it. For the log only.
    pub model_asked: Option<Box<str>>,
    /// The configured model that was meant: the metric label. `None` reads `unknown`.
    pub model: Option<ModelId>,
    /// The model that answered, by the provider's name for it.
    pub model_served: Option<Arc<str>>,
    /// The provider that answered, or failed last.
    pub provider: Option<ProviderId>,
    /// Whether the reply was asked for as a stream.
    pub stream: bool,
    /// The status sent to the client; 499 if it left before there was one.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// The error the client was told, or would have been.
    pub error: Option<ErrorCode>,
    /// Why the model stopped, in the client's dialect.
    pub finish: Option<Cow<'static, str>>,
    /// The tokens the provider reported.
    pub usage: Option<Usage>,
    /// Time from the request's head to the first content sent to the client.
    pub first_token: Option<Duration>,
    /// Time from the request's head to the end.
    pub total: Duration,
    /// The part of `total` spent waiting for room in this node.
    pub queue: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body.
    pub bytes_out: u64,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's program, as it names itself.
    pub user_agent: Option<Box<str>>,
    /// How many times the client's SDK says it has tried this before.
    pub sdk_retry: Option<u32>,
    /// Each try at a target, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Whether it was not tried again because the retry budget was spent.
    pub is_retry_denied: bool,
    /// How often a stream that broke went on at another target.
    pub seams: u32,
    /// What translations dropped.
    pub lost: Lost,
}

impl RequestRecord {
    /// A record of a request of which nothing is known yet but its id: refused, with status 500, until told otherwise.
    pub const fn new(at: SystemTime, request_id: RequestId) -> Self {
        Self {
            at,
            request_id,
            client_request_id: None,
            trace_id: None,
            key: None,
            operation: None,
            dialect: None,
            model_asked: None,
            model: None,
            model_served: None,
            provider: None,
            stream: false,
            status: 500,
            outcome: Outcome::Refused,
            error: None,
            finish: None,
            usage: None,
            first_token: None,
            total: Duration::ZERO,
            queue: None,
            bytes_in: 0,
            bytes_out: 0,
            client: None,
            user_agent: None,
            sdk_retry: None,
            attempts: Vec::new(),
            is_retry_denied: false,
            seams: 0,
            lost: Lost { request: Vec::new(), reply: Vec::new() },
        }
    }
}

/// A client's text, cut after [`CLIENT_TEXT_CHARS_MAX`] characters.
pub fn client_text(text: &str) -> Box<str> {
    match text.char_indices().nth(CLIENT_TEXT_CHARS_MAX) {
        Some((end, _)) => text.split_at_checked(end).map_or(text, |(head, _)| head).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_cut_between_characters() {
        let long = "é".repeat(CLIENT_TEXT_CHARS_MAX + 5);

        assert_eq!(&*client_text(&long), "é".repeat(CLIENT_TEXT_CHARS_MAX));
        assert_eq!(&*client_text("gpt-4o"), "gpt-4o");
    }
}
