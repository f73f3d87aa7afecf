//! A disk that keeps what was synced, and of the rest what it likes.
//!
//! ```text
//! append ─▶ tail (seen by its own process) ─▶ fsync, which takes its time ─▶ durable (survives a power cut)
//! ```
//! When the power goes, a prefix of the tail stays, of any length: writes reach a log in order, and a torn record is
//! found by its checksum and cut off. When only the process dies, all of the tail stays.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{Notify, oneshot};
use troupe_cluster::raft::plain;
use troupe_cluster::raft::types::{Entry, LogId, Types, Vote};
use troupe_cluster::storage::{LogStats, LogStore, Snapshot, SnapshotStore, decode_snapshot, encode_snapshot};

/// Entries read at once.
const BATCH: usize = 64;

/// A host's disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    platter: Arc<Mutex<Platter>>,
    wake: Arc<Notify>,
}

struct Platter {
    rng: Rng,
    manners: Manners,
    identity: Identity,
    durable: Pages,
    tail: Vec<Write>,
    /// What the running process sees: `durable` and the tail.
    live: Pages,
    /// Who waits for a sync, with the length of the tail that must be durable then.
    waiting: Vec<(usize, Waiter)>,
    snapshot: Option<Vec<u8>>,
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// It says that a write is durable before it is: a planted bug.
    pub is_liar: bool,
    /// Every fsync takes this much longer.
    pub slow: Duration,
}

/// Who the host is; synced whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: u64,
    /// How often its process was started.
    pub incarnation: u64,
}

