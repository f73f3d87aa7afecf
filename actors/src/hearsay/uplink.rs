//! Whether this node is cut off from its providers while other nodes are not. Pure.
//!
//! ```text
//!  Joined ── nobody answers at any target it tried, for a while, and another node in rotation reaches one of them ──▶ Cut
//!    ▲                                                                                                            │
//!    └── anybody answers, or nobody else shows any more that the fault is here ───────────────────────────────────┘
//! ```
//! A node that is cut off fails its calls at once, which looks like a node with nothing to do: a balancer that counts
//! connections would send it more and more. So it leaves rotation, but only for others who do better. Where all fail alike
//! the fault is the provider's, and a node without others has nobody to leave the calls to.

use std::time::{Duration, Instant};

use troupe_proto::id::NodeId;

/// Nobody must have answered for as long before the node counts as cut off.
const HOLD: Duration = Duration::from_millis(1_500);
/// What was tried longer ago says nothing of the network now.
const TRIED_FOR: Duration = Duration::from_secs(10);
/// What another node reached longer ago says nothing of the provider now.
const REACHED_FOR: Duration = Duration::from_secs(10);
/// How much later than the first silence here another node must have been answered: words take a moment on their way, and
/// none may look younger for it.
const MARGIN: Duration = Duration::from_millis(250);

/// How a target stands, as this node's own tries and other nodes' words have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When anybody answered here last.
    pub(crate) answered: Option<Instant>,
    /// When nobody answered here for the first time since then, and for the last.
    pub(crate) silent: Option<(Instant, Instant)>,
    /// The last answer to another node in rotation that finds no fault with it, and whose it was.
    pub(crate) elsewhere: Option<(Instant, NodeId)>,
}

/// Whether this node reaches its providers as far as others do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// It does, or nobody does better.
    #[default]
    Joined,
    /// It reaches nobody, and `witness` does.
    Cut { witness: NodeId },
}

impl Uplink {
    /// What is so at `now`.
    pub(crate) fn judged(self, seen: &[Seen], now: Instant) -> Self {
        let is_recent = |at: Instant, span: Duration| now.saturating_duration_since(at) <= span;
        let tried: Vec<Seen> = seen.iter().map(Seen::settled).collect();
        let failing = || {
            let silent = tried.iter().filter_map(|seen| Some((seen.silent?, seen.elsewhere)));
            silent.filter(|((_, last), _)| is_recent(*last, TRIED_FOR))
        };
        // An answer of before the silence says nothing of a network that broke since.
        let broke = failing().map(|((first, _), _)| first).min();
        let mut answers = tried.iter().filter(|seen| seen.silent.is_none()).filter_map(|seen| seen.answered);
        if answers.any(|at| is_recent(at, TRIED_FOR) && broke.is_none_or(|broke| at >= broke)) {
            return Self::Joined;
        }
        // Since when that is so at all of them, and when it showed last.
        let since = failing().map(|((first, _), _)| first).max();
        let last = failing().map(|((_, last), _)| last).max();
        let (Some(since), Some(last)) = (since, last) else { return Self::Joined };
        let witness = failing().filter_map(|(_, elsewhere)| elsewhere).max();
        let witness = witness.filter(|(at, _)| *at >= since + MARGIN && is_recent(*at, REACHED_FOR));
        match (self, witness) {
            (Self::Joined | Self::Cut { .. }, None) => Self::Joined,
            (Self::Cut { .. }, Some((_, witness))) => Self::Cut { witness },
            // One try may fail on any network.
            (Self::Joined, Some((_, witness))) => {
                let has_held = now.saturating_duration_since(since) >= HOLD && last > since;
                if has_held { Self::Cut { witness } } else { Self::Joined }
            }
        }
    }

    /// Whether this node is cut off.
    pub(crate) const fn is_cut(self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}

impl Seen {
    /// Without a silence that an answer ended, and with none that is older than the last answer.
    fn settled(&self) -> Self {
        let silent = self.silent.and_then(|(first, last)| match self.answered {
            Some(answered) if answered >= last => None,
            Some(answered) => Some((first.max(answered), last)),
            None => Some((first, last)),
        });
        Self { silent, ..*self }
    }

