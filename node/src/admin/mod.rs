//! The operators' listener: probes, metrics, and the API by which everything is seen and changed.
//!
//! It runs on the control runtime, so a slow scrape delays no request. Probes need no token; everything else needs the
//! admin token as a Bearer. Errors are problem details (RFC 9457).

mod apply;
mod asker;
mod call;
mod condition;
mod delta;
pub mod explain;
mod failure;
mod health;
mod nouns;
mod openapi;
mod query;
mod reply;
mod rollback;
mod routes;
mod server;
mod table;
mod targets;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use troupe_cluster::Handle;
use troupe_cluster::gossip::Stats;
use troupe_proto::failure::ErrorCode;
use troupe_proto::secret::KeyHash;

use crate::rotation::Rotation;
use crate::telemetry::metrics::{Learned, Metrics};
pub use apply::{Applied, Made};
pub(crate) use call::{IDEMPOTENCY_KEY, REASON};
pub use delta::{Delta, FieldDelta, Op};
pub use failure::{Code, Failure};
pub use health::{Health, Phase};
pub(crate) use nouns::hex;
pub use openapi::{document as openapi, page as reference};
pub use rollback::{Compared, Was};
pub use server::{CONNECTIONS_MAX, serve};
pub(crate) use targets::millis;
pub use targets::{BreakerReport, Targets, TestReport};

/// What the admin listener answers from.
pub struct AdminState {
    /// Whose turn it is to change the spec.
    pub turn: tokio::sync::Mutex<()>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Tells what is learned of providers, and how the actors do.
    pub learned: Box<dyn Fn() -> Learned + Send + Sync>,
    /// The process's health, shared with the data listener.
    pub health: Arc<Health>,
    /// The hash of a token that is good at this node alone, if it has one.
    pub token: Option<KeyHash>,
    /// The node's name.
    pub node: String,
    /// Says where a call of a model would go.
    pub explain: Box<Explain>,
    /// Its targets, and what may be done to them.
    pub targets: Box<dyn Targets>,
    /// What the nodes agree on.
    pub cluster: Handle,
    /// The spec file this node follows, if it does: nothing can be changed through it then.
    pub follows: Option<PathBuf>,
    /// The SHA-256 of the certificate of the authority that nodes trust; `None` where they speak without TLS.
    pub authority: Option<[u8; 32]>,
    /// What gossip knows of the other nodes; `None` where there is none.
    pub heard: Box<dyn Fn() -> Option<Stats> + Send + Sync>,
    /// Hands leadership to another voter, if this node leads and there is one.
    pub hand_over: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// For HTTPS; `None` serves plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Told once this node was taken out of its cluster by its own operator: it stops then.
    pub leave: Arc<tokio::sync::Notify>,
    /// Whether balancers send clients here.
    pub rotation: Arc<Rotation>,
}

/// Answers what an operator asks about a route.
///
/// # Errors
/// The code and the sentence of an error: what was asked about does not exist.
pub type Explain = dyn Fn(&explain::Question) -> Result<explain::Report, (ErrorCode, String)> + Send + Sync;

#[cfg(test)]
mod tests;
