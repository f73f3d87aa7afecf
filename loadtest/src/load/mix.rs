//! Which model a request asks for: weights, spread evenly and the same in every run.

/// A cycle of indexes in which each stands as often as its weight says.
#[derive(Debug, Clone)]
pub struct Mix {
    cycle: Vec<usize>,
}

impl Mix {
    /// Spreads the indexes by smooth weighted turns, so that a rare model comes at even distances.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0; weights.len()];
        let mut cycle = Vec::new();
        for _ in 0..total {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            // The first of equals goes first.
            let Some((best, _)) = credit.iter().enumerate().rev().max_by_key(|(_, credit)| **credit) else { break };
            if let Some(credit) = credit.get_mut(best) {
                *credit -= total;
            }
            cycle.push(best);
        }
        Self { cycle }
    }

    /// Gives the index for request `number`.
    pub fn pick(&self, number: u64) -> usize {
        let len = u64::try_from(self.cycle.len()).unwrap_or(u64::MAX).max(1);
        let place = usize::try_from(number % len).unwrap_or(0);
        self.cycle.get(place).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_its_share_at_even_distances() {
        let mix = Mix::new([4, 1]);

        let picks: Vec<usize> = (0..10).map(|number| mix.pick(number)).collect();

        assert_eq!(picks, [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn one_model_is_all_there_is() {
        assert_eq!((Mix::new([7]).pick(5), Mix::new([]).pick(5)), (0, 0));
    }
}
