//! Consensus between nodes, by Raft. Knows no noun.
//!
//! ```text
//! propose ─▶ leader's log ─▶ fsync on a quorum ─▶ applied (machine) ─▶ published ─▶ answered
//!    └─ at another node: Class::Forward to the leader, whose answer waits for the entry here
//! ```
//! Everything between nodes is a message of our own (`message`, `plain`); openraft is behind [`Raft`]. Its settings and
//! pitfalls are those of the reference: pre-vote, no restored leaders, sequential appends, heartbeats on their own
//! connection, retries where a new leader names none yet.

mod machine;
mod message;
mod network;
pub mod plain;
mod propose;
mod read;
mod rebuild;
mod reshape;
mod runtime;
mod serve;
mod settings;
mod start;
mod tend;
pub mod types;
mod vitals;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod counter;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use troupe_proto::id::NodeId;

pub use machine::Work;
pub use message::{Answer, Ask, Candidacy, Forward, Forwarded, Piece, PieceAnswer};
pub use rebuild::salvage;
pub use settings::Settings;
pub use start::{Parts, StartError, Wall, is_blank, start};

use crate::consensus::{Consensus, Machine, Proposal, Read, Reshape, Reshaping, Vitals};
use crate::membership;
use crate::storage::{LogStats, SnapshotStore};
use crate::transport::Links;
use machine::{Applier, Published};
use types::{Node, Types};

/// This node's part in consensus. Clones are the same part.
pub struct Raft<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Raft<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<M: Machine> {
    me: NodeId,
    raft: openraft::Raft<Types, Applier<M>>,
    links: Arc<dyn Links>,
    settings: Arc<Settings>,
    published: Published<M>,
    snapshots: Arc<dyn SnapshotStore>,
    log_stats: Box<dyn Fn() -> LogStats + Send + Sync>,
    work: Work,
    wall: Wall,
    slots: Semaphore,
    pending: AtomicU64,
    failed: AtomicU64,
    leader_changes: Arc<AtomicU64>,
    /// When the last read index that was confirmed began.
    confirmed: Mutex<Option<Instant>>,
    incoming: Mutex<Option<serve::Incoming>>,
    stopped: watch::Receiver<Option<Stopped>>,
    is_asked: Arc<AtomicBool>,
}

/// Why consensus stopped at this node. It does not start again in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// What must not fail failed: the disk, or an entry that cannot be read. Going on would break promises made.
    Failed(String),
}

/// Why a cluster was not formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// This node has a log already: it is part of a cluster.
    #[error("the node is part of a cluster already")]
    Formed,
    /// This node is not among the members, or there may not be so many.
    #[error("{0}")]
    Members(String),
    /// Consensus stopped here.
    #[error("consensus stopped at this node")]
    Stopped,
}

impl<M: Machine> Raft<M> {
    /// Forms a cluster of these voters, each with the address where others reach it. Each of them may do so at the same
    /// time if all name the same voters.
    ///
    /// # Errors
    /// [`FormError`]; nothing changed.
    pub async fn form(&self, voters: BTreeMap<NodeId, String>) -> Result<(), FormError> {
        membership::check_size(voters.len()).map_err(FormError::Members)?;
        let voters: BTreeMap<_, _> = voters.into_iter().map(|(id, addr)| (id, Node { addr })).collect();
        match self.inner.raft.initialize(voters).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(FormError::Formed),
            Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                Err(FormError::Members(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(FormError::Stopped),
        }
    }

    /// Whether this node is part of a cluster: it has a log or a vote.
    pub async fn is_formed(&self) -> bool {
        self.inner.raft.is_initialized().await.unwrap_or(false)
    }

    /// Waits until everything that this node had applied before it was restarted is applied again. False when it takes
    /// longer, which it does without a leader.
    pub async fn recovered(&self, within: Duration) -> bool {
        self.inner.raft.wait_for_recovery(Some(within)).await.is_ok()
    }

    /// Has a snapshot written soon, whatever the size of the log.
    pub async fn snapshot(&self) -> bool {
        self.inner.raft.trigger().snapshot().await.is_ok()
    }

    /// Becomes `Some` when consensus stops at this node. A process must end then: what it holds in memory may be more
    /// than what is on disk.
    pub fn stopped(&self) -> watch::Receiver<Option<Stopped>> {
        self.inner.stopped.clone()
    }

    /// Stops taking part, and returns once nothing is written any more.
    pub async fn shutdown(&self) {
        self.inner.is_asked.store(true, Ordering::Release);
        if self.inner.raft.shutdown().await.is_err() {
            tracing::warn!("consensus had failed before it was stopped");
        }
    }

    /// The index of the last entry applied here, as it changes.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.published.applied.subscribe()
    }
}

impl<M: Machine> Consensus<M> for Raft<M> {
    fn propose(&self, command: M::Command) -> Proposal<'_, M::Reply> {
        Box::pin(async move {
            let inner = &self.inner;
            let _pending = Pending::begin(&inner.pending);
            let result = inner.propose(&command).await;
            if result.is_err() {
                inner.failed.fetch_add(1, Ordering::Relaxed);
            }
            result
        })
    }

    fn state(&self) -> Arc<M> {
        Arc::clone(&self.inner.published.machine.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<M>> {
        self.inner.published.machine.subscribe()
    }

    fn read_index(&self) -> Read<'_> {
        Box::pin(self.inner.read_index())
    }

    fn vitals(&self) -> Vitals {
        self.inner.vitals()
    }

    fn reshape(&self, change: Reshape) -> Reshaping<'_> {
        Box::pin(async move { self.inner.reshape(&change).await })
    }
}

/// Counts a proposal for as long as somebody waits for it.
struct Pending<'a>(&'a AtomicU64);

impl<'a> Pending<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
