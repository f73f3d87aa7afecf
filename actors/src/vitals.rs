//! How the actors do, for metrics.

use std::time::Duration;

/// What an actor is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Supervises the branches.
    Root,
    /// Supervises the pools, and tells them when there is something to read.
    Pools,
    /// Learns how the members of one pool do.
    Pool,
    /// Supervises the breakers.
    Breakers,
    /// Decides which of one provider's targets rest.
    Breaker,
    /// Supervises the probers.
    Probers,
    /// Asks one provider's resting targets whether they are back.
    Prober,
    /// Tells other nodes what this one saw, and folds what they say.
    Hearsay,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Root,
        Self::Pools,
        Self::Pool,
        Self::Breakers,
        Self::Breaker,
        Self::Probers,
        Self::Prober,
        Self::Hearsay,
    ];

    /// The word used for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Pools => "pools",
            Self::Pool => "pool",
            Self::Breakers => "breakers",
            Self::Breaker => "breaker",
            Self::Probers => "probers",
            Self::Prober => "prober",
            Self::Hearsay => "hearsay",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Root => 0,
            Self::Pools => 1,
            Self::Pool => 2,
            Self::Breakers => 3,
            Self::Breaker => 4,
            Self::Probers => 5,
            Self::Prober => 6,
            Self::Hearsay => 7,
        }
    }
}

/// What a view is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViewKind {
    /// A pool's members.
    Pool,
}

impl ViewKind {
    /// The word used for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
        }
    }
}

/// How the actors of one role do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleVitals {
    /// The role.
    pub role: Role,
    /// Actors that are up.
    pub alive: u64,
    /// Restarts since the node started.
    pub restarts: u64,
    /// Facts that wait.
    pub inbox_depth: u64,
    /// Facts refused since the node started, because too many waited.
    pub dropped: u64,
}

/// How the actors do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// By role, in the order of [`Role::ALL`].
    pub roles: Vec<RoleVitals>,
    /// The age of the oldest view of each kind; a kind without views is left out.
    pub views: Vec<(ViewKind, Duration)>,
    /// Whether supervision gave up.
    pub has_failed: bool,
}
