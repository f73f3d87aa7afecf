//! The choice within a pool: two drawn by weight, and the better of them.

use troupe_actors::pool;

use crate::view::Member;

/// What there is to choose from.
pub(super) struct Field<'a> {
    /// Sorted by priority, the best first.
    pub(super) members: &'a [Member],
    /// What was learned of them; the same indexes.
    pub(super) view: &'a pool::View,
    /// Whether a member may be chosen at all.
    pub(super) open: &'a dyn Fn(usize) -> bool,
    /// How well it suits, the smaller the better; `None`: not at all.
    pub(super) rank: &'a dyn Fn(usize) -> Option<u8>,
}

/// Chooses a member of the best priority that has one, and there among those of the best rank.
///
/// Shares follow the weights as long as the members do equally well. The first one drawn has to be worse than the second
/// by a margin to lose its turn: between equals the noise of their latencies must not decide, or the one that happens to
/// lead would get everything.
pub(super) fn pick(
    field: &Field<'_>,
    in_flight: impl Fn(usize) -> u32,
    prefix: Option<u64>,
    dice: impl Fn() -> u64,
) -> Option<usize> {
    let mut rest = 0..field.members.len();
    while let Some(first) = rest.clone().find(|at| (field.open)(*at) && (field.rank)(*at).is_some()) {
        let priority = field.members.get(first)?.priority;
        let end = field.members.partition_point(|member| member.priority <= priority);
        let tier = first..end;
        rest = end..field.members.len();
        let best = tier.clone().filter(|at| (field.open)(*at)).filter_map(|at| (field.rank)(at)).min();
        let Some(best) = best else { continue };
        let fits = |at: &usize| (field.open)(*at) && (field.rank)(*at) == Some(best);
        let weight = |at: usize| field.view.members.get(at).map_or(1, |seen| seen.weight).max(1);
        let sticky = prefix.and_then(|prefix| sticky(tier.clone().filter(fits), prefix, weight, &in_flight));
        if sticky.is_some() {
            return sticky;
        }
        let Some(first) = draw(tier.clone().filter(fits), weight, dice()) else { continue };
        let others = || tier.clone().filter(fits).filter(|at| *at != first);
        let Some(second) = draw(others(), weight, dice()) else { return Some(first) };
        let mean = (weight(first) + weight(second)) / 2;
        let seen = |at: usize| Seen {
            latency_us: field.view.members.get(at).map_or(0, |seen| seen.latency_us),
            failing: field.view.members.get(at).map_or(0, |seen| seen.failing.get().into()),
            in_flight: in_flight(at),
            share: (weight(at), mean),
        };
        return Some(if is_clearly_worse(&seen(first), &seen(second)) { second } else { first });
    }
    None
}

/// Draws one by weight.
fn draw(among: impl Iterator<Item = usize> + Clone, weight: impl Fn(usize) -> u64, dice: u64) -> Option<usize> {
    let total = among.clone().fold(0u64, |sum, at| sum.saturating_add(weight(at)));
    let mut at = dice.checked_rem(total)?;
    among.clone().find(|candidate| {
        let share = weight(*candidate);
        let is_drawn = at < share;
        at = at.saturating_sub(share);
        is_drawn
    })
}

/// What is known of a candidate.
pub(super) struct Seen {
    /// Smoothed time to first token, failures included; 0 where nobody knows.
    pub(super) latency_us: u32,
    /// Thousandths of its calls that fail.
    pub(super) failing: u32,
    pub(super) in_flight: u32,
    /// Its weight, and the mean of those it is compared with.
    pub(super) share: (u64, u64),
}

impl Seen {
    /// Latency x what it has to do for its share. Where one latency is not known, both count as equal.
    fn score(&self, is_known: bool) -> u128 {
        let load =
            1000 + 1000 * u128::from(self.in_flight) * u128::from(self.share.1) / u128::from(self.share.0.max(1));
        let latency = if is_known { u128::from(self.latency_us) } else { 1000 + 10 * u128::from(self.failing) };
        latency * load
    }
}

/// Whether `first` is worse than `second` by more than a third.
pub(super) fn is_clearly_worse(first: &Seen, second: &Seen) -> bool {
    let is_known = first.latency_us > 0 && second.latency_us > 0;
    second.score(is_known) * 4 < first.score(is_known) * 3
}

