//! One request's stay: its place among those in flight, and the record it leaves behind however it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderValue;
use troupe_dialect::translate::{Loss, header_value};
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::TargetId;
use troupe_proto::outcome::AttemptEnd;

use super::late::Prelude;
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
    record: Option<Box<RequestRecord>>,
    began: Instant,
    attempt: Option<OpenAttempt>,
    /// Whether a status has been sent.
    is_answered: bool,
    /// Shared with the head of a stream that may have to go out before the call has come to anything.
    prelude: Option<Arc<Prelude>>,
    place: Option<Place>,
    _present: Present,
}

/// An attempt that has not ended.
struct OpenAttempt {
    target: TargetId,
    began: Instant,
    status: Option<u16>,
    first_token: Option<Duration>,
}

impl Visit {
    pub(crate) fn new(thread: &Arc<Thread>, record: RequestRecord, began: Instant) -> Self {
        let place = Place::take(thread);
        Self {
            thread: thread.clone(),
            record: Some(Box::new(record)),
            began,
            attempt: None,
            is_answered: false,
            prelude: None,
            place,
            _present: thread.request_started(),
        }
    }

    /// Whether the node had room for this request.
    pub(crate) const fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Leaves the place to another request.
    pub(crate) fn give_way(&mut self) {
        self.place = None;
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
    pub(crate) fn attempt(&mut self, target: TargetId) {
        self.note(|record| {
            record.provider = Some(target.provider.clone());
            record.model_served = Some(target.model.clone());
        });
        self.attempt = Some(OpenAttempt { target, began: clock::now(), status: None, first_token: None });
    }

    /// Notes the status a provider answered with.
    pub(crate) fn attempt_answered(&mut self, status: u16) {
        if let Some(attempt) = &mut self.attempt {
            attempt.status = Some(status);
        }
    }

    /// Notes that the first content came.
    pub(crate) fn first_content(&mut self) {
        let now = clock::now();
        if let Some(attempt) = &mut self.attempt {
            attempt.first_token.get_or_insert(now.saturating_duration_since(attempt.began));
        }
        let began = self.began;
        self.note(|record| {
            record.first_token.get_or_insert(now.saturating_duration_since(began));
        });
    }

    /// Ends the attempt under way, if there is one.
    pub(crate) fn attempt_ended(&mut self, end: AttemptEnd) {
        let Some(attempt) = self.attempt.take() else { return };
        let ended = AttemptRecord {
            target: attempt.target,
            end,
            upstream_status: attempt.status,
            first_token: attempt.first_token,
            total: clock::now().saturating_duration_since(attempt.began),
        };
        self.note(|record| record.attempts.push(ended));
    }

    /// Shares what it learns with the head of a stream, and learns whether that has gone out.
    pub(super) fn has_prelude(&mut self, prelude: Arc<Prelude>) {
        self.prelude = Some(prelude);
    }

    /// Notes what the request lost in translation.
    pub(super) fn lost(&mut self, lost: &[Loss]) {
        if lost.is_empty() {
            return;
        }
        self.note(|record| record.lost.request.extend(lost.iter().map(|loss| loss.field.clone())));
        if let (Some(prelude), Ok(value)) = (&self.prelude, HeaderValue::from_str(&header_value(lost))) {
            prelude.lost.get_or_init(|| value);
        }
    }

    /// Whether any target was called.
    pub(crate) fn was_attempted(&self) -> bool {
        self.attempt.is_some() || self.record.as_ref().is_some_and(|record| !record.attempts.is_empty())
    }

    /// Notes the status that goes out.
    pub(crate) fn answered(&mut self, status: u16) {
        self.is_answered = true;
        self.note(|record| record.status = status);
    }

    /// Ends the request.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.leave(outcome);
    }

    fn leave(&mut self, outcome: Outcome) {
        let Some(mut record) = self.record.take() else { return };
        record.outcome = outcome;
        record.total = clock::now().saturating_duration_since(self.began);
        self.thread.record(*record);
    }
}

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
        self.attempt_ended(end);
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
