//! Which numbers of a sender were seen: each is taken once, also when they come out of order.

/// How far behind the highest number an unseen one may be.
const WIDTH: u64 = 128;

/// The numbers seen of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    highest: u64,
    /// Bit `n` stands for `highest - n`.
    seen: u128,
}

impl Window {
    /// Whether a number is new; it is not from then on. One that is too far behind to tell counts as seen.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if self.seen == 0 || number > self.highest {
            let ahead = number.saturating_sub(self.highest);
            let kept = if ahead < WIDTH { self.seen << ahead } else { 0 };
            *self = Self { highest: number, seen: kept | 1 };
            return true;
        }
        let behind = self.highest - number;
        if behind >= WIDTH || (self.seen >> behind) & 1 == 1 {
            return false;
        }
        self.seen |= 1_u128 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_taken_once_in_any_order() {
        let mut window = Window::default();

        let taken = [5, 3, 5, 4, 3, 133, 5, 6, 6, 500].map(|number| window.take(number));

        assert_eq!(taken, [true, true, false, true, false, true, false, true, false, true]);
    }

    #[test]
    fn a_number_too_far_behind_to_tell_counts_as_seen() {
        let mut window = Window::default();
        assert!(window.take(1000));

        assert!(!window.take(1000 - WIDTH));
        assert!(window.take(1000 - WIDTH + 1));
    }

    proptest! {
        #[test]
        fn no_number_is_taken_twice_and_none_near_the_highest_is_lost(numbers in prop::collection::vec(0..400_u64, 1..200)) {
            let (mut window, mut seen, mut highest) = (Window::default(), BTreeSet::new(), 0);

            for number in numbers {
                let is_new = seen.insert(number);
                let is_near = number + WIDTH > highest;
                highest = highest.max(number);
                prop_assert_eq!(window.take(number), is_new && is_near);
            }
        }
    }
}
