//! Whether anybody is there, as this node's own calls and probes find. Pure.

use std::time::Instant;

use super::logic::{Event, Finding, Source, Verdict};

/// What a node's own tries say of whether it reaches a target at all; how well the target does there is the breaker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// When somebody answered last, whatever the answer. Calls that go well are counted elsewhere, but on probation.
    pub(crate) answered: Option<Instant>,
    /// When nobody was reached for the first time since then, and for the last.
    pub(crate) silent: Option<(Instant, Instant)>,
}

impl Reach {
    /// Takes what happened; what others found and what operators want says nothing here.
    pub(super) fn note(&mut self, event: Event, now: Instant) {
        let is_answer = match event {
            Event::Reported(verdict) | Event::Judged(verdict) => match verdict {
                Verdict::Ill { is_unreachable, .. } => !is_unreachable,
                Verdict::Works
                | Verdict::Busy { .. }
                | Verdict::Refused
                | Verdict::Exhausted { .. }
                | Verdict::Spent { .. } => true,
            },
            Event::Probed(finding, Source::Own) => match finding {
                Finding::Alive | Finding::Answers | Finding::CredentialRefused => true,
                Finding::Dead => false,
            },
            Event::Probed(_, Source::Others) | Event::Told(_) | Event::Reset => return,
        };
        if is_answer {
            *self = Self { answered: Some(now), silent: None };
        } else {
            let first = self.silent.map_or(now, |(first, _)| first);
            self.silent = Some((first, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::traffic::Tally;

    #[test]
    fn any_answer_ends_a_silence_and_what_others_found_does_not() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ill = |is_unreachable| {
            Event::Reported(Verdict::Ill { is_unreachable, retry_after: None, tally: Tally::default() })
        };
        let mut reach = Reach::default();

        reach.note(ill(true), at(1));
        reach.note(Event::Probed(Finding::Alive, Source::Others), at(2));
        reach.note(Event::Probed(Finding::Dead, Source::Own), at(3));
        assert_eq!(reach, Reach { answered: None, silent: Some((at(1), at(3))) });

        reach.note(ill(false), at(4));
        assert_eq!(reach, Reach { answered: Some(at(4)), silent: None });
        reach.note(Event::Judged(Verdict::Refused), at(5));
        reach.note(ill(true), at(6));
        assert_eq!(reach, Reach { answered: Some(at(5)), silent: Some((at(6), at(6))) });
    }
}
