use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use rustix::fs::{FlockOperation, flock};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::wire::{self, Message, WireError};

use super::snapshot::write_durably;

/// A data directory that this process has for itself, and who it is there.
///
/// A directory is never copied, and a running machine with one never cloned: two processes with one id would both be
/// believed.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Whoever holds the lock has the directory; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// Who a process is. The file is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Identity {
    node: NodeId,
    incarnation: u64,
    cluster: Option<ClusterId>,
}

impl Message for Identity {
    const KIND: u16 = 34;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 128;
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process has it.
    #[error("another process uses {}", .0.display())]
    Taken(PathBuf),
    /// Its identity cannot be read. A new one would let the old one's votes be given twice, so there is none.
    #[error("{} is damaged; remove the data directory and let the node join again under a new id", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: WireError,
    },
    /// Its identity was written by a later version of this program, and so may be everything else in it.
    #[error("{} was written by a later version of troupe: start that one", .path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: WireError,
    },
    /// It holds a log or a snapshot, and nothing that says whose.
    #[error("{} holds a node's data without its identity", .0.display())]
    Orphan(PathBuf),
    /// It belongs to another cluster.
    #[error("the data directory belongs to cluster {found}, not to {wanted}")]
    Foreign {
        /// Whose it is.
        found: ClusterId,
        /// Whose it was taken for.
        wanted: ClusterId,
    },
    /// The file system said no.
    #[error("{}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Who a data directory belongs to, as its file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Its cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
}