/// The member a prefix belongs to (rendezvous hashing by weight), unless that has more than its share to do: then the
/// next one.
fn sticky(
    among: impl Iterator<Item = usize> + Clone,
    prefix: u64,
    weight: impl Fn(usize) -> u64,
    in_flight: impl Fn(usize) -> u32,
) -> Option<usize> {
    let (weights, total) = among.clone().fold((0u128, 1u128), |(weights, total), at| {
        (weights + u128::from(weight(at)), total + u128::from(in_flight(at)))
    });
    // A quarter above its share, the call itself included.
    let most = |at: usize| (5 * total * u128::from(weight(at))).div_ceil(4 * weights.max(1));
    // The greatest of weight / -ln(draw) falls on each as often as its weight says.
    let mine = |at: usize| {
        let drawn = mix(prefix ^ mix(u64::try_from(at).unwrap_or(u64::MAX))) >> 32;
        let drawn = (f64::from(u32::try_from(drawn).unwrap_or(u32::MAX)) + 1.0) / (f64::from(u32::MAX) + 2.0);
        weight(at) as f64 / -drawn.ln()
    };
    among.filter(|at| u128::from(in_flight(*at)) < most(*at)).max_by(|a, b| mine(*a).total_cmp(&mine(*b)))
}

/// Spreads a number over all bits (the finisher of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What calls with the same beginning have in common; `None` for one too short to be worth a warm cache.
///
/// Providers cache prompts from about a thousand tokens on. The beginning is the same at each turn of a conversation.
pub(super) fn prefix(body: &[u8]) -> Option<u64> {
    let head = body.get(..PREFIX_BYTES)?;
    let hash = head.chunks(8).fold(0u64, |hash, chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        mix(hash ^ u64::from_le_bytes(word))
    });
    Some(hash)
}

/// Enough of a body to know its conversation by, and less than providers keep a cache for.
const PREFIX_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(latency_us: u32, in_flight: u32, weight: u64) -> Seen {
        Seen { latency_us, failing: 0, in_flight, share: (weight, 5) }
    }

    #[test]
    fn one_is_drawn_by_weight() {
        let mut drawn = [0; 2];

        for dice in 0..1000 {
            drawn[draw(0..2, |at| [9, 1][at], dice).unwrap()] += 1;
        }

        assert_eq!(drawn, [900, 100]);
        assert_eq!(draw(0..0, |_| 1, 7), None);
    }

    #[test]
    fn noise_between_equals_does_not_decide_and_a_slower_one_loses() {
        assert!(!is_clearly_worse(&seen(110_000, 0, 5), &seen(100_000, 0, 5)));
        assert!(is_clearly_worse(&seen(300_000, 0, 5), &seen(100_000, 0, 5)));
    }

    #[test]
    fn load_counts_by_share() {
        // Nine times the weight, nine times the calls: as busy as each other.
        assert!(!is_clearly_worse(&seen(1, 90, 9), &seen(1, 10, 1)));
        assert!(is_clearly_worse(&seen(1, 40, 1), &seen(1, 90, 9)));
    }

    #[test]
    fn failures_count_where_no_latency_is_known() {
        let failing = Seen { failing: 500, ..seen(0, 0, 5) };

        assert!(is_clearly_worse(&failing, &seen(100_000, 0, 5)));
        assert!(!is_clearly_worse(&seen(0, 0, 5), &seen(100_000, 0, 5)));
    }

    #[test]
    fn a_prefix_stays_with_its_member_until_that_has_too_much_to_do() {
        let idle = |_| 0;
        let even = |_| 1_000;
        let home = sticky(0..4, 42, even, idle).unwrap();
        assert_eq!(sticky(0..4, 42, even, idle), Some(home));

        let busy = |at: usize| if at == home { 10 } else { 0 };
        assert_ne!(sticky(0..4, 42, even, busy), Some(home));
        let homes: std::collections::BTreeSet<_> =
            (0..100).filter_map(|prefix| sticky(0..4, prefix, even, idle)).collect();
        assert_eq!(homes.len(), 4);
    }

    #[test]
    fn prefixes_are_spread_by_weight() {
        let weight = |at: usize| [9_000_000_000_000, 1_000_000_000_000][at];

        let first = (0..10_000).filter(|prefix| sticky(0..2, *prefix, weight, |_| 0) == Some(0)).count();

        assert!((8_800..9_200).contains(&first), "{first}");
    }

    #[test]
    fn bodies_with_the_same_beginning_have_the_same_prefix() {
        let begin = "x".repeat(PREFIX_BYTES);

        assert_eq!(prefix(format!("{begin}a").as_bytes()), prefix(format!("{begin}b").as_bytes()));
        assert_ne!(prefix(format!("y{begin}").as_bytes()), prefix(begin.as_bytes()));
        assert_eq!(prefix(b"short"), None);
    }
}
