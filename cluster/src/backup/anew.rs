//! A cluster made anew in a data directory that no process uses: from a saved state, or from what a survivor has.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use troupe_proto::command::Note;
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::wire::{self, WireError};

use super::Backup;
use crate::raft::plain::{LogId, Meta};
use crate::raft::salvage;
use crate::state::State;
use crate::storage::{DataDir, DirError, DiskLog, DiskSnapshots, Snapshot, SnapshotStore};

/// Where a directory is made ready before it takes its place.
const BESIDE: &str = "anew";

/// The cluster that is made, and its only node. Ids are drawn at random by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its only node.
    pub node: NodeId,
    /// What its audit says of this.
    pub note: Note,
}

/// Why no cluster was made.
#[derive(Debug, thiserror::Error)]
pub enum AnewError {
    /// There is something where the new directory should be.
    #[error("{} is not empty: name a directory that is, or that does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// It is no node's, or that of one that never belonged to a cluster.
    #[error("{} holds nothing of a cluster", .0.display())]
    NoCluster(PathBuf),
    /// What the node holds cannot be read whole.
    #[error("what the node holds cannot be read")]
    Unreadable(#[source] io::Error),
    /// The state cannot be read or written.
    #[error("the state cannot be read or written")]
    State(#[from] WireError),
    /// The file system said no.
    #[error("{}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AnewError {
    let path = path.to_owned();
    move |source| AnewError::Io { path, source }
}

/// Makes the data directory of a new cluster's only node, which holds what `backup` holds.
///
/// # Errors
/// [`AnewError`]; there is no directory then, or the empty one that was there.
pub fn restore(path: &Path, backup: Backup, new: &New) -> Result<(), AnewError> {
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(AnewError::NotEmpty(path.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(path)(error)),
    }
    let beside = path.with_extension(BESIDE);
    clear(&beside)?;
    // An entry of a term before any that will be.
    let last = LogId { term: 0, index: last_index(&backup.state).max(backup.head.index) };
    let meta = Meta { last: Some(last), ..Meta::default() };
    begin(&beside, backup.state, meta, String::new(), new)?;
    fs::rename(&beside, path).map_err(at(path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(parent)
}

/// Makes of a data directory, whose node does not run, that of a new cluster's only node, which holds all that the old
/// one held. What was there is kept in a directory within, whose path is given.
///
/// # Errors
/// [`AnewError`]; the directory is as it was, unless the file system failed half-way: what was moved by then is in the
/// directory within.
pub async fn recover(path: &Path, new: &New) -> Result<PathBuf, AnewError> {
    if !path.join("identity").exists() {
        return Err(AnewError::NoCluster(path.to_owned()));
    }
    let dir = DataDir::open(path, new.node)?;
    let Some(old) = dir.cluster() else { return Err(AnewError::NoCluster(path.to_owned())) };
    let snapshots = DiskSnapshots::open(&dir.snapshots()).map_err(at(&dir.snapshots()))?;
    let log = DiskLog::open(&dir.log()).map_err(at(&dir.log()))?;
    let Snapshot { meta, state } = salvage(log, &snapshots, State::default()).await.map_err(AnewError::Unreadable)?;
    let state: State = wire::decode(&state)?;
    let peer = state.members().get(&dir.node()).map(|member| member.peer.clone()).unwrap_or_default();
    let beside = path.join(BESIDE);
    clear(&beside)?;
    begin(&beside, state, meta, peer, new)?;
    let before = path.join(format!("before-{old}"));
    fs::create_dir_all(&before).map_err(at(&before))?;
    // The identity goes first and comes last: a directory without one is never taken for a node's.
    for name in ["identity", "begun", "raft", "snapshots"] {
        let from = path.join(name);
        if from.exists() {
            fs::rename(&from, before.join(name)).map_err(at(&from))?;
        }
        sync(path)?;
    }
    for name in ["snapshots", "identity"] {
        let from = beside.join(name);
        fs::rename(&from, path.join(name)).map_err(at(&from))?;
        sync(path)?;
    }
    clear(&beside)?;
    Ok(before)
}

/// A data directory from which the new node starts.
fn begin(path: &Path, state: State, meta: Meta, peer: String, new: &New) -> Result<(), AnewError> {
    let mut meta = meta;
    // The audit tells of it, behind everything else.
    let last = meta.last.unwrap_or(LogId { term: 0, index: 0 });
    let last = LogId { term: last.term, index: last.index.saturating_add(1) };
    meta.last = Some(last);
    let state = wire::encode(&state.reborn(last.index, new.cluster, &new.note))?;
    let snapshot = Snapshot { meta, state: state.into() }.for_new_cluster(new.node, peer);
    let mut dir = DataDir::open(path, new.node)?;
    dir.bind(new.cluster)?;
    let snapshots = DiskSnapshots::open(&dir.snapshots()).map_err(at(&dir.snapshots()))?;
    snapshots.save(&snapshot).map_err(at(&dir.snapshots()))
}

fn last_index(state: &State) -> u64 {
    state.audit().lines().next_back().map_or(0, |line| line.index)
}

fn clear(path: &Path) -> Result<(), AnewError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), AnewError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode};
    use super::*;

    fn new() -> New {
        New { cluster: ClusterId(9), node: NodeId(4), note: Note::default() }
    }

    #[test]
    fn a_restored_directory_is_that_of_a_new_node_in_a_new_cluster() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let backup = || decode(&encode(&State::default(), 70, 0).unwrap()).unwrap();

        restore(&path, backup(), &new()).unwrap();

        let dir = DataDir::open(&path, NodeId(99)).unwrap();
        assert_eq!((dir.node(), dir.cluster()), (NodeId(4), Some(ClusterId(9))));
        let snapshot = DiskSnapshots::open(&dir.snapshots()).unwrap().load().unwrap().unwrap();
        let state: State = wire::decode(&snapshot.state).unwrap();
        assert_eq!((snapshot.meta.last.unwrap().index, state.cluster()), (71, Some(ClusterId(9))));
        assert!(matches!(restore(&path, backup(), &new()), Err(AnewError::NotEmpty(_))));
    }

    #[tokio::test]
    async fn what_belongs_to_no_cluster_is_not_recovered() {
        let temp = tempfile::tempdir().unwrap();
        assert!(matches!(recover(temp.path(), &new()).await, Err(AnewError::NoCluster(_))));
        assert!(!temp.path().join("identity").exists());

        drop(DataDir::open(temp.path(), NodeId(7)).unwrap());

        assert!(matches!(recover(temp.path(), &new()).await, Err(AnewError::NoCluster(_))));
    }
}
