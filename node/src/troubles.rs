//! What keeps this node from doing all that it should, for as long as it does: what operators are shown, and what the
//! log says, once at first and then once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the log says the same.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What is wrong. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Consensus stopped in this process, and does not start again in it.
    Stopped,
    /// What was agreed cannot be served here.
    Unserved,
    /// This node reaches none of its providers, and another node does.
    CutOff,
    /// Other nodes and this one refuse each other.
    Refused,
    /// The files of its certificates cannot be taken up.
    Certificates,
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<Trouble, Told>>);

#[derive(Debug)]
struct Told {
    text: String,
    said: Instant,
}

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Trouble, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something is wrong, or with `None` that it is not, or not any more. May be said as often as one likes.
    /// Gives whether the log has a new line about it.
    pub fn set(&self, trouble: Trouble, text: Option<String>, now: Instant) -> bool {
        let mut troubles = self.lock();
        let Some(text) = text else {
            let is_over = troubles.remove(&trouble).is_some();
            if is_over {
                tracing::info!(?trouble, "it is well again");
            }
            return is_over;
        };
        let said = troubles.get(&trouble).map(|told| told.said);
        let is_due = said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY);
        if is_due {
            tracing::error!("{text}");
        }
        troubles.insert(trouble, Told { text, said: said.filter(|_| !is_due).unwrap_or(now) });
        is_due
    }

    /// What is wrong of this kind.
    pub fn get(&self, trouble: Trouble) -> Option<String> {
        self.lock().get(&trouble).map(|told| told.text.clone())
    }

    /// All that is wrong, in the words that the log has.
    pub fn all(&self) -> Vec<String> {
        self.lock().values().map(|told| told.text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_is_wrong_is_said_once_then_once_a_minute_and_shown_all_the_time() {
        let (troubles, began) = (Troubles::default(), clock::now());
        let at = |millis: u64| began + Duration::from_millis(millis);
        // Four times a second for two and a half minutes, as whoever publishes the agreed state says it.
        let said = (0..600).filter(|i| troubles.set(Trouble::Unserved, Some("why".to_owned()), at(i * 250))).count();
        assert_eq!(said, 3);
        assert_eq!(troubles.all(), ["why"]);

        assert!(troubles.set(Trouble::Unserved, None, at(150_000)));
        assert!(!troubles.set(Trouble::Unserved, None, at(150_001)));

        assert!(troubles.all().is_empty());
        assert!(troubles.set(Trouble::Unserved, Some("again".to_owned()), at(150_002)), "it is new again");
    }
}
