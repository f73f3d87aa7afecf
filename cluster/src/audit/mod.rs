//! The audit on disk: what the state keeps for a while, each node keeps for long.
//!
//! ```text
//! State ── ring of the newest lines ──▶ Writer ──▶ audit-00000001.jsonl, audit-00000002.jsonl, ...
//! ```
//! A file has one line for each entry of the log that changed anything, as JSON, with the hash of the line before it and
//! its own, which says both: whoever alters a line, or takes one out, breaks the chain behind it, and [`verify`] finds
//! the place. Where a node missed lines itself, because it took over a snapshot of others, it says so with a gap.
//! What is taken off the end cannot be seen in the files alone: compare [`Report::head`] with another node's.

mod files;
mod line;
mod read;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::state::State;

pub(crate) use read::Span;

pub use line::{Gap, Kept};
pub use read::{History, Hole, Point, Report, Told, history, read, verify};
pub use writer::{Settings, Writer};

/// Why the files of the audit could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refused.
    #[error("{path:?}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The chain is broken: a line was altered, taken out or put in.
    #[error("{path:?}, line {number}: {problem}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line from 1.
        number: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The reading task was stopped.
    #[error("reading was stopped")]
    Stopped,
}

/// How long a writer that failed waits before it tries again.
const AGAIN: Duration = Duration::from_secs(5);

/// Writes what each new state brings, until the states end. A disk that fails is tried again: the state holds the newest
/// lines meanwhile, and what it lost by then is a gap.
pub(crate) async fn run(writer: Writer, mut states: watch::Receiver<Arc<State>>) {
    let mut writer = Some(writer);
    loop {
        let state = states.borrow_and_update().clone();
        let Some(mut taken) = writer.take() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let result = taken.catch_up(&state);
            (taken, result)
        });
        let Ok((taken, result)) = written.await else {
            tracing::error!("the audit's writer fell and is left behind");
            return;
        };
        writer = Some(taken);
        let is_over = match result {
            Ok(_) => states.changed().await.is_err(),
            Err(error) => {
                tracing::error!(%error, "the audit cannot be written, trying again");
                tokio::time::sleep(AGAIN).await;
                states.has_changed().is_err()
            }
        };
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
