use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::storage::RaftLogReader;
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::sync::{Semaphore, watch};
use troupe_proto::id::NodeId;

use super::machine::{Applier, Work};
use super::network::Network;
use super::runtime::Orderly;
use super::tend::tend;
use super::types::Types;
use super::{Inner, Raft, Settings, Stopped};
use crate::consensus::Machine;
use crate::storage::{LogStore, SnapshotStore};
use crate::transport::Links;

/// What a node's part in consensus is made of.
pub struct Parts<L> {
    /// How it behaves.
    pub settings: Settings,
    /// Who this node is.
    pub node: NodeId,
    /// Its log.
    pub logs: L,
    /// Its snapshots.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The way to other nodes.
    pub links: Arc<dyn Links>,
    /// Where its chance begins: elections are drawn. At random in production, given in a simulation.
    pub seed: u64,
    /// Where long work is done.
    pub work: Work,
    /// The wall clock, in milliseconds since 1970.
    pub wall: Wall,
}

/// Reads a wall clock, in milliseconds since 1970.
pub type Wall = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its settings contradict each other.
    #[error("the settings contradict each other")]
    Settings(#[from] openraft::ConfigError),
    /// No snapshot can be read although there are some, or what is in one cannot be loaded.
    #[error("the snapshots cannot be read; remove the data directory and let the node join again under a new id")]
    Snapshot(#[source] io::Error),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] io::Error),
    /// The snapshot that can be read ends before the log begins: the one that filled the gap is gone or damaged.
    #[error(
        "the newest readable snapshot ends at entry {snapshot}, and the log begins after {purged}: entries between \
         are lost here; remove the data directory and let the node join again under a new id"
    )]
    Gap {
        /// Where the snapshot ends.
        snapshot: u64,
        /// Where the log begins.
        purged: u64,
    },
    /// Something that should not fail did.
    #[error("consensus failed at its start: {0}")]
    Fatal(String),
}

/// Starts a node's part in consensus, on the runtime it is called in. A node that was in a cluster before takes its
/// place again; a new one waits until a cluster is formed or a leader adds it.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start<M: Machine, L: LogStore>(parts: Parts<L>, machine: M) -> Result<Raft<M>, StartError> {
    let Parts { settings, node, mut logs, snapshots, links, seed, work, wall } = parts;
    let config = Arc::new(settings.config()?);
    let settings = Arc::new(settings);
    let applier = Applier::open(machine, Arc::clone(&snapshots), work).map_err(StartError::Snapshot)?;
    let published = applier.published();
    let purged = logs.get_log_state().await.map_err(StartError::Log)?.last_purged_log_id;
    if purged > applier.last() {
        let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
        return Err(StartError::Gap { snapshot: index(applier.last()), purged: index(purged) });
    }
    let stats = logs.clone();
    let network = Network { links: Arc::clone(&links), settings: Arc::clone(&settings) };
    // Everything that openraft starts inherits its chance from here.
    let starting = openraft::Raft::new(node, config, network, logs, applier);
    let raft = DeterministicRng::<Orderly>::scope(seed, starting)
        .await
        .map_err(|fatal| StartError::Fatal(fatal.to_string()))?;
    let leader_changes = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = watch::channel(None);
    let is_asked = Arc::new(AtomicBool::new(false));
    tokio::spawn(observe(raft.metrics(), Arc::clone(&leader_changes), stop, Arc::clone(&is_asked)));
    let inner = Arc::new(Inner {
        me: node,
        raft,
        links,
        published,
        snapshots,
        log_stats: Box::new(move || stats.stats()),
        work,
        wall,
        slots: Semaphore::new(settings.pending_max),
        settings,
        pending: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        leader_changes,
        confirmed: Mutex::new(None),
        incoming: Mutex::new(None),
        stopped,
        is_asked,
    });
    tokio::spawn(tend(Arc::downgrade(&inner)));
    Ok(Raft { inner })
}

/// Whether a log was never written to: it holds no entry and no vote.
///
/// # Errors
/// Those of the log.
pub async fn is_blank<L: LogStore>(logs: &L) -> io::Result<bool> {
    let mut logs = logs.clone();
    let vote = logs.get_log_reader().await.read_vote().await?;
    Ok(vote.is_none() && logs.get_log_state().await?.last_log_id.is_none())
}

/// Counts changes of the leader, and says when consensus stops.
async fn observe(
    mut metrics: openraft::alias::WatchReceiverOf<Types, openraft::RaftMetrics<Types>>,
    leader_changes: Arc<AtomicU64>,
    stop: watch::Sender<Option<Stopped>>,
    is_asked: Arc<AtomicBool>,
) {
    let mut last = None;
    loop {
        let (state, leader) = {
            let metrics = metrics.borrow_watched();
            (metrics.running_state.clone(), metrics.current_leader)
        };
        if leader.is_some() && leader != last {
            last = leader;
            leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        let why = match state {
            Err(Fatal::Stopped) => Some(Stopped::Asked),
            Err(fatal @ (Fatal::StorageError(_) | Fatal::Panicked)) => Some(Stopped::Failed(fatal.to_string())),
            // A core that panics says nothing, and takes its metrics with it.
            Ok(()) if metrics.changed().await.is_err() => Some(match is_asked.load(Ordering::Acquire) {
                true => Stopped::Asked,
                false => Stopped::Failed("it ended without a word, which it does when it panics".to_owned()),
            }),
            Ok(()) => None,
        };
        if let Some(why) = why {
            stop.send_replace(Some(why));
            return;
        }
    }
}
