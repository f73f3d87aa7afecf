//! A cluster made anew from what one node has: after a majority was lost for good, or from a saved snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::EntryPayload;
use openraft::storage::RaftLogReader;
use troupe_proto::id::NodeId;
use troupe_proto::wire;

use super::plain::{LogId, Members};
use super::types::Bytes;
use crate::consensus::Machine;
use crate::storage::{LogStore, Snapshot, SnapshotStore};

/// Everything that a node which does not run holds, entries included of which nobody knows whether they were agreed:
/// what was acknowledged to anybody is among them if this node had it.
///
/// # Errors
/// When it cannot be read whole.
pub async fn salvage<M: Machine, L: LogStore>(
    mut logs: L,
    snapshots: &dyn SnapshotStore,
    machine: M,
) -> io::Result<Snapshot> {
    let (mut machine, mut meta) = match snapshots.load()? {
        Some(found) => (M::load(&found.state).map_err(io::Error::other)?, found.meta),
        None => (machine, crate::raft::plain::Meta::default()),
    };
    let state = logs.get_log_state().await?;
    let purged = state.last_purged_log_id.map(LogId::from);
    if purged > meta.last {
        return Err(io::Error::other("the newest readable snapshot ends before the log begins"));
    }
    let first = meta.last.map_or(0, |last| last.index + 1);
    for entry in logs.get_log_reader().await.try_get_log_entries(first..).await? {
        meta.last = Some(entry.log_id.into());
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(Bytes(command)) => {
                let command: M::Command = wire::decode(&command).map_err(io::Error::other)?;
                // What it came to is for nobody any more.
                let _reply = machine.apply(entry.log_id.index, &command);
            }
            EntryPayload::Membership(membership) => {
                (meta.since, meta.members) = (meta.last, (&membership).into());
            }
        }
    }
    let state = machine.save().map_err(io::Error::other)?.into();
    Ok(Snapshot { meta, state })
}

impl Snapshot {
    /// The same machine in a cluster whose only voter is `node`, reached at `peer`. Kept in a data directory without a
    /// log, it is where that node begins.
    #[must_use]
    pub fn for_new_cluster(mut self, node: NodeId, peer: String) -> Self {
        let nodes = BTreeMap::from([(node, peer)]);
        // A node that begins with a snapshot needs a place in the log for it to stand at. The new cluster's terms begin
        // anew: one that its node never voted in would stand above its first leader's.
        let last = LogId { term: 0, index: self.meta.last.map_or(0, |last| last.index) };
        self.meta.last = Some(last);
        self.meta.since = Some(last);
        self.meta.members = Members { voters: vec![BTreeSet::from([node])], nodes };
        self
    }
}
