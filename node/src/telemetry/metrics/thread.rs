//! The part of the metrics that one data thread writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use troupe_dialect::Operation;
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::{ModelId, ProviderId};
use troupe_proto::outcome::{AttemptEnd, Usage};

use super::cell::{Counter, Gauge, Histogram, Present};
use super::{Metrics, OTHER, lock};
use crate::telemetry::record::{Outcome, RequestRecord};

/// Providers one model can be counted by; the rest share `other`. Far above what any pool holds.
const PROVIDERS_PER_MODEL_MAX: usize = 64;
/// Operations, and a place for requests that have none.
const OPERATIONS: usize = 7;
pub(super) const CLASSES: [&str; 4] = ["2xx", "4xx", "5xx", "other"];
pub(super) const TOKEN_TYPES: [&str; 5] = ["input", "output", "cached_read", "cache_write", "reasoning"];
/// The words of [`AttemptEnd::as_str`], by [`end_index`].
pub(super) const ENDS: [&str; 11] = [
    "finished",
    "interrupted",
    "client_gone",
    Fault::Client.as_str(),
    Fault::Credential.as_str(),
    Fault::Quota.as_str(),
    Fault::Capacity.as_str(),
    Fault::ContextLength.as_str(),
    Fault::Provider.as_str(),
    Fault::Ours.as_str(),
    "cancelled",
];

/// Requests of one operation for one model.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) operation: &'static str,
    pub(super) model: ModelId,
    pub(super) ended: [[Counter; Outcome::ALL.len()]; CLASSES.len()],
    pub(super) duration: Histogram,
    pub(super) first_token: Histogram,
}

/// Tries at one provider for one model.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) provider: ProviderId,
    pub(super) model: ModelId,
    pub(super) ended: [Counter; ENDS.len()],
}

/// Tokens of one model.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) model: ModelId,
    pub(super) tokens: [Counter; TOKEN_TYPES.len()],
}

/// How often calls of one model were tried again: retries, retries that the budget denied, seams of streams.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) model: ModelId,
    pub(super) counts: [Counter; TRIES],
}

/// The counts of [`Tries`].
pub(super) const TRIES: usize = 3;

/// What a scrape reads of one thread. The lists are locked when a series is first used, and by scrapes.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) calls: Mutex<Vec<Arc<Calls>>>,
    pub(super) attempts: Mutex<Vec<Arc<Attempts>>>,
    pub(super) tokens: Mutex<Vec<Arc<Spent>>>,
    pub(super) tries: Mutex<Vec<Arc<Tries>>>,
    pub(super) refused: [Counter; ErrorCode::ALL.len()],
    pub(super) in_flight: Arc<Gauge>,
    pub(super) streams: Arc<Gauge>,
}

/// Lists a new series and hands it out.
fn list<T>(series: &Mutex<Vec<Arc<T>>>, new: T) -> Arc<T> {
    let new = Arc::new(new);
    lock(series).push(Arc::clone(&new));
    new
}

/// One model's series, found by one look-up per request.
struct Model {
    label: ModelId,
    calls: [Option<Arc<Calls>>; OPERATIONS],
    attempts: Vec<Arc<Attempts>>,
    tokens: Option<Arc<Spent>>,
    tries: Option<Arc<Tries>>,
}

impl Model {
    fn new(label: ModelId) -> Self {
        Self { label, calls: Default::default(), attempts: Vec::new(), tokens: None, tries: None }
    }
}

/// The metrics of one data thread: made by [`Metrics::for_thread`], kept there, shared with nobody.
pub struct ThreadMetrics {
    node: Arc<Metrics>,
    shard: Arc<Shard>,
    models: RefCell<HashMap<ModelId, Model>>,
    unknown: ModelId,
}

