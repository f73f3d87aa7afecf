//! Keeps the log small where entries are large: openraft counts entries only.

use std::sync::Weak;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;

use super::Inner;
use super::types::Types;
use crate::consensus::Machine;

/// How often the size of the log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks after the log for as long as somebody holds consensus.
pub(super) async fn tend<M: Machine>(inner: Weak<Inner<M>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.shrink().await.is_err() {
            return;
        }
    }
}

impl<M: Machine> Inner<M> {
    /// Where the log is larger than it may be: writes a snapshot of what is applied, or drops the part of the log that
    /// the newest one holds.
    pub(super) async fn shrink(&self) -> Result<(), Fatal<Types>> {
        if (self.log_stats)().bytes <= self.settings.log_bytes_max {
            return Ok(());
        }
        let (applied, snapshot, purged) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<super::types::LogId>| id.map_or(0, |id| id.index);
            (index(&metrics.last_applied), index(&metrics.snapshot), index(&metrics.purged))
        };
        // What a snapshot holds already goes first: where changes never cease, there is always something newer.
        if snapshot > purged {
            // Who lacks these entries gets the snapshot.
            self.raft.trigger().purge_log(snapshot).await
        } else if applied > snapshot {
            self.raft.trigger().snapshot().await
        } else {
            // The rest stands in the file that is being written.
            Ok(())
        }
    }
}
