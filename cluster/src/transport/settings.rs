//! How patient the transport is, and how much it holds.

use std::time::Duration;

/// Times and bounds of connections and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most that dialling, TLS and the handshake may take together.
    pub dial_max: Duration,
    /// The same for one who dials us.
    pub handshake_max: Duration,
    /// A connection without calls is closed after this by the side that dialled, and after twice this by the other.
    pub idle_max: Duration,
    /// A peer that owes an answer and gives no sign of life for this long is dialled anew. A connection that a partition
    /// has hit recovers by the kernel's doubled retries only, long after the partition is over.
    pub silence_max: Duration,
    /// The most that may pass between two pieces of one frame.
    pub stall_max: Duration,
    /// The most that serving one call may take.
    pub serve_max: Duration,
    /// The pause after the first failure to connect; doubled by each further one.
    pub backoff_first: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
    /// Calls that may wait for answers at one connection.
    pub calls_max: usize,
    /// Calls that may be served at once, for all peers together.
    pub serving_max: usize,
    /// Peers that may be in the middle of a handshake.
    pub handshakes_max: usize,
    /// Of these, how many may come from one address; of IPv6, from one network of /64. So nobody keeps all others out.
    pub handshakes_each_max: usize,
    /// Connections that peers may have open.
    pub connections_max: usize,
    /// Connections that peers without a certificate may have open.
    pub joins_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dial_max: Duration::from_millis(1500),
            handshake_max: Duration::from_secs(5),
            idle_max: Duration::from_secs(60),
            silence_max: Duration::from_millis(1500),
            stall_max: Duration::from_secs(10),
            serve_max: Duration::from_secs(120),
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
            calls_max: 1024,
            serving_max: 4096,
            handshakes_max: 64,
            handshakes_each_max: 24,
            connections_max: 512,
            joins_max: 16,
        }
    }
}

impl Settings {
    /// The pause before the dial that follows `failures` failed ones in a row: doubled each time, then somewhere between
    /// half and the whole of that, by `dice`, so that peers do not come back in step.
    pub(super) fn pause(&self, failures: u32, dice: u64) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let whole = doubled.min(self.backoff_max);
        let part = u32::try_from(dice % 1001).unwrap_or(0);
        whole / 2 + whole / 2 * part / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_differ_by_the_dice() {
        let settings = Settings::default();
        let longest = |failures| settings.pause(failures, 1000).as_millis();

        assert_eq!([1, 2, 3, 4, 5, 60].map(longest), [50, 100, 200, 400, 500, 500]);
        assert_eq!(settings.pause(2, 0), Duration::from_millis(50));
        assert_eq!(settings.pause(2, 500), Duration::from_millis(75));
    }
}
