//! The names of all spans: one per request, one child per attempt.
//!
//! Spans are at `debug`, so at the default level a request pays one comparison for them.

use tracing::Span;
use troupe_proto::id::{RequestId, TargetId};

/// The span of one request, from its head to its record.
pub fn request(id: RequestId) -> Span {
    tracing::debug_span!("request", request_id = %id)
}

/// The span of one try at a target, a child of the request's. The target is asked for only where somebody listens.
pub fn attempt(parent: &Span, target: &dyn Fn() -> TargetId) -> Span {
    tracing::debug_span!(parent: parent, "attempt", target = %target())
}
