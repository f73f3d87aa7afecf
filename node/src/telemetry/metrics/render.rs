//! Adds the threads up and writes the page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{ModelId, ProviderId};

use super::cell::{Counter, Totals};
use super::text::{Seconds, Text};
use super::thread::{CLASSES, ENDS, Shard, TOKEN_TYPES, TRIES};
use super::{CONNECTS, Learned, Metrics, Process, RELOADS, lock, names};
use crate::clock;
use crate::telemetry::log;
use crate::telemetry::record::Outcome;

/// One model's calls of one operation, over all threads.
#[derive(Default)]
struct Calls {
    ended: [[u64; Outcome::ALL.len()]; CLASSES.len()],
    duration: Totals,
    first_token: Totals,
}

impl Metrics {
    /// The page a scrape reads. Series that have counted nothing are left out, except where they have no labels.
    pub fn render(&self, learned: &Learned) -> String {
        let shards = lock(&self.shards).clone();
        let mut text = Text::default();
        text.head(&names::BUILD_INFO);
        let revision = option_env!("TROUPE_REVISION").unwrap_or("unknown");
        text.sample(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), revision], 1);
        render_calls(&mut text, &shards, self.in_flight(), self.streams_open());
        render_tokens(&mut text, &shards);
        render_attempts(&mut text, &shards);
        render_tries(&mut text, &shards);
        learned.render_targets(&mut text);
        self.render_lost(&mut text);
        self.render_connections(&mut text);
        self.render_house(&mut text);
        learned.render_actors(&mut text);
        learned.render_checks(&mut text);
        if let Some(agreed) = &learned.agreed {
            agreed.render(&mut text);
        }
        self.render_process(&mut text);
        text.finish()
    }

    fn render_lost(&self, text: &mut Text) {
        text.head(&names::LOST);
        for ((direction, field), count) in &*lock(&self.lost) {
            text.sample(&names::LOST, &[direction, field], count);
        }
    }

    fn render_connections(&self, text: &mut Text) {
        text.single(&names::CONNECTIONS_OPEN, self.connections_open.get());
        text.single(&names::CONNECTIONS, self.connections.get());
        let upstreams = lock(&self.upstreams).clone();
        text.head(&names::UPSTREAM_CONNECTIONS);
        for (provider, upstream) in &upstreams {
            text.sample(&names::UPSTREAM_CONNECTIONS, &[provider.as_str()], upstream.open.get());
        }
        text.head(&names::UPSTREAM_CONNECTS);
        for (provider, upstream) in &upstreams {
            for (outcome, count) in CONNECTS.iter().zip(&upstream.connects).filter(|(_, count)| count.get() > 0) {
                text.sample(&names::UPSTREAM_CONNECTS, &[provider.as_str(), outcome], count.get());
            }
        }
    }

    fn render_house(&self, text: &mut Text) {
        text.single(&names::ACCESS_LOG_LINES, self.access_log_lines.get());
        text.single(&names::ACCESS_LOG_DROPPED, self.access_log_dropped.get());
        text.single(&names::LOG_DROPPED, log::dropped());
        text.single(&names::PANICS, self.panics.get());
        self.drains.render(text);
        text.head(&names::CONFIG_RELOADS);
        for (outcome, count) in RELOADS.iter().zip(&self.reloads) {
            text.sample(&names::CONFIG_RELOADS, &[outcome], count.get());
        }
        text.single(&names::SPEC_REVISION, self.revision.load(Ordering::Relaxed));
    }

    fn render_process(&self, text: &mut Text) {
        let uptime = clock::now().saturating_duration_since(self.started);
        let mut tasks = BTreeMap::<&str, usize>::new();
        for (name, runtime) in &*lock(&self.runtimes) {
            *tasks.entry(name).or_default() += runtime.metrics().num_alive_tasks();
        }
        text.head(&names::TASKS);
        for (name, count) in tasks {
            text.sample(&names::TASKS, &[name], count);
        }
        text.single(&names::UPTIME, Seconds(u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX)));
        text.single(&names::PROCESS_START, self.started_unix);
        if let Some(process) = Process::read() {
            text.single(&names::PROCESS_CPU, Seconds(process.cpu_millis.saturating_mul(1_000_000)));
            text.single(&names::PROCESS_MEMORY, process.resident_bytes);
            text.single(&names::PROCESS_FDS, process.open_fds);
        }
    }
}

