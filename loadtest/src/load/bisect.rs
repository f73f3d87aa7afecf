//! The search for the largest rate that holds: doubled until one fails, then halved into the gap.

/// The state of one search; the caller tries the rate it gives and tells how that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bisection {
    holds: Option<u64>,
    fails: Option<u64>,
    first: u64,
    max: u64,
    precision_percent: u64,
}

impl Bisection {
    /// Searches between `first` and `max` until the gap is at most `precision_percent` of the rate that holds.
    pub fn new(first: u64, max: u64, precision_percent: u64) -> Self {
        let first = first.max(1);
        Self { holds: None, fails: None, first, max: max.max(first), precision_percent: precision_percent.max(1) }
    }

    /// Gives the rate to try next; none when the search is over.
    pub fn next_rate(&self) -> Option<u64> {
        match (self.holds, self.fails) {
            (None, None) => Some(self.first),
            (Some(holds), None) => (holds < self.max).then(|| holds.saturating_mul(2).min(self.max)),
            // Nothing below the first rate is tried: it is the least that the plan finds worth knowing.
            (None, Some(_)) => None,
            (Some(holds), Some(fails)) => {
                let gap = fails.saturating_sub(holds);
                let is_close = gap.saturating_mul(100) <= holds.saturating_mul(self.precision_percent);
                (!is_close && gap > 1).then_some(holds + gap / 2)
            }
        }
    }

    /// Takes the verdict on `rate`.
    pub fn tell(&mut self, rate: u64, does_hold: bool) {
        let side = if does_hold { &mut self.holds } else { &mut self.fails };
        *side = Some(rate);
    }

    /// Gives the largest rate that held so far.
    pub fn best(&self) -> Option<u64> {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(mut bisection: Bisection, limit: u64) -> (Option<u64>, Vec<u64>) {
        let mut tried = Vec::new();
        while let Some(rate) = bisection.next_rate() {
            tried.push(rate);
            assert!(tried.len() < 100, "the search does not end: {tried:?}");
            bisection.tell(rate, rate <= limit);
        }
        (bisection.best(), tried)
    }

    #[test]
    fn the_rate_found_holds_and_is_within_the_precision_of_one_that_fails() {
        for limit in [100, 101, 777, 5_000, 63_999, 99_999] {
            let (best, tried) = search(Bisection::new(100, 100_000, 5), limit);
            let best = best.unwrap();
            assert!(best <= limit && limit < best + best / 20 + 1, "{limit}: {best} of {tried:?}");
        }
    }

    #[test]
    fn a_first_rate_that_fails_ends_the_search_with_nothing() {
        assert_eq!(search(Bisection::new(100, 1000, 5), 99), (None, vec![100]));
    }

    #[test]
    fn a_limit_beyond_the_largest_rate_gives_that_rate() {
        assert_eq!(search(Bisection::new(100, 1000, 5), 5000), (Some(1000), vec![100, 200, 400, 800, 1000]));
    }

    #[test]
    fn small_rates_end_too() {
        assert_eq!(search(Bisection::new(1, 8, 1), 2), (Some(2), vec![1, 2, 4, 3]));
    }
}
