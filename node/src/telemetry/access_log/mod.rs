//! One line of JSON per request, written by a thread of its own.
//!
//! A data thread pushes a record into a bounded ring and goes on: it never waits, serialises nothing, and wakes nobody
//! (waking a sleeping thread costs 15-20 us, more than the rest of a short request). The writer looks into the ring
//! every 10 ms. A full ring drops the record and counts it.

mod line;
#[cfg(test)]
mod reference;
mod sink;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::metrics::Metrics;
use super::record::RequestRecord;
use crate::clock;
use sink::Sink;

pub use line::Lines;

/// Records the ring holds: 0.8 s of 10,000 requests a second, should the disk stand still.
pub const RING_RECORDS: usize = 8192;
/// How long the writer rests when it found nothing.
const REST: Duration = Duration::from_millis(10);
/// Records written by one call of the system, at most.
const BATCH_RECORDS: usize = 512;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere; records are dropped where they are made.
    Off,
    /// The standard output.
    Stdout,
    /// A file that is appended to, and opened again on [`AccessLog::reopen`].
    File(PathBuf),
}

impl Destination {
    /// Reads the setting: `off`, `stdout`, or a path.
    pub fn read(setting: &str) -> Self {
        match setting {
            "off" => Self::Off,
            "stdout" => Self::Stdout,
            path => Self::File(PathBuf::from(path)),
        }
    }
}

/// Says why the access log did not start.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file could not be opened for appending.
    #[error(
        "the access log {path} cannot be opened: {source}; let this user write there, \
         or name another file, stdout or off with --log-access (log.access)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The writer's thread could not be made.
    #[error("the access log's thread cannot be started")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// What was left of the log when it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Every record in the ring was written, or counted as dropped.
    Flushed,
    /// The deadline came first; so many records were in the ring still.
    Late {
        /// Records that were not written.
        left: usize,
    },
}

struct Shared {
    /// Boxed, so that an empty ring costs 16 bytes a place.
    ring: ArrayQueue<Box<RequestRecord>>,
    reopen: AtomicBool,
    closing: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The access log of one node; shared by its data threads.
pub struct AccessLog {
    /// `None` when the log is off.
    shared: Option<Arc<Shared>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file cannot be opened or the thread not be made; nothing runs then.
    pub fn start(destination: &Destination, metrics: Arc<Metrics>) -> Result<Arc<Self>, AccessLogError> {
        let Some(sink) = Sink::open(destination)? else {
            return Ok(Arc::new(Self { shared: None, writer: Mutex::new(None) }));
        };
        Self::start_with(sink, metrics, RING_RECORDS)
    }

    fn start_with(sink: Sink, metrics: Arc<Metrics>, records: usize) -> Result<Arc<Self>, AccessLogError> {
        let shared = Arc::new(Shared {
            ring: ArrayQueue::new(records),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            metrics,
        });
        let theirs = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_until_closed(&theirs, sink))
            .map_err(|source| AccessLogError::Thread { source })?;
        Ok(Arc::new(Self { shared: Some(shared), writer: Mutex::new(Some(writer)) }))
    }

    /// Gives a record away. Never waits; a full ring drops it and counts that.
    pub fn push(&self, record: RequestRecord) {
        if let Some(shared) = &self.shared
            && shared.ring.push(Box::new(record)).is_err()
        {
            shared.metrics.access_log_dropped(1);
        }
    }

    /// Has the file opened again at the writer's next look, after it was moved away.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.reopen.store(true, Ordering::Release);
        }
    }

    /// Writes what is in the ring and ends the writer, or gives up at the deadline. Blocks; call it when traffic is over.
    pub fn close(&self, deadline: Instant) -> Closed {
        let Some(shared) = &self.shared else { return Closed::Flushed };
        shared.closing.store(true, Ordering::Release);
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Closed::Flushed;
        };
        writer.thread().unpark();
        while !writer.is_finished() && clock::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A panic of the writer is counted by the process's hook; what the ring holds is lost then too.
        let is_flushed = writer.is_finished() && writer.join().is_ok();
        if is_flushed { Closed::Flushed } else { Closed::Late { left: shared.ring.len() } }
    }
}

fn write_until_closed(shared: &Shared, mut sink: Sink) {
    let (mut text, mut lines_writer) = (Vec::new(), Lines::default());
    loop {
        // Read before the ring: what was pushed before the close is then seen below.
        let is_closing = shared.closing.load(Ordering::Acquire);
        if shared.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        text.clear();
        let mut lines = 0_u64;
        while let Some(record) = shared.ring.pop() {
            lines_writer.write(&record, &mut text);
            lines += 1;
            if lines >= BATCH_RECORDS as u64 {
                break;
            }
        }
        if lines > 0 {
            match sink.write(&text) {
                Ok(()) => shared.metrics.access_log_wrote(lines),
                Err(_) => shared.metrics.access_log_dropped(lines),
            }
        } else if is_closing {
            return;
        } else {
            std::thread::park_timeout(REST);
        }
    }
}

#[cfg(test)]
mod tests;
