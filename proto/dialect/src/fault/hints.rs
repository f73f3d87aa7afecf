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
        Self { after: after.map(|after| after.min(AFTER_MAX)), should_retry }
    }
}

fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // A date that has passed asks for no wait.
    parse_http(value).map(|at| at.duration_since(now).unwrap_or_default())
}
