//! The line as a serialiser writes it: what the writer by hand is held to.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use troupe_proto::outcome::Usage;

use crate::telemetry::record::{AttemptRecord, RequestRecord};

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    request_id: Text<troupe_proto::id::RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Text<crate::telemetry::trace::TraceId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_asked: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_served: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    stream: bool,
    status: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<Millis>,
    total_ms: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ms: Option<Millis>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_retry: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    seams: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lost_request: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lost_reply: &'a [Cow<'static, str>],
}

#[derive(Serialize)]
struct Attempt<'a> {
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    model: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<Millis>,
    total_ms: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    output: u64,
    cached_read: u64,
    cache_write: u64,
    reasoning: u64,
}

/// Something written as it prints.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A duration in milliseconds, with its microseconds behind the point.
struct Millis(Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // One division of whole numbers prints as short as it can; a sum of two fractions does not. 71 minutes fit.
        let micros = u32::try_from(self.0.as_micros()).unwrap_or(u32::MAX);
        serializer.serialize_f64(f64::from(micros) / 1_000.0)
    }
}

/// Appends a record to `out` as one line of JSON, the line's end included.
pub(super) fn line(record: &RequestRecord, out: &mut Vec<u8>) {
    let start = out.len();
    match serde_json::to_writer(&mut *out, &Line::of(record)) {
        Ok(()) => out.push(b'\n'),
        // No value above can fail to serialise; half a line would spoil its neighbours.
        Err(_) => out.truncate(start),
    }
}

impl<'a> Line<'a> {
    fn of(record: &'a RequestRecord) -> Self {
        Self {
            ts: Timestamp::try_from(record.at).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            request_id: Text(record.request_id),
            client_request_id: record.client_request_id.as_deref(),
            trace_id: record.trace_id.map(Text),
            key_id: record.key.as_ref().map(|key| key.as_str()),
            operation: record.operation.map(|operation| operation.as_str()),
            dialect: record.dialect.map(|dialect| dialect.as_str()),
            model: record.model.as_ref().map(|model| model.as_str()),
            model_asked: record.model_asked.as_deref(),
            model_served: record.model_served.as_deref(),
            provider: record.provider.as_ref().map(|provider| provider.as_str()),
            stream: record.stream,
            status: record.status,
            outcome: record.outcome.as_str(),
            error: record.error.map(|error| error.as_str()),
            finish: record.finish.as_deref(),
            tokens: record.usage.as_ref().map(Tokens::of),
            ttft_ms: record.first_token.map(Millis),
            total_ms: Millis(record.total),
            queue_ms: record.queue.map(Millis),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            client: record.client,
            user_agent: record.user_agent.as_deref(),
            sdk_retry: record.sdk_retry,
            attempts: record.attempts.iter().map(Attempt::of).collect(),
            seams: record.seams,
            lost_request: &record.lost.request,
            lost_reply: &record.lost.reply,
        }
    }
}

impl<'a> Attempt<'a> {
    fn of(attempt: &'a AttemptRecord) -> Self {
        Self {
            provider: attempt.target.provider.as_str(),
            credential: attempt.target.credential.as_ref().map(|credential| credential.as_str()),
            model: &attempt.target.model,
            outcome: attempt.end.as_str(),
            status: attempt.upstream_status,
            ttft_ms: attempt.first_token.map(Millis),
            total_ms: Millis(attempt.total),
            tokens: attempt.usage.as_ref().map(Tokens::of),
        }
    }
}

impl Tokens {
    const fn of(usage: &Usage) -> Self {
        Self {
            input: usage.input.get(),
            output: usage.output.get(),
            cached_read: usage.cached_read.get(),
            cache_write: usage.cache_write.get(),
            reasoning: usage.reasoning.get(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}
