//! How long a provider asks to wait.

use std::time::{Duration, SystemTime};

use super::date::parse_http;

/// The longest wait that is believed.
const AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the response headers say about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryHints {
    /// How long to wait, at most a week.
    pub after: Option<Duration>,
    /// Whether a further try makes sense (`x-should-retry`).
    pub should_retry: Option<bool>,
}

impl RetryHints {
    /// Reads `retry-after-ms`, else `retry-after` (seconds, with or without a fraction, or an HTTP date, which `now`
    /// is taken from), and `x-should-retry`. `header` gives the value of the header with that lower-case name.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Self {
        let millis = header("retry-after-ms").and_then(|value| value.trim().parse::<f64>().ok());
        let millis = millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
        let after = millis.or_else(|| wait(header("retry-after")?.trim(), now));
        let should_retry = match header("x-should-retry").map(str::trim) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) | None => None,
        };
        Self { after: after.map(believed), should_retry }
    }
}

/// What is believed of a wait.
pub(super) fn believed(after: Duration) -> Duration {
    after.min(AFTER_MAX)
}

fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // A date that has passed asks for no wait.
    parse_http(value).map(|at| at.duration_since(now).unwrap_or_default())
}

/// How long a message says to wait: `Please try again in 6m0s.`, `Please retry in 17.3s.`
pub(super) fn told_wait(message: &str) -> Option<Duration> {
    let (_, after) = message.split_once("try again in ").or_else(|| message.split_once("retry in "))?;
    let word = after.split_whitespace().next()?;
    parse_length(word.trim_end_matches(['.', ',', ')', '"', '\\']))
}

/// Reads a length of time as Go writes it: `6m0s`, `1h2m3.5s`, `200ms`.
pub(crate) fn parse_length(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        sum = sum.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}
