//! The only reader of the clock in this crate.
#![expect(clippy::disallowed_methods, reason = "this module is where this crate reads the clock")]

use std::time::Instant;

/// Tells the time on the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}
