use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// 1994-11-06 08:49:37 UTC, the date of RFC 9110's examples.
const NOW_SECONDS: u64 = 784_111_777;

fn hints(headers: &Value) -> RetryHints {
    let now = UNIX_EPOCH + Duration::from_secs(NOW_SECONDS);
    RetryHints::read(|name| headers.get(name).and_then(Value::as_str), now)
}

fn retry_after(value: &str) -> Option<Duration> {
    hints(&serde_json::json!({ "retry-after": value })).after
}

/// Each `fixtures/faults/<case>.json` is an answer and what it means; a string as its body stands for bare text. Where
/// it was seen in public, `source` says where.
#[test]
fn every_fixture_is_classed_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/faults");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let dialect = if case["dialect"] == "openai" { Dialect::OpenAi } else { Dialect::Anthropic };
        let body = case["body"].as_str().map_or_else(|| case["body"].to_string(), str::to_owned);

        let read = match case["status"].as_u64() {
            Some(status) => {
                classify(dialect, u16::try_from(status).unwrap(), &hints(&case["headers"]), body.as_bytes())
            }
            None => classify_event(dialect, body.as_bytes()),
        };

        let name = path.display();
        assert_eq!(read.fault.as_str(), case["fault"], "{name}");
        assert_eq!(read.code.as_str(), case["code"], "{name}");
        assert_eq!(read.relay_body, case["relay_body"], "{name}");
        assert_eq!(read.should_retry, case["should_retry"].as_bool(), "{name}");
        assert_eq!(read.is_unknown_model, case["unknown_model"] == true, "{name}");
        let after = case["retry_after_ms"].as_u64().map(u128::from);
        assert_eq!(read.retry_after.map(|after| after.as_millis()), after, "{name}");
        let words = [("message", &read.message), ("provider_type", &read.provider_type)];
        for (word, found) in words.into_iter().chain([("provider_code", &read.provider_code)]) {
            if let Some(expected) = case[word].as_str() {
                assert_eq!(found.as_deref(), Some(expected), "{name}");
            }
        }
        cases += 1;
    }
    assert!(cases >= 80, "the fixtures are gone");
}

#[test]
fn a_refused_credential_or_an_empty_account_is_never_relayed() {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        for status in 400..=599 {
            let body = br#"{"type":"error","error":{"type":"authentication_error","message":"sk-ours is bad"}}"#;
            let read = classify(dialect, status, &RetryHints::default(), body);
            if matches!(read.fault, Fault::Credential | Fault::Quota) {
                assert!(!read.relay_body && !matches!(read.code.status(), 401 | 403), "KEY-2 at {status}");
            }
        }
    }
}

#[test]
fn a_wait_is_read_in_every_form_and_bounded() {
    assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
    assert_eq!(retry_after(" 0.25 "), Some(Duration::from_millis(250)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(retry_after("1e300"), None);
    assert_eq!(retry_after("999999999"), Some(Duration::from_secs(604_800)));
    for nonsense in ["", "-1", "NaN", "inf", "soon", "Sun, 06 Nov", "Sun, 06 Nov 1994 8:61:00 GMT", "Sun, 6 Foo 1994"] {
        assert_eq!(retry_after(nonsense), None, "{nonsense}");
    }
}

#[test]
fn a_long_message_is_cut_and_loses_its_control_characters() {
    let body = serde_json::json!({ "error": { "message": format!("a\u{1b}[31m\nb{}", "é".repeat(5000)) } }).to_string();

    let read = classify(Dialect::OpenAi, 500, &RetryHints::default(), body.as_bytes());

    let message = read.message.unwrap();
    assert!(message.starts_with("a [31m bé") && message.len() <= MESSAGE_BYTES_MAX);
}

#[test]
fn an_error_body_beyond_the_limit_is_not_relayed() {
    let body = serde_json::json!({ "error": { "message": "x".repeat(BODY_BYTES_MAX) } }).to_string();

    assert!(!classify(Dialect::OpenAi, 500, &RetryHints::default(), body.as_bytes()).relay_body);
}

#[test]
fn days_are_counted_right_over_leap_years() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    assert_eq!(rfc3339(NOW_SECONDS), "1994-11-06T08:49:37Z");
    assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
}

proptest! {
    #[test]
    fn a_date_that_is_written_is_read_again(seconds in 0_u64..253_402_300_800) {
        let text = rfc3339(seconds);
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let part = |range| text.get(range).unwrap();
        let month = months[part(5..7).parse::<usize>().unwrap() - 1];
        let http = format!("Xxx, {} {month} {} {} GMT", part(8..10), part(0..4), part(11..19));

        prop_assert_eq!(date::parse_http(&http), Some(UNIX_EPOCH + Duration::from_secs(seconds)));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>(), text in ".{0,40}", status in any::<u16>()) {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            classify(dialect, status, &RetryHints::default(), &bytes);
            classify_event(dialect, text.as_bytes());
        }
        retry_after(&text);
    }
}
