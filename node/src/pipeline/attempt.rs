//! Calls a target and waits for the commit point: until then nothing has been sent to the client, and an error can be made
//! good at another target, or become a status of its own.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::response::Parts;
use http::{HeaderMap, header};
use tokio::time::{timeout, timeout_at};
use tracing::Instrument;
use troupe_dialect::fault::{RetryHints, classify, classify_event};
use troupe_dialect::meter::reply_usage;
use troupe_dialect::quota::Quota;
use troupe_dialect::resume::Join;
use troupe_dialect::translate::{self, Context, Loss, TranslateError};
use troupe_dialect::{Dialect, Operation};
use troupe_proto::failure::Fault;
use troupe_proto::id::TargetId;
use troupe_proto::outcome::Usage;

use super::decode::Call;
use super::prepare::{Prepared, TRANSLATE_INLINE_BYTES, Way, streams};
use super::refusal::Refusal;
use super::route::At;
use super::source::{Batch, Source};
use super::visit::Progress;
use super::{failure, offload};
use crate::clock;
use crate::telemetry::spans;
use crate::upstream::{Client, UpstreamBody};
use crate::view::{CallLimits, Credential, Member, Pool};

/// Whole replies up to this size are read, and checked to be JSON, before the client hears of them.
const WHOLE_BYTES: usize = 8 << 20;
/// What is kept of a stream before its first content: roles, pings and comments are small.
const PRELUDE_BYTES: usize = 1 << 20;
/// More than this of an error's body says nothing new.
const ERROR_BYTES: usize = 64 << 10;
/// How long an error's body is waited for, once its head has said what is the matter.
const ERROR_BODY_FOR: Duration = Duration::from_secs(1);
/// Checking larger replies takes longer than a data thread may be held up.
const CHECK_INLINE_BYTES: usize = 256 << 10;

/// A target that has answered.
pub(super) enum Opened {
    /// A whole reply, checked.
    Whole { head: Parts, body: Bytes, facts: Facts },
    /// A whole reply too large to be kept: what was read, and the rest.
    Large { head: Parts, read: Bytes, rest: UpstreamBody },
    /// A stream that has begun.
    Stream { head: Parts, source: Box<Source>, begun: Batch },
}

impl Opened {
    /// The reply's head.
    pub(super) const fn head(&self) -> &Parts {
        match self {
            Self::Whole { head, .. } | Self::Large { head, .. } | Self::Stream { head, .. } => head,
        }
    }
}

/// What a whole reply said.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) usage: Option<Usage>,
    pub(super) finish: Option<&'static str>,
    /// What the reply lost in translation.
    pub(super) lost: Vec<Loss>,
    pub(super) is_translated: bool,
}

/// How long an attempt may take, as points in time.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// The target's own.
    pub(super) limits: CallLimits,
    /// When the client wants to have heard of the reply's head.
    pub(super) head: Instant,
    /// When the first content has to be there, or another target is asked.
    pub(super) begin: Instant,
    pub(super) total: Instant,
}

/// The end of a step.
struct Until {
    at: tokio::time::Instant,
    /// Whether it was the client who had no more time. That says nothing about the target.
    is_hasty: bool,
}

impl Until {
    /// Waits for `work`, and says in a refusal what was not done in time.
    ///
    /// Not an `async fn`: that would have room for `work` twice, as it came and as it is waited for.
    fn wait<T>(self, work: impl Future<Output = T>, what: &str) -> impl Future<Output = Result<T, Refusal>> {
        timeout_at(self.at, work).map(move |done| {
            done.map_err(|_| {
                let mut late = failure::timeout(what);
                late.is_innocent = self.is_hasty;
                late
            })
        })
    }
}

impl Deadlines {
    /// The deadline of a step that may take `limit` from now, within the whole.
    pub(super) fn step(&self, limit: Duration) -> tokio::time::Instant {
        let step = clock::now().checked_add(limit).unwrap_or(self.total);
        tokio::time::Instant::from_std(step.min(self.total))
    }