impl ThreadMetrics {
    pub(super) fn new(node: Arc<Metrics>, shard: Arc<Shard>) -> Self {
        Self { node, shard, models: RefCell::default(), unknown: ModelId::new("unknown") }
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request_started(&self) -> Present {
        Present::enter(&self.shard.in_flight)
    }

    /// Counts a reply as being streamed until the guard is dropped.
    pub fn stream_began(&self) -> Present {
        Present::enter(&self.shard.streams)
    }

    /// The metrics of the whole node.
    pub const fn node(&self) -> &Arc<Metrics> {
        &self.node
    }

    /// Counts a request that ended, with its attempts, tokens and losses.
    pub fn record(&self, record: &RequestRecord) {
        if let (Outcome::Refused, Some(code)) = (record.outcome, record.error)
            && let Some(refused) = self.shard.refused.get(code as usize)
        {
            refused.inc();
        }
        let asked = record.model.as_ref().unwrap_or(&self.unknown);
        let models = &mut *self.models.borrow_mut();
        let model = match models.contains_key(asked) {
            true => models.get_mut(asked),
            false => {
                let label = self.node.admit_model(asked);
                Some(models.entry(label.clone()).or_insert_with(|| Model::new(label)))
            }
        };
        if let Some(model) = model {
            self.count_call(model, record);
            self.count_attempts(model, record);
            self.count_tries(model, record);
            if let Some(usage) = &record.usage {
                self.count_tokens(model, usage);
            }
        }
        if !record.lost.is_empty() {
            self.node.lost(&record.lost);
        }
    }

    fn count_call(&self, model: &mut Model, record: &RequestRecord) {
        let (index, operation) = operation_index(record.operation);
        let Some(slot) = model.calls.get_mut(index) else { return };
        let calls = slot.get_or_insert_with(|| {
            let new = Calls {
                operation,
                model: model.label.clone(),
                ended: Default::default(),
                duration: Histogram::default(),
                first_token: Histogram::default(),
            };
            list(&self.shard.calls, new)
        });
        let class = match record.status {
            200..=299 => 0,
            400..=499 => 1,
            500..=599 => 2,
            _ => 3,
        };
        if let Some(ended) = calls.ended.get(class).and_then(|class| class.get(record.outcome as usize)) {
            ended.inc();
        }
        calls.duration.observe(record.total);
        if let Some(first) = record.first_token {
            calls.first_token.observe(first);
        }
    }

    fn count_attempts(&self, model: &mut Model, record: &RequestRecord) {
        for attempt in &record.attempts {
            let mut provider = attempt.target.provider.clone();
            let mut at = model.attempts.iter().position(|series| series.provider == provider);
            if at.is_none() && model.attempts.len() >= PROVIDERS_PER_MODEL_MAX {
                provider = ProviderId::new(OTHER);
                at = model.attempts.iter().position(|series| series.provider == provider);
            }
            let at = at.unwrap_or_else(|| {
                let new = Attempts { provider, model: model.label.clone(), ended: Default::default() };
                model.attempts.push(list(&self.shard.attempts, new));
                model.attempts.len() - 1
            });
            if let Some(ended) = model.attempts.get(at).and_then(|series| series.ended.get(end_index(attempt.end))) {
                ended.inc();
            }
        }
    }

    /// Rare, so nothing is written for a request that was served at once.
    fn count_tries(&self, model: &mut Model, record: &RequestRecord) {
        let retries = u64::try_from(record.attempts.len()).unwrap_or(u64::MAX).saturating_sub(1);
        let counts = [retries, u64::from(record.is_retry_denied), u64::from(record.seams)];
        if counts == [0; TRIES] {
            return;
        }
        let tries = model.tries.get_or_insert_with(|| {
            list(&self.shard.tries, Tries { model: model.label.clone(), counts: Default::default() })
        });
        tries.counts.iter().zip(counts).for_each(|(cell, count)| cell.add(count));
    }

    fn count_tokens(&self, model: &mut Model, usage: &Usage) {
        let spent = model.tokens.get_or_insert_with(|| {
            list(&self.shard.tokens, Spent { model: model.label.clone(), tokens: Default::default() })
        });
        let counts = [usage.input, usage.output, usage.cached_read, usage.cache_write, usage.reasoning];
        for (cell, count) in spent.tokens.iter().zip(counts) {
            if count.get() > 0 {
                cell.add(count.get());
            }
        }
    }
}

const fn operation_index(operation: Option<Operation>) -> (usize, &'static str) {
    let Some(operation) = operation else { return (0, "unknown") };
    let index = match operation {
        Operation::Chat => 1,
        Operation::Completions => 2,
        Operation::Responses => 3,
        Operation::Embeddings => 4,
        Operation::Messages => 5,
        Operation::CountTokens => 6,
    };
    (index, operation.as_str())
}

const fn end_index(end: AttemptEnd) -> usize {
    match end {
        AttemptEnd::Finished => 0,
        AttemptEnd::Interrupted(_) => 1,
        AttemptEnd::ClientGone => 2,
        AttemptEnd::Failed(fault) => match fault {
            Fault::Client => 3,
            Fault::Credential => 4,
            Fault::Quota => 5,
            Fault::Capacity => 6,
            Fault::ContextLength => 7,
            Fault::Provider => 8,
            Fault::Ours => 9,
        },
        AttemptEnd::Cancelled => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_an_attempt_is_counted_under_its_own_word() {
        let ends = [
            AttemptEnd::Finished,
            AttemptEnd::ClientGone,
            AttemptEnd::Cancelled,
            AttemptEnd::Interrupted(Fault::Provider),
        ];
        for end in ends.into_iter().chain(Fault::ALL.map(AttemptEnd::Failed)) {
            assert_eq!(ENDS[end_index(end)], end.as_str());
        }
    }

    #[test]
    fn every_outcome_and_code_has_its_index() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
    }
}
