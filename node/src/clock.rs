//! The only place that reads clocks and takes random numbers.
#![expect(clippy::disallowed_methods, reason = "this module is the one reader of clocks")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock's time.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970 by the wall clock; 0 for a clock set before then.
pub fn unix_seconds() -> i64 {
    wall().duration_since(UNIX_EPOCH).ok().and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or(0)
}

/// Milliseconds since 1970 by the wall clock; 0 for a clock set before then.
pub fn unix_millis() -> i64 {
    wall().duration_since(UNIX_EPOCH).ok().and_then(|age| i64::try_from(age.as_millis()).ok()).unwrap_or(0)
}

/// A random number that is cheap and guessable: for choices among targets, never for secrets.
pub fn dice() -> u64 {
    fastrand::u64(..)
}

/// An id nobody else has drawn: 128 random bits, guessable.
pub fn unique() -> u128 {
    fastrand::u128(..)
}

/// Fills a place with random bytes fit for a secret.
///
/// # Errors
/// When the system has none to give.
pub fn fill_secret(place: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(place)
}

/// Random bytes fit for a secret.
///
/// # Errors
/// When the system has none to give.
pub fn secret_bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