impl DataDir {
    /// Whose a directory is, without taking it: it may be in use, and is left as it is. `None`: nobody's yet.
    ///
    /// # Errors
    /// [`DirError::Identity`], [`DirError::Later`] and [`DirError::Io`].
    pub fn owner(path: &Path) -> Result<Option<Owner>, DirError> {
        let file = path.join("identity");
        match fs::read(&file) {
            Ok(bytes) => {
                let Identity { node, cluster, .. } =
                    wire::decode(&bytes).map_err(|source| unreadable(&file, source))?;
                Ok(Some(Owner { node, cluster }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DirError::Io { path: file, source }),
        }
    }

    /// Takes the directory for this process and counts its start. It is made if it does not exist; then the node has
    /// the id `fresh`, which must have been drawn at random.
    ///
    /// # Errors
    /// [`DirError`]; the directory is as it was, and free.
    pub fn open(path: &Path, fresh: NodeId) -> Result<Self, DirError> {
        let at = |path: PathBuf| move |source| DirError::Io { path, source };
        fs::create_dir_all(path).map_err(at(path.to_owned()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at(path.to_owned()))?;
        let lock_path = path.join("lock");
        let lock =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(at(lock_path.clone()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Err(DirError::Taken(path.to_owned())),
            Err(error) => return Err(DirError::Io { path: lock_path, source: error.into() }),
        }
        let file = path.join("identity");
        let identity = match fs::read(&file) {
            Ok(bytes) => {
                let before: Identity = wire::decode(&bytes).map_err(|source| unreadable(&file, source))?;
                Identity { incarnation: before.incarnation + 1, ..before }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.join("raft").exists() || path.join("snapshots").exists() {
                    return Err(DirError::Orphan(path.to_owned()));
                }
                Identity { node: fresh, incarnation: 1, cluster: None }
            }
            Err(source) => return Err(DirError::Io { path: file, source }),
        };
        let mut dir = Self { path: path.to_owned(), identity, _lock: lock };
        dir.write(identity)?;
        Ok(dir)
    }

    /// Binds the directory to a cluster, for ever.
    ///
    /// # Errors
    /// [`DirError::Foreign`] when it is bound to another one.
    pub fn bind(&mut self, cluster: ClusterId) -> Result<(), DirError> {
        match self.identity.cluster {
            Some(found) if found != cluster => Err(DirError::Foreign { found, wanted: cluster }),
            Some(_) => Ok(()),
            None => self.write(Identity { cluster: Some(cluster), ..self.identity }),
        }
    }

    fn write(&mut self, identity: Identity) -> Result<(), DirError> {
        let path = self.path.join("identity");
        let bytes = wire::encode(&identity).map_err(|source| DirError::Identity { path: path.clone(), source })?;
        write_durably(&path, &bytes).map_err(|source| DirError::Io { path, source })?;
        self.identity = identity;
        Ok(())
    }

    /// The node's id, for as long as the directory exists.
    pub const fn node(&self) -> NodeId {
        self.identity.node
    }

    /// Which start of the node's process this is, from 1. A later one is greater.
    pub const fn incarnation(&self) -> u64 {
        self.identity.incarnation
    }

    /// The cluster the node belongs to, once it does.
    pub const fn cluster(&self) -> Option<ClusterId> {
        self.identity.cluster
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Where the snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whoever is told that it is damaged removes it; what another version wrote is well.
fn unreadable(path: &Path, source: WireError) -> DirError {
    let path = path.to_owned();
    match source {
        WireError::Schema { found, known } if found > known => DirError::Later { path, source },
        source => DirError::Identity { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_node_and_its_cluster_and_counts_its_starts() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");

        let mut first = DataDir::open(&path, NodeId(7)).unwrap();
        assert_eq!((first.node(), first.incarnation(), first.cluster()), (NodeId(7), 1, None));
        first.bind(ClusterId(3)).unwrap();
        drop(first);
        let mut second = DataDir::open(&path, NodeId(8)).unwrap();

        assert_eq!((second.node(), second.incarnation(), second.cluster()), (NodeId(7), 2, Some(ClusterId(3))));
        assert!(matches!(second.bind(ClusterId(4)), Err(DirError::Foreign { .. })));
    }

    #[test]
    fn whose_a_directory_is_can_be_seen_while_it_is_in_use_and_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(DataDir::owner(temp.path()).unwrap(), None);
        let mut held = DataDir::open(temp.path(), NodeId(7)).unwrap();
        held.bind(ClusterId(3)).unwrap();
        let before = fs::read(temp.path().join("identity")).unwrap();

        let owner = DataDir::owner(temp.path()).unwrap();

        assert_eq!(owner, Some(Owner { node: NodeId(7), cluster: Some(ClusterId(3)) }));
        assert_eq!(fs::read(temp.path().join("identity")).unwrap(), before);
        fs::write(temp.path().join("identity"), b"junk").unwrap();
        assert!(matches!(DataDir::owner(temp.path()), Err(DirError::Identity { .. })));
    }

    #[test]
    fn a_directory_has_one_process() {
        let temp = tempfile::tempdir().unwrap();

        let _first = DataDir::open(temp.path(), NodeId(7)).unwrap();

        assert!(matches!(DataDir::open(temp.path(), NodeId(8)), Err(DirError::Taken(_))));
    }

    #[test]
    fn an_identity_that_is_damaged_or_missing_is_never_replaced() {
        let temp = tempfile::tempdir().unwrap();
        drop(DataDir::open(temp.path(), NodeId(7)).unwrap());
        let file = temp.path().join("identity");
        let whole = fs::read(&file).unwrap();

        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, flipped).unwrap();
            let opened = DataDir::open(temp.path(), NodeId(8));
            // Flipped in the envelope's number of its layout, it looks like one of a later version.
            let is_refused = match opened {
                Err(DirError::Identity { .. }) => true,
                Err(DirError::Later { .. }) => (32..48).contains(&bit),
                Ok(_)
                | Err(DirError::Taken(_) | DirError::Orphan(_) | DirError::Foreign { .. } | DirError::Io { .. }) => {
                    false
                }
            };
            assert!(is_refused, "bit {bit}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(temp.path().join("raft")).unwrap();
        assert!(matches!(DataDir::open(temp.path(), NodeId(8)), Err(DirError::Orphan(_))));
    }
}
