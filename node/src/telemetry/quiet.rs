//! Keeps a repeating line from filling the log.

use std::sync::atomic::{AtomicI64, Ordering};

/// Between two lines of the same kind.
const SECONDS: i64 = 10;

/// Lets one line through, then none for a while.
#[derive(Debug)]
pub struct Quiet(AtomicI64);

impl Default for Quiet {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Quiet {
    /// Whether a line may be written at `now` (in seconds); of several that ask at once, one.
    pub fn may_speak(&self, now: i64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now.saturating_sub(last) >= SECONDS
            && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Quiet;

    #[test]
    fn one_line_is_let_through_every_ten_seconds() {
        let quiet = Quiet::default();

        let spoken: Vec<i64> = (100..125).filter(|now| quiet.may_speak(*now)).collect();

        assert_eq!(spoken, [100, 110, 120]);
    }
}
