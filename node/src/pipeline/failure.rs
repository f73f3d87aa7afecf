//! What an upstream failure is called, and what of it a client may read (KEY-2).

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use troupe_dialect::Dialect;
use troupe_dialect::fault::Classified;
use troupe_dialect::headers as allowed;
use troupe_proto::failure::{ErrorCode, Fault};

use super::refusal::Refusal;
use super::source::Break;
use crate::upstream::{ConnectError, SendError};

/// No connection, or one that broke before the reply's head.
pub(super) fn of_send(error: &SendError) -> Refusal {
    let (code, message) = match error {
        SendError::Connect(ConnectError::Timeout(_)) => {
            (ErrorCode::ProviderTimeout, "no connection to the model provider could be made in time")
        }
        SendError::Connect(_) => (ErrorCode::ProviderUnreachable, "no connection to the model provider could be made"),
        SendError::Broken(_) | SendError::Refused => {
            (ErrorCode::ProviderUnreachable, "the connection to the model provider broke before it answered")
        }
        SendError::Url(_) => (ErrorCode::Internal, "the call could not be put into words for the model provider"),
    };
    let fault = if code == ErrorCode::Internal { Fault::Ours } else { Fault::Provider };
    Refusal::new(code, message).with_fault(fault).with_detail(chain(error))
}

/// An error and all that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A step that took longer than it may.
pub(super) fn timeout(what: &str) -> Refusal {
    Refusal::new(ErrorCode::ProviderTimeout, format!("the model provider {what} in time")).with_fault(Fault::Provider)
}

/// A reply that is none.
pub(super) fn invalid(what: &str) -> Refusal {
    Refusal::new(ErrorCode::ProviderInvalidReply, format!("the model provider's reply is not valid: {what}"))
        .with_fault(Fault::Provider)
}

/// An answer with an error's status.
///
/// The provider's own words go to a client of the same dialect where they may; else ours, with its message unless that
/// could speak of our credential.
pub(super) fn of_answer(
    status: u16,
    error: Classified,
    words: Option<Bytes>,
    headers: &HeaderMap,
    provider: Dialect,
) -> Refusal {
    let theirs = error.message.clone();
    let message = match (error.fault, error.message) {
        (Fault::Credential, _) => "the model provider refused the gateway's credential".to_owned(),
        (Fault::Quota, _) => "the gateway's account at the model provider is out of quota".to_owned(),
        (Fault::Ours, _) => "the gateway made a call that the model provider did not understand".to_owned(),
        (Fault::Client | Fault::Capacity | Fault::ContextLength | Fault::Provider, Some(message)) => message,
        (Fault::Client | Fault::Capacity | Fault::ContextLength | Fault::Provider, None) => {
            format!("the model provider answered with status {status}")
        }
    };
    let mut refusal = Refusal::new(error.code, message).with_fault(error.fault);
    refusal.is_unknown_model = error.is_unknown_model;
    refusal.forbids_retry = error.should_retry == Some(false);
    if let Some(theirs) = theirs {
        refusal = refusal.with_detail(theirs);
    }
    refusal.status = match error.fault {
        Fault::Client | Fault::ContextLength if (400..500).contains(&status) => Some(status),
        Fault::Provider if (500..600).contains(&status) => Some(status),
        // Overload is the provider's trouble, not the caller's rate: SDKs have another class for it than for a 429.
        Fault::Capacity if matches!(status, 503 | OVERLOADED) => Some(status),
        Fault::Client | Fault::ContextLength | Fault::Provider => None,
        Fault::Credential | Fault::Quota | Fault::Capacity | Fault::Ours => None,
    };
    refusal.retry_after = error.retry_after.filter(|wait| !wait.is_zero());
    if error.relay_body {
        refusal.verbatim = words;
    }
    let mut kept = HeaderMap::new();
    for name in allowed::response(provider).filter(|name| name.starts_with("openai-")) {
        if let Some(value) = headers.get(name) {
            kept.insert(HeaderName::from_static(name), value.clone());
        }
    }
    note_upstream_id(headers, &mut kept);
    refusal.headers = Some(Box::new(kept));
    refusal
}

/// The status an error stands for that came without one.
pub(super) fn status_of(error: &Classified) -> u16 {
    match error.provider_type.as_deref() {
        Some("overloaded_error") => OVERLOADED,
        Some(_) | None => error.code.status(),
    }
}

/// What Anthropic answers when it is overloaded; its SDKs have a class for it.
const OVERLOADED: u16 = 529;

/// A stream that broke.
pub(super) fn of_break(broken: Break) -> Refusal {
    match broken {
        Break::Lost(error) => {
            Refusal::new(ErrorCode::StreamInterrupted, "the connection to the model provider broke in mid-stream")
                .with_fault(Fault::Provider)
                .with_detail(error)
        }
        Break::Short => Refusal::new(ErrorCode::StreamInterrupted, "the model provider's stream ended before its end")
            .with_fault(Fault::Provider),
        Break::Invalid(what) => invalid(&what),
        Break::Told { error, .. } => of_answer(status_of(&error), *error, None, &HeaderMap::new(), Dialect::OpenAi),
    }
}

/// Hands the provider's request id on, under a name that cannot be taken for ours.
pub(super) fn note_upstream_id(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(id) = upstream_id(from) {
        to.insert(HeaderName::from_static(allowed::UPSTREAM_REQUEST_ID), id.clone());
    }
}

/// [`allowed::REQUEST_ID`], ready to be looked up.
const REQUEST_IDS: [HeaderName; 3] = [
    HeaderName::from_static(allowed::REQUEST_ID[0]),
    HeaderName::from_static(allowed::REQUEST_ID[1]),
    HeaderName::from_static(allowed::REQUEST_ID[2]),
];

fn upstream_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    REQUEST_IDS.iter().find_map(|name| headers.get(name))
}
