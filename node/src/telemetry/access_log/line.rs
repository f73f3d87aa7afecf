//! How a record looks as a line. The fields are a contract, described in `docs/reference/access-log.md`.
//!
//! Written by hand: a serialiser escapes every name anew and formats every number through a dozen calls, which made the
//! line a seventh of what a request costs. The tests hold it to a serialiser.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use troupe_proto::id::RequestId;
use troupe_proto::outcome::Usage;

use crate::telemetry::hex;
use crate::telemetry::record::{AttemptRecord, RequestRecord};

/// Writes lines; remembers what is the same for most of them.
#[derive(Debug, Default)]
pub struct Lines {
    /// The second that was written last, and its text.
    second: Option<(u64, String)>,
}

impl Lines {
    /// Appends a record to `out` as one line of JSON, the line's end included.
    pub fn write(&mut self, record: &RequestRecord, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        self.time(record.at, line.name("ts"));
        request_id(record.request_id, line.name("request_id"));
        line.text_if("client_request_id", record.client_request_id.as_deref());
        if let Some(trace) = record.trace_id {
            let out = line.name("trace_id");
            out.push(b'"');
            out.extend_from_slice(&hex::digits::<32>(trace.get()));
            out.push(b'"');
        }
        line.text_if("key_id", record.key.as_ref().map(|key| key.as_str()));
        line.text_if("operation", record.operation.map(|operation| operation.as_str()));
        line.text_if("dialect", record.dialect.map(|dialect| dialect.as_str()));
        line.text_if("model", record.model.as_ref().map(|model| model.as_str()));
        line.text_if("model_asked", record.model_asked.as_deref());
        line.text_if("model_served", record.model_served.as_deref());
        line.text_if("provider", record.provider.as_ref().map(|provider| provider.as_str()));
        line.raw("stream", if record.stream { b"true" } else { b"false" });
        line.number("status", record.status.into());
        line.text("outcome", record.outcome.as_str());
        line.text_if("error", record.error.map(|error| error.as_str()));
        line.text_if("finish", record.finish.as_deref());
        if let Some(usage) = &record.usage {
            tokens(usage, line.name("tokens"));
        }
        line.millis_if("ttft_ms", record.first_token);
        line.millis_if("total_ms", Some(record.total));
        line.millis_if("queue_ms", record.queue);
        line.number("bytes_in", record.bytes_in);
        line.number("bytes_out", record.bytes_out);
        if let Some(client) = record.client {
            line.text("client", &client.to_string());
        }
        line.text_if("user_agent", record.user_agent.as_deref());
        if let Some(count) = record.sdk_retry {
            line.number("sdk_retry", count.into());
        }
        if !record.attempts.is_empty() {
            list(line.name("attempts"), &record.attempts, attempt);
        }
        if record.seams > 0 {
            line.number("seams", record.seams.into());
        }
        for (name, lost) in [("lost_request", &record.lost.request), ("lost_reply", &record.lost.reply)] {
            if !lost.is_empty() {
                list(line.name(name), lost, |field: &Cow<'static, str>, out| quoted(field, out));
            }
        }
        line.end();
        out.push(b'\n');
    }

    /// Writes a point in time to the millisecond, in UTC.
    fn time(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = match &mut self.second {
            Some((second, text)) if *second == since.as_secs() => text,
            other => {
                let seconds = i64::try_from(since.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
                let text = seconds.unwrap_or_default().strftime("\"%Y-%m-%dT%H:%M:%S.").to_string();
                &mut other.insert((since.as_secs(), text)).1
            }
        };
        out.extend_from_slice(second.as_bytes());
        decimal_padded(since.subsec_millis(), out);
        out.extend_from_slice(b"Z\"");
    }
}

/// An object being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        let start = out.len();
        Self { out, start }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    /// Begins a member; its value is to follow.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if self.out.len() > self.start {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name).extend_from_slice(value);
    }

    fn text(&mut self, name: &str, text: &str) {
        quoted(text, self.name(name));
    }

    fn text_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        decimal(number, self.name(name));
    }

    fn millis_if(&mut self, name: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            millis(duration, self.name(name));
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn attempt(attempt: &AttemptRecord, out: &mut Vec<u8>) {
    let mut line = Object::begin(out);
    line.text("provider", attempt.target.provider.as_str());
    line.text_if("credential", attempt.target.credential.as_ref().map(|credential| credential.as_str()));
    line.text("model", &attempt.target.model);
    line.text("outcome", attempt.end.as_str());
    if let Some(status) = attempt.upstream_status {
        line.number("status", status.into());
    }
    line.millis_if("ttft_ms", attempt.first_token);
    line.millis_if("total_ms", Some(attempt.total));
    if let Some(usage) = &attempt.usage {
        tokens(usage, line.name("tokens"));
    }
    line.end();
}

fn tokens(usage: &Usage, out: &mut Vec<u8>) {
    let mut line = Object::begin(out);
    line.number("input", usage.input.get());
    line.number("output", usage.output.get());
    line.number("cached_read", usage.cached_read.get());
    line.number("cache_write", usage.cache_write.get());
    line.number("reasoning", usage.reasoning.get());
    line.end();
}

fn request_id(id: RequestId, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"req_");
    out.extend_from_slice(&hex::digits::<32>(id.0));
    out.push(b'"');
}

/// Writes a string with its quotes.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, behind)) = from.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex::digits::<2>(u128::from(*control)));
            }
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Writes a whole number.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Writes a number below 1,000 with three digits.
fn decimal_padded(number: u32, out: &mut Vec<u8>) {
    for digit in [number / 100 % 10, number / 10 % 10, number % 10] {
        out.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// Writes a duration in milliseconds, with its microseconds behind the point as far as they are not 0. Everything
/// beyond 71 minutes is written as 71 minutes.
fn millis(duration: Duration, out: &mut Vec<u8>) {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    decimal(u64::from(micros / 1000), out);
    out.push(b'.');
    decimal_padded(micros % 1000, out);
    let kept = out.len() - 2;
    while out.len() > kept && out.last() == Some(&b'0') {
        out.pop();
    }
}