    /// The end of a step before the commit point.
    fn until(&self, limit: Duration, by: Instant) -> Until {
        let by = by.min(self.total);
        let own = clock::now().checked_add(limit).unwrap_or(by);
        Until { at: tokio::time::Instant::from_std(own.min(by)), is_hasty: by < own }
    }
}

/// The target of an attempt, and how long it may take.
pub(super) struct Served {
    pub(super) pool: Arc<Pool>,
    pub(super) at: At,
    /// The model's name there.
    pub(super) model: Arc<str>,
    /// What the request lost in translation.
    pub(super) lost: Vec<Loss>,
    /// How the rest of a broken stream was asked for, if that is what it is.
    pub(super) join: Option<Join>,
    pub(super) deadlines: Deadlines,
}

impl Served {
    pub(super) fn member(&self) -> &Member {
        self.pool.members.get(self.at.1).expect("a plan chooses members of its pool")
    }

    /// What it is called in logs and headers.
    pub(super) fn target(&self) -> TargetId {
        self.member().target(&self.model)
    }

    /// The dialect it answers in.
    pub(super) fn dialect(&self) -> Dialect {
        self.member().provider.dialect
    }
}

/// Calls one target.
///
/// # Errors
/// What the client is told if no other target is tried; the attempt is closed then.
pub(super) async fn attempt(
    call: &Call,
    prepared: Prepared,
    served: &Served,
    client: &Arc<Client>,
    progress: &Progress,
) -> Result<Opened, Refusal> {
    let span = spans::attempt(&tracing::Span::current(), &|| served.target());
    let mut opened = open(call, prepared, served, client, progress).instrument(span).await;
    if let Err(refusal) = &mut opened {
        let member = served.member();
        keep_secret(refusal, member.credential.as_deref());
        tell_operator(member, refusal);
    }
    opened
}

/// Says why calls to a provider fail, now and then: an operator has to act on some of it, and no client is told.
fn tell_operator(member: &Member, refusal: &Refusal) {
    let provider = &member.provider;
    let concerns_operator = match refusal.fault {
        Some(Fault::Credential | Fault::Quota | Fault::Provider | Fault::Ours) | None => true,
        Some(Fault::Client | Fault::Capacity | Fault::ContextLength) => false,
    };
    if concerns_operator && provider.quiet.may_speak(refusal.code, clock::unix_seconds()) {
        let detail = refusal.detail.as_deref().unwrap_or(&refusal.message);
        // Cut, because some providers repeat the prompt too.
        let detail: String = without_secret(detail, member.credential.as_deref()).chars().take(DETAIL_CHARS).collect();
        tracing::warn!(provider = %provider.id, code = refusal.code.as_str(), detail, "calls to a provider fail");
    }
}

/// Keeps our credential from the client, whatever the provider says of it.
fn keep_secret(refusal: &mut Refusal, credential: Option<&Credential>) {
    if let Cow::Owned(clean) = without_secret(&refusal.message, credential) {
        refusal.message = clean.into_boxed_str();
    }
    let told = refusal.verbatim.as_ref().map(|words| String::from_utf8_lossy(words));
    if told.is_some_and(|words| matches!(without_secret(&words, credential), Cow::Owned(_))) {
        refusal.verbatim = None;
    }
}

/// As much of a provider's words as an operator needs to know what is wrong.
const DETAIL_CHARS: usize = 200;

/// Takes the credential out of a provider's words: some repeat the one they refuse.
fn without_secret<'a>(words: &'a str, credential: Option<&Credential>) -> Cow<'a, str> {
    let sent = credential.and_then(|credential| credential.value.to_str().ok());
    match sent.map(|sent| sent.strip_prefix("Bearer ").unwrap_or(sent)) {
        Some(secret) if !secret.is_empty() && words.contains(secret) => words.replace(secret, "[credential]").into(),
        Some(_) | None => words.into(),
    }
}

