//! A quota of calls that counts down, and the headers by which each vendor tells of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock;

/// How many calls one credential has in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota {
    /// Calls in a window.
    pub limit: u64,
    /// Its length.
    pub window: Duration,
}

/// What is left of a quota behind one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Until the window ends.
    pub(super) reset: Duration,
    /// Whether this call found nothing left.
    pub(super) is_spent: bool,
}

/// The windows of all credentials.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<(String, Quota), Window>);

#[derive(Debug)]
struct Window {
    ends: Instant,
    used: u64,
}

/// Credentials with a window of their own; later ones share one.
const WINDOWS_MAX: usize = 256;
/// Tokens that a call's share of the limit is shown as.
const TOKENS_A_CALL: u64 = 1000;

impl Windows {
    /// Takes one call.
    pub(super) fn take(&mut self, credential: &str, quota: Quota, now: Instant) -> Reading {
        let mut key = (credential.to_owned(), quota);
        if !self.0.contains_key(&key) && self.0.len() >= WINDOWS_MAX {
            "(others)".clone_into(&mut key.0);
        }
        let window = self.0.entry(key).or_insert(Window { ends: now, used: 0 });
        if window.ends <= now {
            *window = Window { ends: now + quota.window, used: 0 };
        }
        let is_spent = window.used >= quota.limit;
        window.used += u64::from(!is_spent);
        Reading { limit: quota.limit, remaining: quota.limit - window.used, reset: window.ends - now, is_spent }
    }
}

impl Reading {
    /// Writes `x-ratelimit-*`, whose resets are spans such as `1m30s`.
    pub(super) fn show_openai(&self, headers: &mut HeaderMap) {
        let reset = span(self.reset);
        for (kind, times) in [("requests", 1), ("tokens", TOKENS_A_CALL)] {
            put(headers, &format!("x-ratelimit-limit-{kind}"), &(self.limit * times).to_string());
            put(headers, &format!("x-ratelimit-remaining-{kind}"), &(self.remaining * times).to_string());
            put(headers, &format!("x-ratelimit-reset-{kind}"), &reset);
        }
    }

    /// Writes `anthropic-ratelimit-*`, whose resets are moments (RFC 3339, whole seconds, rounded up).
    pub(super) fn show_anthropic(&self, headers: &mut HeaderMap) {
        let reset = clock::moment_in(self.reset);
        for (kind, times) in [("requests", 1), ("tokens", TOKENS_A_CALL)] {
            put(headers, &format!("anthropic-ratelimit-{kind}-limit"), &(self.limit * times).to_string());
            put(headers, &format!("anthropic-ratelimit-{kind}-remaining"), &(self.remaining * times).to_string());
            put(headers, &format!("anthropic-ratelimit-{kind}-reset"), &reset);
        }
    }

    /// The wait in whole seconds, rounded up.
    pub(super) fn retry_after(&self) -> String {
        (self.reset.as_millis().div_ceil(1000)).max(1).to_string()
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// A span as OpenAI writes it: `250ms`, `1.5s`, `6m0s`.
fn span(length: Duration) -> String {
    let ms = length.as_millis();
    match (ms / 60_000, ms % 60_000) {
        (0, ms) if ms < 1000 => format!("{ms}ms"),
        (0, ms) => format!("{}s", seconds(ms)),
        (minutes, ms) => format!("{minutes}m{}s", seconds(ms)),
    }
}

fn seconds(ms: u128) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { limit: 2, window: Duration::from_secs(10) };

    #[test]
    fn a_quota_counts_down_is_spent_and_begins_anew() {
        let (mut windows, now) = (Windows::default(), clock::now());
        let mut take = |after: u64| windows.take("a", QUOTA, now + Duration::from_secs(after));

        let readings = [take(0), take(4), take(5), take(10)];

        let told = readings.map(|reading| (reading.remaining, reading.reset.as_secs(), reading.is_spent));
        assert_eq!(told, [(1, 10, false), (0, 6, false), (0, 5, true), (1, 10, false)]);
    }

    #[test]
    fn each_credential_has_its_own() {
        let (mut windows, now) = (Windows::default(), clock::now());

        windows.take("a", QUOTA, now);
        windows.take("a", QUOTA, now);

        assert!(windows.take("a", QUOTA, now).is_spent && !windows.take("b", QUOTA, now).is_spent);
    }

    #[test]
    fn headers_are_each_vendors_own() {
        let reading = Reading { limit: 100, remaining: 7, reset: Duration::from_millis(1500), is_spent: false };
        let (mut openai, mut anthropic) = (HeaderMap::new(), HeaderMap::new());

        reading.show_openai(&mut openai);
        reading.show_anthropic(&mut anthropic);

        assert_eq!(openai["x-ratelimit-limit-requests"], "100");
        assert_eq!(openai["x-ratelimit-remaining-tokens"], "7000");
        assert_eq!(openai["x-ratelimit-reset-requests"], "1.5s");
        assert_eq!(anthropic["anthropic-ratelimit-requests-remaining"], "7");
        let moment = anthropic["anthropic-ratelimit-requests-reset"].to_str().unwrap();
        assert!(moment.len() == 20 && moment.ends_with('Z'), "{moment}");
        assert_eq!(reading.retry_after(), "2");
    }

    #[test]
    fn spans_are_written_as_the_vendor_does() {
        let told = [250, 1000, 1500, 360_000, 90_500].map(|ms| span(Duration::from_millis(ms)));

        assert_eq!(told, ["250ms", "1s", "1.5s", "6m0s", "1m30.5s"]);
    }
}
