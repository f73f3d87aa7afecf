//! Faults that are switched on and off while the mock runs.
//!
//! A strike lays knobs over the ones of the model name, for the calls it matches. Where several match, the first one
//! given strikes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::script::{KnobError, Knobs};

/// A fault for the calls that it matches, until it is healed or used up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// Knobs as in a model name, without a base: `status=503+retry-after=2`.
    pub knobs: String,
    /// Only models whose name begins so; empty: every call, and lists of models too, which is how gateways probe.
    #[serde(default)]
    pub model: String,
    /// Only calls (and lists) that show this credential.
    #[serde(default)]
    pub credential: Option<String>,
    /// Only the first so many calls it matches; lists are struck as long as it lasts and use nothing up.
    #[serde(default)]
    pub first: Option<u64>,
    /// Only so many of a thousand calls, spread by a fixed draw; lists are always struck.
    #[serde(default)]
    pub share: Option<u64>,
}

impl Strike {
    /// A strike at everything.
    pub fn new(knobs: &str) -> Self {
        Self { knobs: knobs.to_owned(), model: String::new(), credential: None, first: None, share: None }
    }

    /// The same for models whose name begins so.
    #[must_use]
    pub fn model(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.model);
        self
    }

    /// The same for one credential.
    #[must_use]
    pub fn credential(mut self, secret: &str) -> Self {
        self.credential = Some(secret.to_owned());
        self
    }

    /// The same for the first so many calls.
    #[must_use]
    pub fn first(mut self, calls: u64) -> Self {
        self.first = Some(calls);
        self
    }

    /// The same for so many of a thousand calls.
    #[must_use]
    pub fn share(mut self, of_thousand: u64) -> Self {
        self.share = Some(of_thousand);
        self
    }
}

/// Most strikes at once; a test that gives more has lost count.
const STRIKES_MAX: usize = 256;

/// Why a strike was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrikeError {
    /// Its knobs cannot be obeyed.
    #[error(transparent)]
    Knobs(#[from] KnobError),
    /// 256 strikes are in force.
    #[error("too many strikes")]
    Full,
}

/// The strikes in force.
#[derive(Debug, Default)]
pub(super) struct Switch {
    strikes: Mutex<Vec<Held>>,
    /// Spares calls the lock while nothing strikes.
    is_armed: AtomicBool,
}

#[derive(Debug)]
struct Held {
    strike: Strike,
    matched: u64,
}

impl Switch {
    pub(super) fn add(&self, strike: Strike) -> Result<(), StrikeError> {
        Knobs::default().lay(&strike.knobs)?;
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        if strikes.len() == STRIKES_MAX {
            return Err(StrikeError::Full);
        }
        strikes.push(Held { strike, matched: 0 });
        self.is_armed.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn heal(&self) {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.clear();
        self.is_armed.store(false, Ordering::Release);
    }

    /// Lays what strikes this call over its knobs; `model` is `None` for a list of models.
    pub(super) fn strike(&self, model: Option<&str>, credential: &str, knobs: &mut Knobs) -> Result<(), KnobError> {
        if !self.is_armed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        match strikes.iter_mut().find_map(|held| held.strikes(model, credential)) {
            Some(text) => knobs.lay(text),
            None => Ok(()),
        }
    }
}

impl Held {
    fn strikes(&mut self, model: Option<&str>, credential: &str) -> Option<&str> {
        let strike = &self.strike;
        let matches = match model {
            Some(model) => model.starts_with(&strike.model),
            None => strike.model.is_empty(),
        };
        let is_left = strike.first.is_none_or(|first| self.matched < first);
        if !matches || !is_left || strike.credential.as_ref().is_some_and(|only| only != credential) {
            return None;
        }
        if model.is_some() {
            self.matched += 1;
            if strike.share.is_some_and(|share| draw(self.matched) % 1000 >= share) {
                return None;
            }
        }
        Some(&strike.knobs)
    }
}

/// A number that looks drawn and is the same in every run (`splitmix64`).
pub(super) fn draw(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::script::Fault;
    use super::*;

    fn is_struck(switch: &Switch, model: Option<&str>, credential: &str) -> bool {
        let mut knobs = Knobs::default();
        switch.strike(model, credential, &mut knobs).unwrap();
        knobs.fault != Fault::None
    }

    fn switch(strike: Strike) -> Switch {
        let switch = Switch::default();
        switch.add(strike).unwrap();
        switch
    }

    #[test]
    fn a_strike_at_everything_strikes_lists_too_and_ends_when_healed() {
        let switch = switch(Strike::new("status=503"));

        assert!(is_struck(&switch, Some("gpt"), "a") && is_struck(&switch, None, "a"));
        switch.heal();
        assert!(!is_struck(&switch, Some("gpt"), "a") && !is_struck(&switch, None, "a"));
    }

    #[test]
    fn a_strike_at_a_model_leaves_lists_and_other_models_alone() {
        let switch = switch(Strike::new("hang").model("gpt-"));

        assert!(is_struck(&switch, Some("gpt-4o"), "a"));
        assert!(!is_struck(&switch, Some("claude"), "a") && !is_struck(&switch, None, "a"));
    }

    #[test]
    fn a_bad_credential_is_bad_in_calls_and_lists() {
        let switch = switch(Strike::new("status=401").credential("bad"));

        assert!(is_struck(&switch, Some("gpt"), "bad") && is_struck(&switch, None, "bad"));
        assert!(!is_struck(&switch, Some("gpt"), "good") && !is_struck(&switch, None, "good"));
    }

    #[test]
    fn the_first_so_many_calls_are_struck_and_lists_use_nothing_up() {
        let switch = switch(Strike::new("reset").first(2));

        assert!(is_struck(&switch, None, "a"));
        let struck: Vec<bool> = (0..4).map(|_| is_struck(&switch, Some("gpt"), "a")).collect();

        assert_eq!(struck, [true, true, false, false]);
        assert!(!is_struck(&switch, None, "a"), "used up for lists as well");
    }

    #[test]
    fn a_share_of_the_calls_is_struck() {
        let switch = switch(Strike::new("status=500").share(300));

        let struck = (0..1000).filter(|_| is_struck(&switch, Some("gpt"), "a")).count();

        assert!((250..350).contains(&struck), "{struck}");
    }

    #[test]
    fn knobs_that_cannot_be_obeyed_are_refused() {
        assert_eq!(
            Switch::default().add(Strike::new("statsu=503")),
            Err(StrikeError::Knobs(KnobError::Unknown("statsu".to_owned())))
        );
    }
}