async fn open(
    call: &Call,
    prepared: Prepared,
    served: &Served,
    client: &Arc<Client>,
    progress: &Progress,
) -> Result<Opened, Refusal> {
    let deadlines = served.deadlines;
    let (member, limits) = (served.member(), deadlines.limits);
    let sending = client.send(&member.provider.id, &member.provider.endpoint, prepared.request, limits.connect);
    let until = deadlines.until(limits.first_byte, deadlines.head.min(deadlines.begin));
    let response = until.wait(sending, "did not answer").await?.map_err(|error| failure::of_send(&error))?;
    let (head, mut body) = response.into_parts();
    progress.answered(head.status.as_u16());
    let provider = member.provider.dialect;
    if !head.status.is_success() {
        // The head says enough where the body does not come.
        let words = timeout(ERROR_BODY_FOR, read(&mut body, ERROR_BYTES, deadlines)).await;
        let words = words.ok().and_then(Result::ok).map_or_else(Bytes::new, |(words, _)| words);
        return Err(refused(head.status.as_u16(), &head.headers, words, provider, call.operation));
    }
    if call.peeked.stream && streams(call.operation) && is_event_stream(&head.headers) {
        let source = match prepared.way {
            Way::Same { hide_usage } => Source::same(call.operation, hide_usage, call.peeked.n.unwrap_or(1), body),
            Way::Other(context) => Source::other(*context, body),
        };
        let mut source = Box::new(source);
        let begun = begin(&mut source, deadlines, progress).await?;
        return Ok(Opened::Stream { head, source, begun });
    }
    if call.peeked.stream && streams(call.operation) {
        let (words, _) = read(&mut body, ERROR_BYTES, deadlines).await?;
        return Err(not_a_stream(call.operation, provider, &words));
    }
    let (whole, is_all) = read(&mut body, WHOLE_BYTES, deadlines).await?;
    if !is_all {
        return match prepared.way {
            Way::Same { .. } => Ok(Opened::Large { head, read: whole, rest: body }),
            Way::Other(_) => Err(failure::invalid("it is too large to be translated")),
        };
    }
    match prepared.way {
        Way::Same { .. } => checked(call.operation, provider, head, whole).await,
        Way::Other(context) => translated(*context, provider, head, whole).await,
    }
}

/// Waits for the first content; hands out what came until then.
async fn begin(source: &mut Source, deadlines: Deadlines, progress: &Progress) -> Result<Batch, Refusal> {
    let mut begun: Option<BytesMut> = None;
    loop {
        let until = deadlines.until(deadlines.limits.idle, deadlines.begin);
        let batch = until.wait(source.batch(), "sent nothing more").await?.map_err(failure::of_break)?;
        let Some(mut batch) = batch else {
            return Err(failure::invalid("its stream ended without an answer"));
        };
        if batch.has_content {
            progress.first_content(clock::now());
        }
        if let Some(mut before) = begun.take() {
            before.extend_from_slice(&batch.bytes);
            batch.bytes = before.freeze();
        }
        if !batch.has_content && batch.bytes.len() > PRELUDE_BYTES {
            return Err(failure::invalid("it says much and answers nothing"));
        }
        if batch.has_content || batch.is_end {
            return Ok(batch);
        }
        begun = Some(batch.bytes.into());
    }
}

/// Reads up to `limit` bytes, and says whether that was all.
async fn read(body: &mut UpstreamBody, limit: usize, deadlines: Deadlines) -> Result<(Bytes, bool), Refusal> {
    let announced = body.announced_bytes().and_then(|n| usize::try_from(n).ok());
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        let until = deadlines.until(deadlines.limits.idle, deadlines.begin);
        let next = until.wait(body.chunk(), "did not finish its reply").await?;
        match next {
            None if whole.is_empty() => return Ok((first, true)),
            None => return Ok((whole.freeze(), true)),
            Some(Err(error)) => {
                tracing::debug!(%error, "a provider's reply broke off");
                return Err(failure::invalid("it broke off"));
            }
            Some(Ok(chunk)) if first.is_empty() && whole.is_empty() => first = chunk,
            Some(Ok(chunk)) => {
                if whole.is_empty() {
                    whole.reserve(announced.unwrap_or(0).clamp(first.len() + chunk.len(), limit.saturating_mul(2)));
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&chunk);
            }
        }
        if whole.len().max(first.len()) > limit {
            return Ok((if whole.is_empty() { first } else { whole.freeze() }, false));
        }
    }
}

