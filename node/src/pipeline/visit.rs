//! One request's stay: its place among those in flight, and the record it leaves behind however it ends.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use troupe_actors::{Failure, Pass, Quota};
use troupe_dialect::quota;
use troupe_dialect::translate::{Loss, header_value};
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::TargetId;
use troupe_proto::outcome::{AttemptEnd, Usage};

use super::controls;
use super::late::Prelude;
use super::refusal::Refusal;
use super::route::Chosen;
use crate::clock;
use crate::house::{Place, Thread};
use crate::telemetry::metrics::Present;
use crate::telemetry::record::{AttemptRecord, Outcome, RequestRecord};

/// What the head of a late stream says.
const OK: u16 = 200;

/// What a client that left before its status is logged with.
const CLIENT_CLOSED: u16 = 499;

/// A request's stay. [`Visit::end`] is its ordinary end; a visit that is dropped was left by its client, or ended by a
/// panic.
pub(crate) struct Visit {
    pub(crate) thread: Arc<Thread>,
    record: Option<RequestRecord>,
    began: Instant,
    attempt: Option<OpenAttempt>,
    /// The second of two that race.
    hedge: Option<OpenAttempt>,
    /// Whether a status has been sent.
    is_answered: bool,
    /// Shared with the head of a stream that may have to go out before the call has come to anything.
    prelude: Option<Arc<Prelude>>,
    place: Option<Place>,
    _present: Present,
}

/// Which of two attempts that race is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one that began first, or the only one.
    First,
    /// The one that was sent after it.
    Hedge,
}

/// An attempt that has not ended.
struct OpenAttempt {
    target: TargetId,
    label: Option<HeaderValue>,
    progress: Arc<Progress>,
    pass: Pass,
}

/// How far an attempt has come; written by whoever drives it.
pub(super) struct Progress {
    began: Instant,
    status: AtomicU16,
    /// In microseconds, and one more; 0 before.
    first_token: AtomicU64,
}

impl Progress {
    fn new(began: Instant) -> Self {
        Self { began, status: AtomicU16::new(0), first_token: AtomicU64::new(0) }
    }

