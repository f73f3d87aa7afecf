use bincode::{Decode, Encode};

use crate::unit::{PerMille, Wait};

/// The rules of a call. Each part may stand in the defaults, a provider or a model; the nearest wins, field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Rules {
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How often a call is tried again.
    pub retries: Retries,
    /// When a target rests.
    pub breaker: Breaker,
    /// How many calls a target may have in flight; `None`: as many as come.
    pub concurrency: Option<Concurrency>,
}

/// How long each step of an upstream call may take. `None`: what stands farther out, in the end the built-in value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Timeouts {
    /// To open a connection, TLS included. Built in: 2 s.
    pub connect: Option<Wait>,
    /// From the request to the first byte of the reply's head. Built in: 60 s.
    pub first_byte: Option<Wait>,
    /// Between two pieces of a reply. Built in: 60 s.
    pub idle: Option<Wait>,
    /// The whole call. Built in: 10 min.
    pub total: Option<Wait>,
}

/// How often a call may be tried. `None`: what stands farther out, in the end the built-in value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Retries {
    /// Attempts in all, the first included. Built in: 3.
    pub attempts: Option<u32>,
    /// Retries as a share of the pool's calls. Built in: 20 %.
    pub budget: Option<PerMille>,
    /// The wait before the second try at one target, jittered; it doubles with each further one. Built in: 25 ms.
    pub backoff: Option<Wait>,
    /// The longest such wait. Built in: 250 ms.
    pub backoff_max: Option<Wait>,
    /// The longest wait for a provider's Retry-After inside a call. Built in: 5 s.
    pub wait_max: Option<Wait>,
}

/// When a target is rested. `None`: what stands farther out, in the end the built-in value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Breaker {
    /// Failures within `window` that open it. Built in: 5.
    pub failures: Option<u32>,
    /// The window they are counted in. Built in: 10 s.
    pub window: Option<Wait>,
    /// The share of the window's calls that must have failed as well. Built in: 50 %.
    pub share: Option<PerMille>,
    /// The first rest; it doubles with each rest that follows without a quiet time between. Built in: 5 s.
    pub rest: Option<Wait>,
    /// The longest rest. Built in: 60 s.
    pub rest_max: Option<Wait>,
    /// The rest after the provider refused the credential. Built in: 30 min.
    pub credential_rest: Option<Wait>,
    /// How long a target's traffic grows back after a rest. Built in: 10 s.
    pub slow_start: Option<Wait>,
    /// The share of targets able to serve below which rests for failures are ignored; 0 never does. Built in: 0 %.
    pub panic: Option<PerMille>,
}

/// Bounds of a limit that follows the target's time to first token. `None`: what stands farther out, in the end the
/// built-in value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Concurrency {
    /// Calls that a target may always have in flight. Built in: 4.
    pub min: Option<u32>,
    /// Calls that it never has more of. Built in: 200.
    pub max: Option<u32>,
}

impl Concurrency {
    /// The bounds where a limit is asked for and no number is given.
    pub const fn built_in() -> Self {
        Self { min: Some(4), max: Some(200) }
    }

    fn or(self, outer: Self) -> Self {
        Self { min: self.min.or(outer.min), max: self.max.or(outer.max) }
    }
}

impl Rules {
    /// These rules, and what they leave open from `outer`.
    #[must_use]
    pub fn or(self, outer: Self) -> Self {
        Self {
            timeouts: Timeouts {
                connect: self.timeouts.connect.or(outer.timeouts.connect),
                first_byte: self.timeouts.first_byte.or(outer.timeouts.first_byte),
                idle: self.timeouts.idle.or(outer.timeouts.idle),
                total: self.timeouts.total.or(outer.timeouts.total),
            },
            retries: Retries {
                attempts: self.retries.attempts.or(outer.retries.attempts),
                budget: self.retries.budget.or(outer.retries.budget),
                backoff: self.retries.backoff.or(outer.retries.backoff),
                backoff_max: self.retries.backoff_max.or(outer.retries.backoff_max),
                wait_max: self.retries.wait_max.or(outer.retries.wait_max),
            },
            breaker: Breaker {
                failures: self.breaker.failures.or(outer.breaker.failures),
                window: self.breaker.window.or(outer.breaker.window),
                share: self.breaker.share.or(outer.breaker.share),
                rest: self.breaker.rest.or(outer.breaker.rest),
                rest_max: self.breaker.rest_max.or(outer.breaker.rest_max),
                credential_rest: self.breaker.credential_rest.or(outer.breaker.credential_rest),
                slow_start: self.breaker.slow_start.or(outer.breaker.slow_start),
                panic: self.breaker.panic.or(outer.breaker.panic),
            },
            concurrency: match (self.concurrency, outer.concurrency) {
                (Some(near), Some(far)) => Some(near.or(far)),
                (near, far) => near.or(far),
            },
        }
    }

