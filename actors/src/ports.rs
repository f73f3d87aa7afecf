//! What actors need from outside.

use std::future::Future;
use std::pin::Pin;

use troupe_proto::health::Opinions;
use troupe_proto::id::{NodeId, TargetId};

pub use crate::hearsay::Urgency;

/// Carries what this node knows of targets to other nodes. What they say comes in by
/// [`Actors::hear`](crate::Actors::hear) and [`Actors::living`](crate::Actors::living).
pub trait HealthBoard: Send + Sync + 'static {
    /// This node, and which start of its process it is.
    fn me(&self) -> (NodeId, u64);

    /// Puts what this node has to say of a provider in the place of what it said before; without accounts, that is
    /// nothing. Returns at once, and may lose it: what matters is said again.
    fn tell(&self, opinions: Opinions, urgency: Urgency);
}

/// Asks a target that rests whether it is back, without spending tokens.
pub trait Prober: Send + Sync + 'static {
    /// Tries `target` once. It is given up after 2 s at most, by dropping the future.
    fn probe(&self, target: &TargetId) -> Pin<Box<dyn Future<Output = Probed> + Send>>;
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It answers; a live call may try it.
    Alive,
    /// It answers, but says nothing of our credential.
    Answers,
    /// It cannot be reached, or does not answer.
    Dead,
    /// It answers, and refuses our credential.
    CredentialRefused,
    /// Nothing was learned.
    Unknown,
}

impl Probed {
    /// Everything a probe can find.
    pub const ALL: [Self; 5] = [Self::Alive, Self::Answers, Self::Dead, Self::CredentialRefused, Self::Unknown];

    /// The word used for it in metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Answers => "answers",
            Self::Dead => "dead",
            Self::CredentialRefused => "credential_refused",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Alive => 0,
            Self::Answers => 1,
            Self::Dead => 2,
            Self::CredentialRefused => 3,
            Self::Unknown => 4,
        }
    }
}
