use serde::{Deserialize, Serialize};

/// The answer. Its JSON is a contract of the admin API: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model's name as a client would write it.
    pub asked: String,
    /// The virtual key that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The target that the call would choose by header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Where the next call goes, or most likely goes; absent when it would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<String>,
    /// The error code a client would get; absent when the call would be served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All of it in a sentence.
    pub verdict: String,
    /// The model that serves the name, then its fallbacks in order.
    pub pools: Vec<PoolReport>,
}

/// One model and its targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its configured name, perhaps with `*` at its end.
    pub model: String,
    /// Why it is in the list.
    pub place: Place,
    /// Whether so few of its targets can serve that rests for failures are ignored.
    pub is_panicking: bool,
    /// Retries that its budget still has; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries_left: Option<u64>,
    /// Its targets, the best priority first.
    pub targets: Vec<TargetReport>,
}

/// Why a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// It serves the name that was asked for.
    Asked,
    /// It is tried when the one before it cannot serve.
    Fallback,
}

/// What a target does for the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may be chosen.
    Serves,
    /// It could serve, and others come before it.
    StandsBy,
    /// It rests.
    Rests,
    /// Its rest is over, and the call that decides is under way.
    Probed,
    /// It has as many calls in flight as its limit allows.
    Full,
    /// Its provider is switched off.
    Off,
    /// Its provider's key is not good for the model.
    Unfit,
    /// The call chooses another by header.
    NotPinned,
    /// The call would be refused before any target is asked.
    Refused,
}

impl State {
    /// The word for it in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::StandsBy => "stands by",
            Self::Rests => "rests",
            Self::Probed => "probed",
            Self::Full => "full",
            Self::Off => "off",
            Self::Unfit => "unfit",
            Self::NotPinned => "not pinned",
            Self::Refused => "refused",
        }
    }
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// `provider/key/model`.
    pub target: String,
    /// What it does for the next call.
    pub state: State,
    /// Why, in a sentence.
    pub why: String,
    /// Its share of the next calls, for those that may be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<f64>,
    /// Lower goes first.
    pub priority: u32,
    /// Its configured share within its priority.
    pub weight_percent: f64,
    /// The part of its weight that counts now: less while it starts slowly, or while its quota is paced.
    pub weight_now_percent: f64,
    /// What is learned of its time to first token, failures added as a penalty; absent where nothing fresh is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// The share of its recent calls that failed.
    pub failing_percent: f64,
    /// Calls in flight.
    pub in_flight: u32,
    /// The most it may have in flight; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// Failures in the breaker's window.
    pub failures: u32,
    /// Rests that followed each other closely.
    pub streak: u32,
    /// Why it rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_for: Option<String>,
    /// How long it still rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_ends_in_ms: Option<u64>,
    /// What is left of the provider's quota, by its own headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_left_percent: Option<f64>,
    /// Whether it rests because other nodes say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_told: bool,
    /// What other nodes believe of it; absent while they have nothing to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeReport>,
}

/// What another node believes of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// What it believes, in a sentence.
    pub says: String,
    /// Whether that counts here: it is alive, said so not long ago, and reaches the target with the same key.
    pub counts: bool,
    /// Why the target rests there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_for: Option<String>,
    /// How long it still rests there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_ends_in_ms: Option<u64>,
}
