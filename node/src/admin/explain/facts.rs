use std::time::Duration;

use troupe_actors::{Belief, Why};
use troupe_proto::id::{KeyId, ModelId, TargetId};
use troupe_proto::unit::PerMille;

/// What an operator asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The model's name as a client would write it.
    pub model: String,
    /// The virtual key the call would come with; without one, a key that may do everything is assumed.
    pub key: Option<String>,
    /// What the call would say in `x-troupe-target`.
    pub target: Option<String>,
}

/// Everything the answer depends on, at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The virtual key that was asked about.
    pub key: Option<KeyFacts>,
    /// The model that serves the name, then its fallbacks in the order a call would try them.
    pub pools: Vec<PoolFacts>,
}

/// What a virtual key may.
#[derive(Clone, Debug)]
pub struct KeyFacts {
    /// Its name.
    pub id: KeyId,
    /// Whether it may choose its target.
    pub may_pin: bool,
    /// Whether its time has run out.
    pub is_expired: bool,
}

/// What is known of a model.
#[derive(Clone, Debug)]
pub struct PoolFacts {
    /// Its configured name.
    pub model: ModelId,
    /// The name it is asked for by.
    pub asked: String,
    /// Whether the virtual key may use it.
    pub is_allowed: bool,
    /// Whether so few members can serve that soft rests are ignored.
    pub is_panicking: bool,
    /// Retries that its budget still has.
    pub retries_left: Option<u64>,
    /// Its members, the best priority first.
    pub members: Vec<MemberFacts>,
}

/// What is known of a target in a pool.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// Which one.
    pub target: TargetId,
    /// Whether its provider's key is good for the model.
    pub takes: bool,
    /// Whether it is the one, or one of those, that the call chooses by header; `true` without such a header.
    pub is_pinned: bool,
    /// Lower goes first.
    pub priority: u32,
    /// As configured.
    pub weight: u64,
    /// As it counts now.
    pub weight_now: u64,
    /// Learned; `None` where nothing fresh is known.
    pub first_token: Option<Duration>,
    /// The share of its calls that fail.
    pub failing: PerMille,
    /// Calls in flight.
    pub in_flight: u32,
    /// Its limit, if it has one.
    pub in_flight_max: Option<u32>,
    /// Whether it can be called.
    pub standing: Standing,
    /// Failures in the breaker's window.
    pub failures: u32,
    /// Rests that followed each other closely.
    pub streak: u32,
    /// What is left of the provider's quota.
    pub quota_left: Option<PerMille>,
    /// Whether it rests because other nodes say so.
    pub is_told: bool,
    /// What other nodes believe of it.
    pub beliefs: Vec<NodeBelief>,
}

/// What another node believes of a target.
#[derive(Clone, Debug)]
pub struct NodeBelief {
    /// The node's name; its id where it is known by no name.
    pub node: String,
    /// What it believes.
    pub belief: Belief,
}

/// Whether a target can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Ready,
    /// Its rest is over; one call decides.
    Probation,
    /// That call is under way.
    Probed,
    /// Not yet.
    Resting {
        /// How much longer.
        ends_in: Duration,
        /// For what.
        why: Why,
    },
    /// Its provider is switched off.
    Off,
    /// It has as many calls as it may.
    Full {
        /// So many.
        limit: u32,
    },
}