    /// Notes the status a provider answered with.
    pub(super) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Notes that the first content came.
    pub(super) fn first_content(&self, now: Instant) {
        if self.first_token.load(Ordering::Relaxed) == 0 {
            let took = now.saturating_duration_since(self.began).as_micros();
            self.first_token.store(u64::try_from(took).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
        }
    }

    fn first_token(&self) -> Option<Duration> {
        self.first_token.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    fn status(&self) -> Option<u16> {
        Some(self.status.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }
}

impl Visit {
    /// Begins one. Boxed, because it goes through many hands, each of which would have room for all of it.
    pub(crate) fn new(thread: &Arc<Thread>, record: RequestRecord, began: Instant) -> Box<Self> {
        let place = Place::take(thread);
        Box::new(Self {
            thread: thread.clone(),
            record: Some(record),
            began,
            attempt: None,
            hedge: None,
            is_answered: false,
            prelude: None,
            place,
            _present: thread.request_started(),
        })
    }

    /// Whether the node had room for this request.
    pub(crate) const fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Leaves the place to another request.
    pub(crate) fn give_way(&mut self) {
        self.place = None;
    }

    /// Counts the reply as being streamed until the guard is dropped.
    pub(super) fn stream_began(&self) -> Present {
        self.thread.stream_began()
    }

    /// When the request's head was read.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// Notes something about the request.
    pub(crate) fn note(&mut self, write: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = &mut self.record {
            write(record);
        }
    }

    /// Begins an attempt.
    pub(super) fn attempt(&mut self, chosen: Chosen, lane: Lane) -> Arc<Progress> {
        let target = chosen.target();
        let label = chosen.member().label.clone();
        let progress = Arc::new(Progress::new(clock::now()));
        let attempt = OpenAttempt { target, label, progress: progress.clone(), pass: chosen.pass };
        *self.slot(lane) = Some(attempt);
        progress
    }

    const fn slot(&mut self, lane: Lane) -> &mut Option<OpenAttempt> {
        match lane {
            Lane::First => &mut self.attempt,
            Lane::Hedge => &mut self.hedge,
        }
    }

    /// Notes that the attempt answered, and cancels the other if there was one.
    pub(super) fn opened(&mut self, lane: Lane) {
        if lane == Lane::Hedge {
            std::mem::swap(&mut self.attempt, &mut self.hedge);
        }
        self.ended(Lane::Hedge, AttemptEnd::Cancelled);
        let Some(attempt) = &mut self.attempt else { return };
        let (target, first_token) = (attempt.target.clone(), attempt.progress.first_token());
        let began = attempt.progress.began;
        if let Some(first_token) = first_token {
            attempt.pass.succeeded(Some(first_token));
        }
        let own = self.began;
        self.note(|record| {
            record.provider = Some(target.provider);
            record.model_served = Some(target.model);
            if let Some(first_token) = first_token {
                let waited = began.saturating_duration_since(own);
                record.first_token.get_or_insert(waited.saturating_add(first_token));
            }
        });
    }

    /// Notes what the target that serves said of its quota.
    pub(super) fn quota(&mut self, quota: &quota::Quota) {
        let at = clock::now();
        let (remaining, is_spent, reset) = (quota.remaining, quota.is_spent, quota.reset);
        if let Some(attempt) = &mut self.attempt {
            attempt.pass.quota(Quota { remaining, is_spent, reset, at });
        }
    }

    /// Notes that a stream goes on at another target, for the time that `seams` says.
    pub(super) fn opened_leg(&mut self, seams: u32) {
        self.note(|record| record.seams = seams);
    }

    /// Notes that the first content came.
    pub(crate) fn first_content(&mut self) {
        let now = clock::now();
        if let Some(attempt) = &mut self.attempt
            && attempt.progress.first_token().is_none()
        {
            attempt.progress.first_content(now);
            attempt.pass.succeeded(attempt.progress.first_token());
        }
        let began = self.began;
        self.note(|record| {
            record.first_token.get_or_insert(now.saturating_duration_since(began));
        });
    }

    /// Ends the attempt that serves, if there is one: its reply was relayed whole.
    pub(super) fn attempt_finished(&mut self) {
        if let Some(attempt) = &mut self.attempt
            && attempt.progress.first_token().is_none()
        {
            attempt.pass.succeeded(None);
        }
        self.ended(Lane::First, AttemptEnd::Finished);
    }

    /// Ends an attempt that failed before the client heard of it.
    pub(super) fn attempt_failed(&mut self, lane: Lane, refusal: &Refusal) {
        let fault = refusal.fault.unwrap_or(Fault::Provider);
        self.tell(lane, refusal, fault);
        self.ended(lane, AttemptEnd::Failed(fault));
    }

    /// Ends the attempt that served, and broke off.
    pub(super) fn attempt_broke(&mut self, refusal: &Refusal) {
        let fault = refusal.fault.unwrap_or(Fault::Provider);
        self.tell(Lane::First, refusal, fault);
        self.ended(Lane::First, AttemptEnd::Interrupted(fault));
    }

    /// Notes what the last leg of a stream used that several providers served.
    pub(super) fn leg_used(&mut self, usage: Option<Usage>) {
        self.note(|record| {
            if let Some(last) = record.attempts.last_mut() {
                last.usage = usage;
            }
        });
    }

    fn tell(&mut self, lane: Lane, refusal: &Refusal, fault: Fault) {
        if refusal.is_innocent {
            return;
        }
        let at = clock::now();
        // A target that does not have one model is well; where clients name models, one typo must not rest it.
        let fault = if refusal.is_unknown_model { Fault::Client } else { fault };
        if let Some(attempt) = self.slot(lane) {
            let is_unreachable = matches!(refusal.code, ErrorCode::ProviderUnreachable | ErrorCode::ProviderTimeout);
            attempt.pass.failed(Failure { fault, is_unreachable, retry_after: refusal.retry_after, at });
        }
    }

    /// Ends an attempt, if it is under way.
    fn ended(&mut self, lane: Lane, end: AttemptEnd) {
        let Some(attempt) = self.slot(lane).take() else { return };
        let ended = AttemptRecord {
            target: attempt.target,
            end,
            upstream_status: attempt.progress.status(),
            first_token: attempt.progress.first_token(),
            total: clock::now().saturating_duration_since(attempt.progress.began),
            usage: None,
        };
        self.note(|record| {
            if record.provider.is_none() || !matches!(end, AttemptEnd::Cancelled) {
                record.provider = Some(ended.target.provider.clone());
                record.model_served = Some(ended.target.model.clone());
            }
            record.attempts.push(ended);
        });
    }

    /// Shares what it learns with the head of a stream, and learns whether that has gone out.
    pub(super) fn has_prelude(&mut self, prelude: Arc<Prelude>) {
        self.prelude = Some(prelude);
    }

    /// Notes what the request lost in translation for the target it goes to now.
    pub(super) fn lost(&mut self, lost: &[Loss]) {
        self.note(|record| {
            record.lost.request.clear();
            record.lost.request.extend(lost.iter().map(|loss| loss.field.clone()));
        });
        if lost.is_empty() {
            return;
        }
        if let (Some(prelude), Ok(value)) = (&self.prelude, HeaderValue::from_str(&header_value(lost))) {
            prelude.lost.get_or_init(|| value);
        }
    }

    /// Whether any target was called.
    pub(crate) fn was_attempted(&self) -> bool {
        self.attempt.is_some() || self.record.as_ref().is_some_and(|record| !record.attempts.is_empty())
    }

    /// Says who serves, and what was tried before.
    pub(crate) fn write_headers(&self, to: &mut HeaderMap) {
        let tried = self.record.as_ref().map_or(&[][..], |record| record.attempts.as_slice());
        let last = self.attempt.as_ref();
        let is_served = tried.last().is_some_and(|attempt| attempt.end == AttemptEnd::Finished);
        if let Some(attempt) = last {
            let value = attempt.label.clone().or_else(|| label(&attempt.target));
            value.into_iter().for_each(|value| drop(to.insert(TARGET, value)));
        } else if let Some(attempt) = tried.last().filter(|_| is_served) {
            label(&attempt.target).into_iter().for_each(|value| drop(to.insert(TARGET, value)));
        }
        let count = tried.len() + usize::from(last.is_some());
        match count {
            0 => {}
            1 => drop(to.insert(ATTEMPTS, HeaderValue::from_static("1"))),
            _ => drop(to.insert(ATTEMPTS, HeaderValue::from(count))),
        }
        let before = tried.iter().filter(|attempt| attempt.end != AttemptEnd::Finished);
        let mut text = String::new();
        for attempt in before {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            write!(text, "{comma}{}={}", attempt.target, attempt.end.as_str()).unwrap_or_default();
        }
        if let Some(value) =
            Some(text).filter(|text| !text.is_empty()).and_then(|text| HeaderValue::try_from(text).ok())
        {
            to.insert(TRIED, value);
        }
    }

    /// Notes the status that goes out.
    pub(crate) fn answered(&mut self, status: u16) {
        self.is_answered = true;
        self.note(|record| record.status = status);
    }

    /// Ends the request.
    pub(crate) fn end(mut self: Box<Self>, outcome: Outcome) {
        self.leave(outcome);
    }

    fn leave(&mut self, outcome: Outcome) {
        let Some(mut record) = self.record.take() else { return };
        record.outcome = outcome;
        record.total = clock::now().saturating_duration_since(self.began);
        self.thread.record(record);
    }
}

/// A target as a header's value; `None` where its name has what no header may have.
fn label(target: &TargetId) -> Option<HeaderValue> {
    HeaderValue::try_from(target.to_string()).ok()
}

/// Who served.
const TARGET: HeaderName = HeaderName::from_static(controls::TARGET);
/// How many targets were called.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-troupe-attempts");
/// Which of them did not serve, and why.
const TRIED: HeaderName = HeaderName::from_static("x-troupe-tried");

impl Drop for Visit {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if self.record.is_none() {
            return;
        }
        let (end, status, error, outcome) = if panicked {
            (AttemptEnd::Failed(Fault::Ours), 500, ErrorCode::Internal, Outcome::Failed)
        } else {
            (AttemptEnd::ClientGone, CLIENT_CLOSED, ErrorCode::ClientClosed, Outcome::ClientGone)
        };
        self.ended(Lane::First, end);
        self.ended(Lane::Hedge, end);
        let is_late = self.prelude.as_ref().is_some_and(|prelude| prelude.is_sent.load(Ordering::Relaxed));
        if is_late {
            self.answered(OK);
        }
        let is_answered = self.is_answered;
        self.note(|record| {
            record.error = Some(error);
            if !is_answered {
                record.status = status;
            }
        });
        self.leave(outcome);
    }
}
