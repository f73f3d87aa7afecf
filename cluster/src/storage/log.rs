//! The log on disk: `raft-log` with what openraft wants of it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, entry::RaftEntry};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Callback, Config, RaftLog};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::record::{RecordId, RecordPayload, RecordVote, Records};
use super::times::{Running, Timer};
use super::{LogStats, LogStore};
use crate::clock;
use crate::raft::plain;
use crate::raft::types::{Entry, LogId, Types, Vote};

/// How long a write waits for others to share its fsync. Without any wait none would be shared, and throughput falls
/// to a twentieth; a millisecond would be the largest part of a commit.
const GATHER: Duration = Duration::from_micros(100);

/// Recovery replays whole files and frees whole files, at 30 to 50 ms for each MiB of small entries.
const FILE_BYTES: usize = 4 << 20;

/// Entries kept in memory; older ones are read from disk for a node that is far behind.
const CACHE_BYTES: usize = 64 << 20;

/// How many bytes of entries are sent to another node at once. One entry may be larger.
const BATCH_BYTES: usize = 2 << 20;

/// The log on disk. Clones are the same log.
#[derive(Clone)]
pub struct DiskLog {
    log: Arc<Mutex<RaftLog<Records>>>,
    writes: Arc<Timer>,
    fsyncs: Arc<Running>,
}

impl DiskLog {
    /// Opens the log in `dir`, and makes it if there is none. A write that was torn when the machine stopped is cut off;
    /// nothing of it was acknowledged.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read: bytes that were synced and are wrong now are never
    /// passed over.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = dir.to_str().ok_or_else(|| io::Error::other("the path of the log is not UTF-8"))?;
        let mut config = Config::new(dir);
        config.wal.flush_batch_wait = Some(GATHER);
        config.wal.chunk_max_size = Some(FILE_BYTES);
        config.wal.read_buffer_size = Some(FILE_BYTES);
        config.wal.truncate_incomplete_record = Some(true);
        config.log_cache_capacity = Some(CACHE_BYTES);
        let log = RaftLog::open(Arc::new(config))?;
        Ok(Self { log: Arc::new(Mutex::new(log)), writes: Arc::default(), fsyncs: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, RaftLog<Records>> {
        // Its worst after a panic is a record that was not handed over yet, and the caller saw that panic.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the fsyncs since the last look. Before each write there is one at most, mostly.
    fn count_fsyncs(&self, log: &RaftLog<Records>) {
        let flushes = log.stat().flush_metrics;
        self.fsyncs.look(flushes.sync_batch_count, flushes.sync_us);
    }

    /// Makes everything before it durable.
    pub(super) async fn sync(&self) -> io::Result<()> {
        let (done, flushed) = oneshot::channel();
        let flushed_by = Flushed { end: End::Waiter(done), began: clock::now(), times: Arc::clone(&self.writes) };
        self.lock().flush(true, Some(flushed_by))?;
        flushed.await.map_err(|_| io::Error::other("the log's writer is gone"))?
    }
}

impl LogStore for DiskLog {
    fn stats(&self) -> LogStats {
        let log = self.lock();
        self.count_fsyncs(&log);
        LogStats { bytes: log.on_disk_size(), writes: self.writes.read(), fsyncs: self.fsyncs.read() }
    }
}

/// Told when a write is on disk.
pub(super) struct Flushed {
    end: End,
    began: Instant,
    times: Arc<Timer>,
}

enum End {
    Consensus(IOFlushed<Types>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        self.times.add(clock::now().saturating_duration_since(self.began));
        match self.end {
            End::Consensus(flushed) => flushed.io_completed(result),
            // Nobody waits any more only if consensus stopped.
            End::Waiter(done) => drop(done.send(result)),
        }
    }
}

/// The place after the last of `id`.
fn next(id: Option<&RecordId>) -> u64 {
    id.map_or(0, |id| id.0.index + 1)
}

impl RaftLogReader<Types> for DiskLog {
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
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().log_state().vote().map(|vote| vote.0.into()))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, BATCH_BYTES)
    }
}

impl DiskLog {
    /// Entries from `start` to before `end`: as many as have `bytes` together, at least one.
    fn read(&self, start: u64, end: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let log = self.lock();
        let (mut entries, mut total) = (Vec::new(), 0usize);
        for record in log.read(start, end) {
            let (id, payload) = record?;
            total = total.saturating_add(payload.len());
            if total > bytes && !entries.is_empty() {
                break;
            }
            let entry = plain::Entry { at: id.0, payload: payload.into_plain()? };
            entries.push(entry.try_into().map_err(io::Error::other)?);
        }
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for DiskLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.lock();
        let (purged, last) = (log.log_state().purged(), log.log_state().last());
        Ok(LogState {
            last_purged_log_id: purged.map(|id| id.0.into()),
            last_log_id: last.max(purged).map(|id| id.0.into()),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.lock().save_vote(RecordVote((*vote).into()))?;
        self.sync().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        let mut log = self.lock();
        log.commit(RecordId(committed.into()))?;
        // It may be lost: it is learned again from the leader. So it rides with whatever is synced next.
        log.flush(false, None)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().log_state().committed().map(|id| id.0.into()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // Everything but the copy into the write buffer happens before the lock is taken.
        let records = entries
            .into_iter()
            .map(|entry| {
                let id = RecordId(entry.log_id().into());
                let plain::Entry { at: _, payload } = entry.into();
                Ok((id, RecordPayload::of(payload)?))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let flushed = Flushed { end: End::Consensus(callback), began: clock::now(), times: Arc::clone(&self.writes) };
        let mut log = self.lock();
        self.count_fsyncs(&log);
        log.append(records)?;
        log.flush(true, Some(flushed))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let index = last.map_or(0, |id| id.index + 1);
        let mut log = self.lock();
        // The log takes a cut behind its end for a mistake; here it is nothing to do. The same for what is purged.
        let (from, end) = (next(log.log_state().purged()), next(log.log_state().last()));
        if index >= end {
            return Ok(());
        }
        log.truncate(index.max(from))?;
        if index == 0 {
            // The record of a cut that keeps nothing is the only one that a flipped bit can make longer than it is. At
            // the end of the file it would be taken for torn, so it never stands there.
            log.save_user_data(None)?;
        }
        log.flush(false, None)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.lock();
        log.purge(RecordId(upto.into()))?;
        // Files are removed once the record of it is synced, with whatever is synced next.
        log.flush(false, None)
    }
}

/// Everything a log holds.
#[cfg(test)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) vote: Option<plain::Vote>,
    pub(super) committed: Option<plain::LogId>,
    pub(super) purged: Option<plain::LogId>,
    pub(super) last: Option<plain::LogId>,
    pub(super) entries: Vec<plain::Entry>,
}

#[cfg(test)]
impl DiskLog {
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let entries = self.read(0, u64::MAX, usize::MAX)?.into_iter().map(Into::into).collect();
        let log = self.lock();
        let state = log.log_state();
        Ok(Contents {
            vote: state.vote().map(|vote| vote.0),
            committed: state.committed().map(|id| id.0),
            purged: state.purged().map(|id| id.0),
            last: state.last().map(|id| id.0),
            entries,
        })
    }

    pub(super) fn id_at(&self, index: u64) -> LogId {
        self.read(index, index + 1, 0).unwrap()[0].log_id
    }
}
