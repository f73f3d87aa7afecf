use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::Pattern;
use crate::secret::KeyHash;

/// A virtual key: what a client shows to enter.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Key {
    /// The hash its secret is known by.
    pub hash: KeyHash,
    /// The models it may use; `None` for all.
    pub models: Option<Vec<Pattern>>,
    /// When it stops working, in seconds since 1970 (UTC).
    pub expires: Option<i64>,
    /// Words of the operator's own.
    pub metadata: BTreeMap<String, String>,
    /// Whether it may choose the target of a call, by header.
    pub pin: bool,
}

impl Key {
    /// Whether its time has run out at `now` (seconds since 1970).
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether it may use the model a client asks for by this name.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(model)))
    }
}
