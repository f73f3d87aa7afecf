//! What nodes agree on.
//!
//! ```text
//! Handle ── propose ──▶ Consensus (orders commands) ──▶ State::apply (pure) ──▶ published snapshot
//! ```
//! `state` knows nothing of how commands are ordered, `consensus` knows no noun; [`Handle`] joins them.
#![deny(clippy::iter_over_hash_type)]

pub mod audit;
pub mod backup;
pub mod clock;
pub mod consensus;
pub mod forming;
pub mod gossip;
pub mod membership;
pub mod raft;
pub mod seal;
pub mod state;
pub mod storage;
pub mod transport;

mod desk;
mod handle;

pub use consensus::ProposeError;
pub use handle::{Cluster, Handle, Process, ResealError};
pub use seal::{Keyring, SealError};
pub use state::State;
