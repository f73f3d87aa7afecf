//! Puts commands in one order for all nodes, and publishes what they come to. Knows no noun.

mod local;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use troupe_proto::wire::{Message, WireError};

pub use local::Local;

/// What commands are applied to: pure, deterministic, and never panicking.
///
/// A clone is taken for each command, and compared with what was before, so both must be cheap.
pub trait Machine: Clone + PartialEq + Send + Sync + 'static {
    /// One entry of the log.
    type Command: Message + Send;
    /// What applying it came to.
    type Reply: Message + Send;

    /// Applies a command. The same commands in the same order give the same machine on every node.
    fn apply(&mut self, command: &Self::Command) -> Self::Reply;
}

/// A proposal on its way.
pub type Proposal<'a, R> = Pin<Box<dyn Future<Output = Result<R, ProposeError>> + Send + 'a>>;

/// One order of commands for all nodes.
pub trait Consensus<M: Machine>: Send + Sync {
    /// Has a command applied on every node, and gives this node's reply once it was.
    ///
    /// # Errors
    /// [`ProposeError`]; each variant says whether the command may still take effect.
    fn propose(&self, command: M::Command) -> Proposal<'_, M::Reply>;

    /// The state after the last command applied here.
    fn state(&self) -> Arc<M>;

    /// The states to come. A slow reader sees the newest, not each one.
    fn watch(&self) -> watch::Receiver<Arc<M>>;
}

/// Why a command was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It cannot travel, mostly because it is larger than a command may be. It took no effect.
    #[error("the command cannot be encoded")]
    Unencodable(#[source] WireError),
    /// What it was encoded to cannot be read back. It took no effect.
    #[error("the command cannot be read back")]
    Unreadable(#[source] WireError),
}