fn render_calls(text: &mut Text, shards: &[Arc<Shard>], in_flight: u64, streams: u64) {
    let mut calls = BTreeMap::<(ModelId, &str), Calls>::new();
    for shard in shards {
        for series in &*lock(&shard.calls) {
            let sum = calls.entry((series.model.clone(), series.operation)).or_default();
            for (sums, cells) in sum.ended.iter_mut().zip(&series.ended) {
                add(sums, cells);
            }
            sum.duration.add(&series.duration);
            sum.first_token.add(&series.first_token);
        }
    }
    text.head(&names::REQUESTS);
    for ((model, operation), sum) in &calls {
        for (class, outcomes) in CLASSES.iter().zip(&sum.ended) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes).filter(|(_, count)| **count > 0) {
                text.sample(&names::REQUESTS, &[operation, model.as_str(), class, outcome.as_str()], count);
            }
        }
    }
    text.single(&names::REQUESTS_IN_FLIGHT, in_flight);
    text.single(&names::STREAMS_OPEN, streams);
    text.head(&names::REFUSED);
    for (index, code) in ErrorCode::ALL.iter().enumerate() {
        let count: u64 = shards.iter().filter_map(|shard| shard.refused.get(index)).map(Counter::get).sum();
        if count > 0 {
            text.sample(&names::REFUSED, &[code.as_str()], count);
        }
    }
    text.head(&names::REQUEST_DURATION);
    for ((model, operation), sum) in &calls {
        text.histogram(&names::REQUEST_DURATION, &[operation, model.as_str()], &sum.duration);
    }
    text.head(&names::FIRST_TOKEN);
    for ((model, operation), sum) in calls.iter().filter(|(_, sum)| sum.first_token != Totals::default()) {
        text.histogram(&names::FIRST_TOKEN, &[operation, model.as_str()], &sum.first_token);
    }
}

fn render_tokens(text: &mut Text, shards: &[Arc<Shard>]) {
    let mut tokens = BTreeMap::<ModelId, [u64; TOKEN_TYPES.len()]>::new();
    for shard in shards {
        for series in &*lock(&shard.tokens) {
            add(tokens.entry(series.model.clone()).or_default(), &series.tokens);
        }
    }
    text.head(&names::TOKENS);
    for (model, counts) in &tokens {
        for (kind, count) in TOKEN_TYPES.iter().zip(counts).filter(|(_, count)| **count > 0) {
            text.sample(&names::TOKENS, &[model.as_str(), kind], count);
        }
    }
}

fn render_attempts(text: &mut Text, shards: &[Arc<Shard>]) {
    let mut attempts = BTreeMap::<(ProviderId, ModelId), [u64; ENDS.len()]>::new();
    for shard in shards {
        for series in &*lock(&shard.attempts) {
            add(attempts.entry((series.provider.clone(), series.model.clone())).or_default(), &series.ended);
        }
    }
    text.head(&names::ATTEMPTS);
    for ((provider, model), counts) in &attempts {
        for (end, count) in ENDS.iter().zip(counts).filter(|(_, count)| **count > 0) {
            text.sample(&names::ATTEMPTS, &[provider.as_str(), model.as_str(), end], count);
        }
    }
}

fn render_tries(text: &mut Text, shards: &[Arc<Shard>]) {
    let mut tries = BTreeMap::<ModelId, [u64; TRIES]>::new();
    for shard in shards {
        for series in &*lock(&shard.tries) {
            add(tries.entry(series.model.clone()).or_default(), &series.counts);
        }
    }
    for (at, metric) in [&names::RETRIES, &names::RETRIES_DENIED, &names::SEAMS].into_iter().enumerate() {
        text.head(metric);
        for (model, counts) in &tries {
            if let Some(count) = counts.get(at).filter(|count| **count > 0) {
                text.sample(metric, &[model.as_str()], count);
            }
        }
    }
}

fn add<const N: usize>(sums: &mut [u64; N], cells: &[Counter; N]) {
    for (sum, cell) in sums.iter_mut().zip(cells) {
        *sum = sum.saturating_add(cell.get());
    }
}
