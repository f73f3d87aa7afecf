//! What operators see of targets wherever they stand in pools, and what they may do to them.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use troupe_proto::health::Scope;
use troupe_proto::id::{ProviderId, TargetId};

use super::explain::NodeReport;

/// The targets of this node.
pub trait Targets: Send + Sync {
    /// The breaker of each target, in order.
    fn breakers(&self) -> Vec<BreakerReport>;

    /// Has every live node forget why targets rest; how many are meant on this one.
    fn reset(&self, scope: &Scope) -> usize;

    /// Asks a provider with each of its keys, from this node, now, also where it is switched off. `None`: no model uses such a
    /// provider.
    fn test(&self, provider: &ProviderId) -> BoxFuture<'static, Option<Vec<TestReport>>>;
}

/// One breaker. Its JSON is a contract of the admin API: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerReport {
    /// `provider/key/model`.
    pub target: String,
    /// `closed`: it takes calls; `rests`; `probation`: its rest is over and one call decides; `disabled`: its provider is
    /// switched off.
    pub state: String,
    /// Why it rests, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_for: Option<String>,
    /// How long it still rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_ends_in_ms: Option<u64>,
    /// Whether it rests because other nodes say so.
    pub is_told: bool,
    /// Failures in the breaker's window.
    pub failures: u32,
    /// Rests that followed each other closely.
    pub streak: u32,
    /// What other nodes believe of it; absent while they have nothing to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeReport>,
}

impl BreakerReport {
    /// A target that nothing is held against.
    pub(crate) fn closed(target: &TargetId) -> Self {
        Self {
            target: target.to_string(),
            state: "closed".to_owned(),
            rests_for: None,
            rest_ends_in_ms: None,
            is_told: false,
            failures: 0,
            streak: 0,
            nodes: Vec::new(),
        }
    }
}

/// What one key of a provider came to when it was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// The key's name; absent where the provider takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `alive`, `answers` (but says nothing of the key), `dead`, `credential_refused` or `unknown`.
    pub finding: String,
    /// The status it answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What was asked.
    pub url: String,
    /// How long that took.
    pub took_ms: u64,
}

/// Whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