/// What the log holds.
#[derive(Clone, Default)]
struct Pages {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// One record of the log.
#[derive(Clone)]
enum Write {
    Vote(Vote),
    Committed(LogId),
    Entry(Entry),
    /// Everything from this index on goes.
    Cut(u64),
    Purged(LogId),
}

enum Waiter {
    Consensus(IOFlushed<Types>),
    Own(oneshot::Sender<()>),
}

impl Waiter {
    fn tell(self) {
        match self {
            Self::Consensus(flushed) => flushed.io_completed(Ok(())),
            // Nobody waits any more only if consensus stopped.
            Self::Own(done) => drop(done.send(())),
        }
    }
}

impl Pages {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Committed(id) => self.committed = Some(*id),
            Write::Entry(entry) => {
                let index = entry.log_id().index;
                self.entries.insert(index, entry.clone());
            }
            Write::Cut(from) => drop(self.entries.split_off(from)),
            Write::Purged(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(*upto));
            }
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id()).or(self.purged)
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64, node: u64, is_liar: bool) -> Self {
        let platter = Platter {
            rng: Rng::with_seed(seed),
            manners: Manners { is_liar, slow: Duration::ZERO },
            identity: Identity { node, incarnation: 0 },
            durable: Pages::default(),
            tail: Vec::new(),
            live: Pages::default(),
            waiting: Vec::new(),
            snapshot: None,
        };
        Self { platter: Arc::new(Mutex::new(platter)), wake: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies; what it wrote stays. Gives how many records were not synced.
    pub fn process_died(&self) -> usize {
        let mut platter = self.lock();
        platter.waiting.clear();
        // The system writes it all in the end.
        let tail = std::mem::take(&mut platter.tail);
        platter.durable = platter.live.clone();
        tail.len()
    }

    /// The power goes: of what was not synced, a prefix stays. Gives how many records were lost.
    pub fn power_cut(&self) -> usize {
        let mut platter = self.lock();
        platter.waiting.clear();
        let mut tail = std::mem::take(&mut platter.tail);
        let kept = if platter.rng.bool() { 0 } else { platter.rng.usize(0..=tail.len()) };
        let lost = tail.split_off(kept).len();
        for write in &tail {
            platter.durable.write(write);
        }
        platter.live = platter.durable.clone();
        lost
    }

    /// Everything is gone; the host gets another name, or, by a planted bug, its old one.
    pub fn wipe(&self, identity: Identity) {
        let mut platter = self.lock();
        platter.identity = identity;
        platter.waiting.clear();
        platter.tail.clear();
        (platter.durable, platter.live) = (Pages::default(), Pages::default());
        platter.snapshot = None;
    }

    /// A process starts.
    pub fn start(&self) -> Identity {
        let mut platter = self.lock();
        platter.identity.incarnation += 1;
        platter.identity
    }

    /// Who the host is.
    pub fn identity(&self) -> Identity {
        self.lock().identity
    }

    /// Makes every fsync slower by this much.
    pub fn slow_down(&self, by: Duration) {
        self.lock().manners.slow = by;
    }

    /// The log on this disk, for a process that has just started on the current runtime.
    pub fn log(&self) -> SimLog {
        tokio::spawn(sync(self.clone()));
        SimLog { disk: self.clone() }
    }

    fn push(&self, writes: impl IntoIterator<Item = Write>, waiter: Option<Waiter>) {
        let mut platter = self.lock();
        for write in writes {
            platter.live.write(&write);
            platter.tail.push(write);
        }
        let Some(waiter) = waiter else { return };
        let upto = platter.tail.len();
        if platter.manners.is_liar {
            // Synced all the same, but later.
            platter.waiting.push((upto, Waiter::Own(oneshot::channel().0)));
            drop(platter);
            waiter.tell();
        } else {
            platter.waiting.push((upto, waiter));
        }
        self.wake.notify_one();
    }
}

impl Platter {
    /// Mostly a fast drive, sometimes one that is busy with something else.
    fn fsync_takes(&mut self) -> Duration {
        let base = match self.rng.u8(..) {
            0..=3 => self.rng.u64(20_000..200_000),
            4..=30 => self.rng.u64(2_000..20_000),
            _ => self.rng.u64(200..2_000),
        };
        self.manners.slow + Duration::from_micros(base)
    }
}

/// Syncs whenever somebody waits for it; what comes meanwhile shares the next one.
async fn sync(disk: Disk) {
    loop {
        disk.wake.notified().await;
        loop {
            let (upto, takes) = {
                let mut platter = disk.lock();
                if platter.waiting.is_empty() {
                    break;
                }
                (platter.tail.len(), platter.fsync_takes())
            };
            tokio::time::sleep(takes).await;
            let told = {
                let mut platter = disk.lock();
                let rest = platter.tail.split_off(upto);
                let synced = std::mem::replace(&mut platter.tail, rest);
                for write in &synced {
                    platter.durable.write(write);
                }
                let (told, waiting) =
                    std::mem::take(&mut platter.waiting).into_iter().partition::<Vec<_>, _>(|(end, _)| *end <= upto);
                platter.waiting = waiting.into_iter().map(|(end, waiter)| (end - upto, waiter)).collect();
                told
            };
            for (_, waiter) in told {
                waiter.tell();
            }
        }
    }
}

/// The log on a [`Disk`].
#[derive(Clone)]
pub struct SimLog {
    disk: Disk,
}

impl LogStore for SimLog {
    fn stats(&self) -> LogStats {
        LogStats::default()
    }
}

impl SimLog {
    fn read(&self, start: u64, end: u64, most: usize) -> Vec<Entry> {
        if start >= end {
            return Vec::new();
        }
        self.disk.lock().live.entries.range(start..end).take(most).map(|(_, entry)| entry.clone()).collect()
    }
}

impl RaftLogReader<Types> for SimLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.read(start, end, usize::MAX))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.disk.lock().live.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.read(start, end, BATCH))
    }
}

impl RaftLogStorage<Types> for SimLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let platter = self.disk.lock();
        Ok(LogState { last_purged_log_id: platter.live.purged, last_log_id: platter.live.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        self.disk.push([Write::Vote(*vote)], Some(Waiter::Own(done)));
        synced.await.map_err(|_| io::Error::other("the disk is gone"))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.disk.push(committed.map(Write::Committed), None);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.disk.lock().live.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.disk.push(entries.into_iter().map(Write::Entry), Some(Waiter::Consensus(callback)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.disk.push([Write::Cut(last.map_or(0, |id| id.index + 1))], None);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.disk.push([Write::Purged(upto)], None);
        Ok(())
    }
}

impl SnapshotStore for Disk {
    /// Whole and durable, or not at all: a crash in the middle leaves the one before, as if it had come just before.
    fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.lock().snapshot = Some(encode_snapshot(snapshot).map_err(io::Error::other)?);
        Ok(())
    }

    fn load(&self) -> io::Result<Option<Snapshot>> {
        let file = self.lock().snapshot.clone();
        file.map(|file| decode_snapshot(&file).map_err(io::Error::other)).transpose()
    }

    fn newest(&self) -> (u64, u64) {
        let Ok(Some(snapshot)) = self.load() else { return (0, 0) };
        let plain::Meta { last, .. } = snapshot.meta;
        (u64::try_from(snapshot.state.len()).unwrap_or(0), last.map_or(0, |last| last.index))
    }
}
