//! No error body, event or header panics the classifier, and none that concerns our credential is relayed.

use std::time::SystemTime;

use troupe_dialect::Dialect;
use troupe_dialect::fault::{MESSAGE_BYTES_MAX, RetryHints, classify, classify_event};

/// Holds one input to it.
pub(crate) fn run(input: (u16, &str, &[u8])) {
    let (status, header, body) = input;
    let hints = RetryHints::read(|_| Some(header), SystemTime::UNIX_EPOCH);
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        for read in [classify(dialect, status, &hints, body), classify_event(dialect, body)] {
            assert!(!read.relay_body || !matches!(read.fault.as_str(), "credential" | "quota"));
            assert!(!matches!(read.code.status(), 401 | 403));
            assert!(read.message.is_none_or(|message| message.len() <= MESSAGE_BYTES_MAX));
        }
    }
}
