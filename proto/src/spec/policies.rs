use std::time::Duration;

use bincode::{Decode, Encode};

use crate::unit::Wait;

/// Rules of the cluster as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Policies {
    /// How long a node goes on admitting calls that has lost touch with the others.
    pub freshness: Freshness,
}

/// The oldest a node's knowledge may be, by the last time a quorum confirmed it, before it turns calls away (KEY-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Freshness {
    /// At most so old.
    Within(Wait),
    /// However old: calls go on, and so does a key that was revoked meanwhile.
    Never,
}

impl Default for Freshness {
    fn default() -> Self {
        Self::Within(Wait::from_secs(5 * 60))
    }
}

impl Freshness {
    /// The bound; `None` where there is none.
    pub const fn bound(self) -> Option<Duration> {
        match self {
            Self::Within(wait) => Some(wait.0),
            Self::Never => None,
        }
    }
}