    /// Whether it was tried of late, and nobody answered.
    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        let silent = self.settled().silent;
        silent.is_some_and(|(_, last)| now.saturating_duration_since(last) <= TRIED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITNESS: NodeId = NodeId(2);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
        let now = Instant::now();
        now + Duration::from_secs(3600)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Nobody answered here for `span`, and somebody does elsewhere.
    fn failing(span: Duration, now: Instant) -> Seen {
        Seen { answered: None, silent: Some((now - span, now - ms(1))), elsewhere: Some((now - ms(1), WITNESS)) }
    }

    fn alone(span: Duration, now: Instant) -> Seen {
        Seen { elsewhere: None, ..failing(span, now) }
    }

    #[test]
    fn a_node_that_reaches_nobody_while_another_does_is_cut_off_after_a_while() {
        let now = start();
        let after = |span| Uplink::Joined.judged(&[failing(span, now), alone(span, now)], now);

        assert_eq!(after(ms(500)), Uplink::Joined);
        assert_eq!(after(HOLD), Uplink::Cut { witness: WITNESS });
    }

    #[test]
    fn where_all_fail_alike_or_nobody_else_is_there_nobody_is_cut_off() {
        let now = start();
        // Elsewhere somebody was answered as well, before nobody was here.
        let before = Seen { elsewhere: Some((now - ms(6_000), WITNESS)), ..failing(ms(5_900), now) };

        for seen in [alone(ms(5_000), now), before] {
            assert_eq!(Uplink::Joined.judged(&[seen], now), Uplink::Joined);
            assert_eq!(Uplink::Cut { witness: WITNESS }.judged(&[seen], now), Uplink::Joined, "{seen:?}");
        }
    }

    #[test]
    fn one_target_that_answers_is_enough_and_one_that_is_not_tried_says_nothing() {
        let now = start();
        let well = |ago| Seen { answered: Some(now - ago), ..Seen::default() };
        let cut = Uplink::Cut { witness: WITNESS };
        let all = |other| [failing(ms(5_000), now), other];

        assert_eq!(Uplink::Joined.judged(&all(well(ms(2_000))), now), Uplink::Joined);
        assert_eq!(Uplink::Joined.judged(&all(well(ms(5_500))), now), cut, "it answered before the network broke");
        assert_eq!(cut.judged(&all(well(ms(0))), now), Uplink::Joined);
        assert_eq!(Uplink::Joined.judged(&all(well(ms(11_000))), now), cut);
        assert_eq!(Uplink::Joined.judged(&all(Seen::default()), now), cut);
    }

    #[test]
    fn a_single_try_that_failed_and_calls_that_fail_now_and_then_cut_nobody_off() {
        let now = start();
        let once = Seen { silent: Some((now - ms(3_000), now - ms(3_000))), ..failing(ms(0), now) };
        // One call in many fails: it went well in between, by what is counted a little late.
        let flaky = Seen { answered: Some(now - ms(1_000)), ..failing(ms(9_000), now) };

        assert_eq!(Uplink::Joined.judged(&[once], now), Uplink::Joined);
        assert_eq!(Uplink::Joined.judged(&[flaky], now), Uplink::Joined);
    }

    #[test]
    fn a_provider_that_is_gone_for_all_hides_nobody_who_is_cut_off_from_the_others() {
        let now = start();
        let gone = alone(ms(9_000), now);

        let seen = [gone, failing(ms(2_000), now)];

        assert!(Uplink::Joined.judged(&seen, now).is_cut());
        assert!(!Uplink::Joined.judged(&[gone, failing(ms(800), now)], now).is_cut(), "the others failed only now");
    }

    #[test]
    fn what_was_tried_long_ago_cuts_nobody_off_and_does_not_keep_anybody_out() {
        let now = start();
        let old = Seen { silent: Some((now - ms(30_000), now - ms(11_000))), ..failing(ms(0), now) };

        assert!(!Uplink::Joined.judged(&[old], now).is_cut());
        assert!(!Uplink::Cut { witness: WITNESS }.judged(&[old], now).is_cut());
        assert!(!old.is_failing(now) && failing(ms(10), now).is_failing(now));
    }
}
