//! Keeps a repeating line from filling the log.

use std::sync::atomic::{AtomicI64, Ordering};

use troupe_proto::failure::ErrorCode;

/// Between two lines of the same code.
const SECONDS: i64 = 10;

/// Lets one line per error code through, then none of that code for a while: a line that an operator must act on is
/// not lost behind one that repeats.
#[derive(Debug)]
pub struct Quiet([AtomicI64; ErrorCode::ALL.len()]);

impl Default for Quiet {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicI64::new(i64::MIN)))
    }
}

impl Quiet {
    /// Whether a line about `code` may be written at `now` (in seconds); of several that ask at once, one.
    pub fn may_speak(&self, code: ErrorCode, now: i64) -> bool {
        let Some(cell) = self.0.get(code as usize) else { return true };
        let last = cell.load(Ordering::Relaxed);
        now.saturating_sub(last) >= SECONDS
            && cell.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_let_through_every_ten_seconds() {
        let quiet = Quiet::default();

        let spoken: Vec<i64> = (100..125).filter(|now| quiet.may_speak(ErrorCode::Internal, *now)).collect();

        assert_eq!(spoken, [100, 110, 120]);
    }

    #[test]
    fn a_code_does_not_silence_another() {
        let quiet = Quiet::default();

        let spoken = ErrorCode::ALL.iter().filter(|code| quiet.may_speak(**code, 100)).count();

        assert_eq!(spoken, ErrorCode::ALL.len());
        assert!(!quiet.may_speak(ErrorCode::Internal, 101));
    }
}
