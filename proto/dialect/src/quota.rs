//! What a provider says is left of our rate limits, in the headers of any answer: read to pace before the 429.

use std::time::{Duration, SystemTime};

use troupe_proto::unit::PerMille;

use crate::Dialect;
use crate::fault::{parse_length, parse_rfc3339};

/// The longest reset that is believed: providers' longest windows are a day.
const RESET_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is left of a provider's rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The smallest share left over all limits that were told, rounded down. Whole where only the count is told.
    pub remaining: PerMille,
    /// Whether nothing is left of one of them.
    pub is_spent: bool,
    /// When the limit with the smallest share is whole again; the latest such time of several.
    pub reset: Option<Duration>,
}

/// The headers of one limit: what it is, what is left, and when it is whole again.
struct Limit {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

const fn limit(limit: &'static str, remaining: &'static str, reset: &'static str) -> Limit {
    Limit { limit, remaining, reset }
}

/// OpenAI's, which Azure, Groq and most compatible providers send too.
const OPENAI: [Limit; 2] = [
    limit("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    limit("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];

/// Anthropic's; the plain `tokens` are those of the most restrictive limit in effect.
const ANTHROPIC: [Limit; 4] = [
    limit(
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    limit(
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    limit(
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    limit(
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

impl Quota {
    /// Reads the headers of an answer; `None` when they say nothing of limits, which costs two look-ups. `header` gives
    /// the value of the header with that lower-case name, `now` is what dates are taken from.
    pub fn read<'h>(dialect: Dialect, header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Self> {
        let limits: &[Limit] = match dialect {
            Dialect::OpenAi => &OPENAI,
            Dialect::Anthropic => &ANTHROPIC,
        };
        // A provider that tells of any limit tells of one of the first two.
        if limits.iter().take(2).all(|limit| header(limit.remaining).is_none()) {
            return None;
        }
        limits.iter().filter_map(|limit| Self::of(limit, &header, now)).reduce(Self::tighter)
    }

    fn of<'h>(limit: &Limit, header: &impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Self> {
        // Azure writes -1 for a limit that does not apply: no number of ours.
        let count = |name| header(name).and_then(|value| value.trim().parse::<u64>().ok());
        let left = count(limit.remaining)?;
        let share = match count(limit.limit) {
            // A limit of nothing is none that was set.
            Some(0) => return None,
            Some(all) => left.saturating_mul(1000).checked_div(all).unwrap_or(1000).min(1000),
            None if left == 0 => 0,
            None => 1000,
        };
        let reset = header(limit.reset).and_then(|value| wait(value.trim(), now));
        Some(Self {
            remaining: PerMille::new(u16::try_from(share).unwrap_or(1000)),
            is_spent: left == 0,
            reset: reset.map(|reset| reset.min(RESET_MAX)),
        })
    }

    /// What holds of two limits together.
    fn tighter(self, other: Self) -> Self {
        let reset = match self.remaining.get().cmp(&other.remaining.get()) {
            std::cmp::Ordering::Less => self.reset,
            std::cmp::Ordering::Greater => other.reset,
            std::cmp::Ordering::Equal => self.reset.max(other.reset),
        };
        Self {
            remaining: if self.remaining.get() <= other.remaining.get() { self.remaining } else { other.remaining },
            is_spent: self.is_spent || other.is_spent,
            reset,
        }
    }
}

/// Reads a wait: a length of time as Go writes it (`6m0s`, `1h2m3.5s`, `200ms`), seconds, or a date. A date that has
/// passed asks for no wait.
fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    parse_length(value).or_else(|| parse_rfc3339(value).map(|at| at.duration_since(now).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fault::rfc3339;

    const NOW_SECONDS: u64 = 1_755_780_059;

    fn read(dialect: Dialect, headers: &[(&str, &str)]) -> Option<(u16, bool, Option<Duration>)> {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(NOW_SECONDS);
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Quota::read(dialect, header, now).map(|quota| (quota.remaining.get(), quota.is_spent, quota.reset))
    }

    fn openai(requests: [&str; 3], tokens: [&str; 3]) -> Option<(u16, bool, Option<Duration>)> {
        let names = ["limit", "remaining", "reset"];
        let name = |what: &str| names.map(|part| format!("x-ratelimit-{part}-{what}"));
        let headers: Vec<(String, &str)> =
            name("requests").into_iter().zip(requests).chain(name("tokens").into_iter().zip(tokens)).collect();
        let told: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        read(Dialect::OpenAi, &told)
    }

    const fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn openai_headers_are_read_as_documented() {
        // Rate limits guide of OpenAI's platform documentation: its table of headers with sample values.
        assert_eq!(openai(["60", "59", "1s"], ["150000", "149984", "6m0s"]), Some((983, false, millis(1000))));
        // community.openai.com, topic 1268905: a chat completion's headers.
        assert_eq!(openai(["5000", "4999", "12ms"], ["160000", "159976", "9ms"]), Some((999, false, millis(12))));
        // Groq's rate limits page: requests of a day, tokens of a minute, fractions of seconds.
        assert_eq!(
            openai(["14400", "14370", "2m59.56s"], ["18000", "17997", "7.66s"]),
            Some((997, false, millis(179_560)))
        );
        assert_eq!(openai(["60", "0", "200ms"], ["1000", "10", "1s"]), Some((0, true, millis(200))));
    }

    #[test]
    fn azure_headers_are_read_as_they_come() {
        // learn.microsoft.com, question 5625878: a limit that does not apply is -1, and its reset 0.
        assert_eq!(openai(["", "", ""], ["-1", "-1", "0"]), None);
        // The same, whole seconds for a reset.
        assert_eq!(openai(["", "", ""], ["1000", "250", "17"]), Some((250, false, millis(17_000))));
        // Older API versions tell what is left and not of how much.
        assert_eq!(openai(["", "299", ""], ["", "29923", ""]), Some((1000, false, None)));
        assert_eq!(openai(["", "299", ""], ["", "0", ""]), Some((0, true, None)));
    }

    #[test]
    fn anthropic_headers_are_read_as_they_come() {
        // A recorded answer of api.anthropic.com in tidyllm's tests (CRAN), and the same with less left.
        let recorded = |input: &'static str, output: &'static str| {
            [
                ("anthropic-ratelimit-input-tokens-limit", "80000"),
                ("anthropic-ratelimit-input-tokens-remaining", input),
                ("anthropic-ratelimit-input-tokens-reset", "2025-08-21T12:41:59Z"),
                ("anthropic-ratelimit-output-tokens-limit", "16000"),
                ("anthropic-ratelimit-output-tokens-remaining", output),
                ("anthropic-ratelimit-output-tokens-reset", "2025-08-21T12:41:00Z"),
                ("anthropic-ratelimit-requests-limit", "1000"),
                ("anthropic-ratelimit-requests-remaining", "999"),
                ("anthropic-ratelimit-requests-reset", "2025-08-21T12:40:59Z"),
                ("anthropic-ratelimit-tokens-limit", "96000"),
                ("anthropic-ratelimit-tokens-remaining", "96000"),
                ("anthropic-ratelimit-tokens-reset", "2025-08-21T12:40:59Z"),
            ]
        };

        assert_eq!(read(Dialect::Anthropic, &recorded("80000", "16000")), Some((999, false, millis(0))));
        assert_eq!(read(Dialect::Anthropic, &recorded("8000", "16000")), Some((100, false, millis(60_000))));
        assert_eq!(read(Dialect::Anthropic, &recorded("0", "0")), Some((0, true, millis(60_000))));
    }

    #[test]
    fn headers_of_another_kind_say_nothing() {
        assert_eq!(read(Dialect::OpenAi, &[("x-request-id", "r1"), ("retry-after", "3")]), None);
        assert_eq!(read(Dialect::Anthropic, &[("x-ratelimit-remaining-requests", "0")]), None);
        assert_eq!(openai(["0", "0", "0s"], ["many", "few", "soon"]), None);
        assert_eq!(openai(["10", "20", "soon"], ["", "", ""]), Some((1000, false, None)));
    }

    #[test]
    fn a_length_of_time_is_read_in_every_form_and_bounded() {
        let reset = |value: &'static str| openai(["2", "1", value], ["", "", ""]).unwrap().2;

        assert_eq!(reset("1h2m3.5s"), millis(3_723_500));
        assert_eq!(reset("33011.382867"), Some(Duration::from_secs_f64(33011.382867)));
        assert_eq!(reset("9999h"), Some(RESET_MAX));
        for nonsense in ["", "1x", "s", "1.2.3s", "-5", "NaN", "5m-3s"] {
            assert_eq!(wait(nonsense, SystemTime::UNIX_EPOCH), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_headers_are_read_without_a_panic(values in proptest::array::uniform6(".{0,12}")) {
            let names = ["limit", "remaining", "reset"];
            let header = |name: &str| {
                let at = names.iter().position(|part| name.contains(part))?;
                values.get(at + if name.contains("tokens") { 3 } else { 0 }).map(String::as_str)
            };
            for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
                if let Some(quota) = Quota::read(dialect, header, SystemTime::UNIX_EPOCH) {
                    prop_assert!(quota.remaining.get() <= 1000 && quota.reset.is_none_or(|reset| reset <= RESET_MAX));
                }
            }
        }

        #[test]
        fn a_date_is_read_as_it_is_written(seconds in 0_u64..253_402_300_800, zone in -14_i64..=14) {
            let at = |text: &str| parse_rfc3339(text).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            let text = rfc3339(seconds);
            let local = text.strip_suffix('Z').unwrap();

            prop_assert_eq!(at(&text), Some(Duration::from_secs(seconds)));
            prop_assert_eq!(at(&format!("{local}.25Z")), Some(Duration::from_secs(seconds)));
            let sign = if zone < 0 { '-' } else { '+' };
            let moved = i64::try_from(seconds).unwrap() - zone * 3600;
            let moved = u64::try_from(moved).ok().map(Duration::from_secs);
            prop_assert_eq!(at(&format!("{local}{sign}{:02}:00", zone.abs())), moved);
        }
    }
}
