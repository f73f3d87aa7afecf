//! When the requests of an open loop are due: a fixed rate, whatever the replies do.

use std::time::{Duration, Instant};

const NANOS_PER_S: u128 = 1_000_000_000;

/// The send times of an open loop; it knows nothing of replies, so nothing can be omitted in concert with a slow server.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    begin: Instant,
    rate: u64,
    /// Requests in all.
    pub requests: u64,
}

impl Schedule {
    /// Plans `rate` requests a second from `begin` on, for `time` or `requests`, whichever ends first.
    pub fn new(begin: Instant, rate: u64, time: Option<Duration>, requests: Option<u64>) -> Self {
        let fit = |time: Duration| u64::try_from(time.as_nanos() * u128::from(rate) / NANOS_PER_S).unwrap_or(u64::MAX);
        let in_time = time.map_or(u64::MAX, fit);
        Self { begin, rate, requests: in_time.min(requests.unwrap_or(u64::MAX)) }
    }

    /// Gives the time at which request `number` (from 0) is to be sent; none behind the last.
    ///
    /// It is computed from the number, never from the time before, so that rounding does not add up.
    pub fn due(&self, number: u64) -> Option<Instant> {
        if number >= self.requests {
            return None;
        }
        let nanos = u128::from(number) * NANOS_PER_S / u128::from(self.rate.max(1));
        self.begin.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn requests_are_due_at_even_distances_from_the_begin() {
        let begin = clock::now();
        let schedule = Schedule::new(begin, 4, Some(Duration::from_secs(2)), None);

        let due: Vec<u128> =
            (0..).map_while(|number| schedule.due(number)).map(|due| (due - begin).as_millis()).collect();

        assert_eq!(due, [0, 250, 500, 750, 1000, 1250, 1500, 1750]);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let begin = clock::now();
        let schedule = Schedule::new(begin, 3, None, Some(3_000_001));

        assert_eq!(schedule.due(3_000_000), Some(begin + Duration::from_secs(1_000_000)));
        assert_eq!(schedule.due(3_000_001), None);
    }

    #[test]
    fn the_first_bound_that_is_reached_ends_the_schedule() {
        let begin = clock::now();

        assert_eq!(Schedule::new(begin, 100, Some(Duration::from_secs(3)), Some(50)).requests, 50);
        assert_eq!(Schedule::new(begin, 100, Some(Duration::from_millis(255)), Some(50)).requests, 25);
    }
}