    /// These rules with every gap filled: each field is `Some`, but for `concurrency`, which stays absent where nobody
    /// asks for a limit.
    ///
    /// The first and the last of a range may stem from different tables and so cross; the last is then raised to the
    /// first.
    #[must_use]
    pub fn settled(self) -> Self {
        let mut rules = self.or(Self::built_in());
        rules.concurrency = rules.concurrency.map(|limit| limit.or(Concurrency::built_in()));
        rules.retries.backoff_max = rules.retries.backoff_max.max(rules.retries.backoff);
        rules.breaker.rest_max = rules.breaker.rest_max.max(rules.breaker.rest);
        if let Some(limit) = &mut rules.concurrency {
            limit.max = limit.max.max(limit.min);
        }
        rules
    }

    /// The rules that hold where nobody says otherwise.
    pub const fn built_in() -> Self {
        Self {
            timeouts: Timeouts {
                connect: Some(Wait::from_secs(2)),
                first_byte: Some(Wait::from_secs(60)),
                idle: Some(Wait::from_secs(60)),
                total: Some(Wait::from_secs(600)),
            },
            retries: Retries {
                attempts: Some(3),
                budget: Some(PerMille::new(200)),
                backoff: Some(Wait::from_millis(25)),
                backoff_max: Some(Wait::from_millis(250)),
                wait_max: Some(Wait::from_secs(5)),
            },
            breaker: Breaker {
                failures: Some(5),
                window: Some(Wait::from_secs(10)),
                share: Some(PerMille::new(500)),
                rest: Some(Wait::from_secs(5)),
                rest_max: Some(Wait::from_secs(60)),
                credential_rest: Some(Wait::from_secs(30 * 60)),
                slow_start: Some(Wait::from_secs(10)),
                panic: Some(PerMille::ZERO),
            },
            concurrency: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rule_wins_field_by_field() {
        let near = Rules {
            retries: Retries { attempts: Some(1), ..Retries::default() },
            breaker: Breaker { panic: Some(PerMille::new(300)), ..Breaker::default() },
            concurrency: Some(Concurrency { min: Some(8), max: None }),
            ..Rules::default()
        };
        let far = Rules {
            retries: Retries { attempts: Some(9), backoff: Some(Wait::from_millis(50)), ..Retries::default() },
            concurrency: Some(Concurrency { min: Some(2), max: Some(64) }),
            ..Rules::default()
        };

        let rules = near.or(far).settled();

        let built_in = Rules::built_in();
        assert_eq!(rules.retries.attempts, Some(1));
        assert_eq!(rules.retries.backoff, Some(Wait::from_millis(50)));
        assert_eq!(rules.retries.wait_max, built_in.retries.wait_max);
        assert_eq!(rules.breaker, Breaker { panic: Some(PerMille::new(300)), ..built_in.breaker });
        assert_eq!(rules.concurrency, Some(Concurrency { min: Some(8), max: Some(64) }));
    }

    #[test]
    fn a_limit_of_concurrency_stands_only_where_somebody_asks_for_one() {
        let asked = Rules { concurrency: Some(Concurrency::default()), ..Rules::default() };

        assert_eq!(Rules::default().settled(), Rules::built_in());
        assert_eq!(Rules::built_in().concurrency, None);
        assert_eq!(asked.settled().concurrency, Some(Concurrency::built_in()));
        assert_eq!(Rules::default().or(asked).settled().concurrency, Some(Concurrency::built_in()));
    }

    #[test]
    fn the_last_of_a_range_is_never_below_its_first() {
        let near = Rules {
            retries: Retries { backoff: Some(Wait::from_secs(1)), ..Retries::default() },
            breaker: Breaker { rest: Some(Wait::from_secs(120)), ..Breaker::default() },
            concurrency: Some(Concurrency { min: Some(500), max: None }),
            ..Rules::default()
        };

        let rules = near.settled();

        assert_eq!(rules.retries.backoff_max, Some(Wait::from_secs(1)));
        assert_eq!(rules.breaker.rest_max, Some(Wait::from_secs(120)));
        assert_eq!(rules.concurrency, Some(Concurrency { min: Some(500), max: Some(500) }));
    }
}
