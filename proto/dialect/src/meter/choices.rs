//! Which choices of a reply began, and which of them ended.

/// The most choices a request may ask for (OpenAI's own bound is the same).
pub(super) const CHOICES_MAX: u64 = 128;

/// The choices of one stream, a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choices {
    seen: u128,
    finished: u128,
    /// A choice beyond [`CHOICES_MAX`] came; whether that one ends is not known.
    beyond: bool,
}

impl Choices {
    pub(super) fn expect(&mut self, n: u64) {
        for index in 0..n.min(CHOICES_MAX) {
            self.begin(index, false);
        }
    }

    pub(super) fn begin(&mut self, index: u64, finished: bool) {
        let bit = u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index));
        let Some(bit) = bit else {
            self.beyond = true;
            return;
        };
        self.seen |= bit;
        if finished {
            self.finished |= bit;
        }
    }

    pub(super) const fn merge(&mut self, other: Self) {
        self.seen |= other.seen;
        self.finished |= other.finished;
        self.beyond |= other.beyond;
    }

    pub(super) const fn any(&self) -> bool {
        self.seen != 0 || self.beyond
    }

    pub(super) const fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished && !self.beyond
    }
}
