//! What the node wants: pools, their members and the rules of each.

use std::fmt;
use std::time::Duration;

use troupe_proto::health::Print;
use troupe_proto::id::{ModelId, TargetId};
use troupe_proto::unit::PerMille;

/// A pool as the spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLayout {
    /// The model that clients ask for.
    pub id: ModelId,
    /// Its members; views name them by their place here.
    pub members: Vec<MemberLayout>,
    /// Whether calls that it cannot serve go on to other pools.
    pub has_fallbacks: bool,
    /// How much may be tried again.
    pub retries: RetryRules,
    /// How much may be hedged; `None`: nothing.
    pub hedge: Option<HedgeRules>,
}

/// One way to serve a pool's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLayout {
    /// Where its calls go; the model is `*` where the name that was asked for is passed on.
    pub id: TargetId,
    /// Whether the name that was asked for is passed on.
    pub is_open: bool,
    /// Its share among the members of the same priority.
    pub weight: u64,
    /// Lower goes first.
    pub priority: u32,
    /// When it rests and how it comes back.
    pub rules: TargetRules,
    /// What it is reached with. When this changes, it is another target by the same name, and nothing is known of it.
    pub fingerprint: Fingerprint,
}

/// Tells whether a target is still reached by the same address and with the same secret. Never shown: it is made of a
/// secret.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Takes the first half of a hash, from which nothing can be read back.
    pub fn of(hash: [u8; 32]) -> Self {
        let (half, _) = hash.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self(*half)
    }

    /// As it is told to other nodes.
    pub(crate) const fn print(self) -> Print {
        Print(self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// When a target rests and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// Failures within `window` that rest it.
    pub failures: u32,
    /// The window they are counted in.
    pub window: Duration,
    /// The least share of its calls that must have failed.
    pub share: PerMille,
    /// The first rest; each one in a row doubles it.
    pub rest: Duration,
    /// The longest rest for failures.
    pub rest_max: Duration,
    /// The rest after the provider refused the credential.
    pub credential_rest: Duration,
    /// How long its weight grows from a tenth to the whole after a rest.
    pub slow_start: Duration,
    /// Share of available members below which its pool ignores rests for failures; 0: never.
    pub panic: PerMille,
    /// Bounds of its adaptive limit of calls in flight; `None`: no limit.
    pub concurrency: Option<Concurrency>,
}

/// Bounds of an adaptive limit of calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// The limit never falls below.
    pub min: u32,
    /// The limit never grows beyond.
    pub max: u32,
}

/// How much of a pool's calls may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// Retries as a share of the calls of the last 10 s; a floor of 10 a second comes on top.
    pub budget: PerMille,
}

/// How much of a pool's calls may be hedged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeRules {
    /// Hedges as a share of the calls of the last 10 s; a floor of 1 a second comes on top.
    pub budget: PerMille,
}
