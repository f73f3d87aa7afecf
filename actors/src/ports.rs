//! What actors need from outside.

use std::future::Future;
use std::pin::Pin;

use troupe_proto::id::TargetId;

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
