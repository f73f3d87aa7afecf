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

/// How often a call may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Retries {
    /// Attempts in all, the first included.
    pub attempts: Option<u32>,
    /// Retries as a share of all calls.
    pub budget: Option<PerMille>,
}

/// When a target is rested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Breaker {
    /// Failures within `window` that open it.
    pub failures: Option<u32>,
    /// The window they are counted in.
    pub window: Option<Wait>,
    /// The first rest.
    pub rest: Option<Wait>,
    /// The longest rest.
    pub rest_max: Option<Wait>,
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
            },
            breaker: Breaker {
                failures: self.breaker.failures.or(outer.breaker.failures),
                window: self.breaker.window.or(outer.breaker.window),
                rest: self.breaker.rest.or(outer.breaker.rest),
                rest_max: self.breaker.rest_max.or(outer.breaker.rest_max),
            },
        }
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
            retries: Retries { attempts: Some(3), budget: Some(PerMille::new(200)) },
            breaker: Breaker {
                failures: Some(5),
                window: Some(Wait::from_secs(10)),
                rest: Some(Wait::from_secs(5)),
                rest_max: Some(Wait::from_secs(60)),
            },
        }
    }
}
