//! The only reader of the clock in this crate.
#![expect(clippy::disallowed_methods, reason = "this module is where this crate reads the clock")]

use std::time::{Duration, Instant, SystemTime};

/// Tells the time on the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Tells what the calendar says after so long, as RFC 3339 in whole seconds, rounded up.
pub fn moment_in(after: Duration) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = (now + after).as_millis().div_ceil(1000);
    // A clock beyond the calendar's end (year 9999) reads as its beginning.
    let moment = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.unwrap_or_default().to_string()
}
