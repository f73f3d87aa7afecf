//! What a node keeps on disk for consensus.
//!
//! ```text
//! data_dir/lock        held by the process that has the directory
//!          identity    node id, incarnation, cluster id
//!          raft/       the log
//!          snapshots/  the newest two snapshots
//! ```
//! The log and the snapshots are behind traits, so that a simulation can lose what was not synced.

mod dir;
mod log;
mod record;
mod snapshot;
mod times;

#[cfg(test)]
mod sweep;

use std::io;
use std::sync::Arc;

use openraft::storage::RaftLogStorage;

pub use dir::{DataDir, DirError, Owner};
pub use log::DiskLog;
pub use snapshot::{DiskSnapshots, SnapshotError, decode as decode_snapshot, encode as encode_snapshot};

use crate::consensus::Times;
use crate::raft::plain::Meta;
use crate::raft::types::Types;

/// A log that consensus can be run on.
pub trait LogStore: RaftLogStorage<Types> + Clone {
    /// How it is.
    fn stats(&self) -> LogStats;
}

/// How a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Its size on disk.
    pub bytes: u64,
    /// How long entries took from when they were handed over until they were on disk.
    pub writes: Times,
    /// How long the disk took each time that it was asked to make the log durable.
    pub fsyncs: Times,
}

/// Where snapshots are kept.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Keeps a snapshot. It is durable when this returns; older ones may be gone then.
    ///
    /// # Errors
    /// When it is not durable; the ones before are still there.
    fn save(&self, snapshot: &Snapshot) -> io::Result<()>;

    /// The newest snapshot that is whole, or `None` where there never was one.
    ///
    /// # Errors
    /// When there are snapshots and none is whole.
    fn load(&self) -> io::Result<Option<Snapshot>>;

    /// The size in bytes of the newest, and the index of the last entry in it; zeros where there is none.
    fn newest(&self) -> (u64, u64);
}

/// A machine at one entry of the log. A clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it stands.
    pub meta: Meta,
    /// The machine's own bytes.
    pub state: Arc<[u8]>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("meta", &self.meta).field("bytes", &self.state.len()).finish()
    }
}