async fn checked(operation: Operation, provider: Dialect, head: Parts, body: Bytes) -> Result<Opened, Refusal> {
    let looked = if body.len() <= CHECK_INLINE_BYTES {
        reply_usage(operation, &body)
    } else {
        let body = body.clone();
        offload(move || reply_usage(operation, &body)).await?
    };
    let peek = looked.map_err(|error| failure::invalid(&error.to_string()))?;
    if peek.is_error {
        return Err(refused_in_a_success(provider, &head.headers, body, operation));
    }
    let facts = Facts { usage: peek.usage, finish: peek.finish_reason, ..Facts::default() };
    Ok(Opened::Whole { head, body, facts })
}

async fn translated(context: Context, provider: Dialect, head: Parts, body: Bytes) -> Result<Opened, Refusal> {
    let client = context.client;
    let reply = if body.len() <= TRANSLATE_INLINE_BYTES {
        translate::reply(&context, &body)
    } else {
        let body = body.clone();
        offload(move || translate::reply(&context, &body)).await?
    };
    match reply {
        Ok(reply) => {
            let facts = Facts {
                usage: reply.usage,
                finish: reply.finish.map(|finish| finish.as_str()),
                lost: reply.lost,
                is_translated: true,
            };
            Ok(Opened::Whole { head, body: reply.body.into(), facts })
        }
        Err(TranslateError::Upstream(_)) => Err(refused_in_a_success(provider, &head.headers, body, client)),
        Err(error) => Err(failure::invalid(&error.to_string())),
    }
}

/// An answer that is no success.
fn refused(status: u16, headers: &HeaderMap, words: Bytes, provider: Dialect, operation: Operation) -> Refusal {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let hints = RetryHints::read(text, clock::wall());
    let mut error = classify(provider, status, &hints, &words);
    if error.fault == Fault::Capacity && error.retry_after.is_none() {
        // Some say when to come back only there. A part of the quota is back before all of it is.
        let quota = Quota::read(provider, text, clock::wall()).filter(|quota| quota.is_spent);
        error.retry_after = quota.and_then(|quota| quota.reset).map(|reset| reset / 10);
    }
    let words = (provider == operation.dialect()).then_some(words);
    failure::of_answer(status, error, words, headers, provider)
}

/// An error with a success's status, as some gateways send it.
fn refused_in_a_success(provider: Dialect, headers: &HeaderMap, words: Bytes, operation: Operation) -> Refusal {
    let error = classify_event(provider, &words);
    let words = (provider == operation.dialect()).then_some(words);
    failure::of_answer(failure::status_of(&error), error, words, headers, provider)
}

fn not_a_stream(operation: Operation, provider: Dialect, words: &[u8]) -> Refusal {
    if !reply_usage(operation, words).is_ok_and(|reply| reply.is_error) {
        return failure::invalid("a stream was asked for and something else came");
    }
    let error = classify_event(provider, words);
    failure::of_answer(failure::status_of(&error), error, None, &HeaderMap::new(), provider)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // A reply of which nothing is said is what was asked for.
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    Some(kind.as_bytes())
        .and_then(|kind| kind.get(..17))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use troupe_proto::failure::ErrorCode;
    use troupe_proto::id::CredentialId;

    use super::*;

    #[test]
    fn a_provider_that_repeats_our_credential_is_not_quoted() {
        let value = http::HeaderValue::from_static("Bearer sk-ours");
        let credential = Credential { id: CredentialId::new("main"), header: HeaderName::from_static("x"), value };
        let refusal = |words: &'static str| {
            let mut refusal = Refusal::new(ErrorCode::ProviderError, words);
            refusal.verbatim = Some(Bytes::from_static(words.as_bytes()));
            keep_secret(&mut refusal, Some(&credential));
            (refusal.message, refusal.verbatim.is_some())
        };

        assert_eq!(refusal("boom sk-ours"), ("boom [credential]".into(), false));
        assert_eq!(refusal("boom"), ("boom".into(), true));
    }
}
