//! The only place of this crate that reads a clock: the runtime's own, so that a simulation can stop and wind it.

use tokio::time::Instant;

/// The monotonic time.
pub fn now() -> Instant {
    Instant::now()
}
