//! The operators' listener: probes, metrics and the node's status.
//!
//! It runs on the control runtime, so a slow scrape delays no request. Probes need no token; everything else needs the
//! admin token as a Bearer. Errors are problem details (RFC 9457).

pub mod explain;
mod health;
mod query;
mod reply;
mod routes;
mod server;

use std::sync::Arc;

use troupe_proto::failure::ErrorCode;
use troupe_proto::id::Revision;
use troupe_proto::secret::Secret;

use crate::telemetry::metrics::{Learned, Metrics};
pub use health::{Health, Phase};
pub use server::{CONNECTIONS_MAX, serve};

/// The spec as `status` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecCounts {
    /// The revision in force.
    pub revision: Revision,
    /// Models clients can ask for.
    pub models: usize,
    /// Providers that can be called.
    pub providers: usize,
    /// Virtual keys.
    pub keys: usize,
}

/// What the admin listener answers from.
pub struct AdminState {
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// Tells what is learned of providers, and how the actors do.
    pub learned: Box<dyn Fn() -> Learned + Send + Sync>,
    /// The process's health, shared with the data listener.
    pub health: Arc<Health>,
    /// What an operator must send. Without one, nothing but the probes answers.
    pub token: Option<Secret<String>>,
    /// The node's name.
    pub node: String,
    /// Counts the spec in force.
    pub spec: Box<dyn Fn() -> SpecCounts + Send + Sync>,
    /// Says where a call of a model would go.
    pub explain: Box<Explain>,
    /// For HTTPS; `None` serves plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Answers what an operator asks about a route.
///
/// # Errors
/// The code and the sentence of an error: what was asked about does not exist.
pub type Explain = dyn Fn(&explain::Question) -> Result<explain::Report, (ErrorCode, String)> + Send + Sync;

#[cfg(test)]
mod tests;
