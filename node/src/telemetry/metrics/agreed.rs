//! How agreement with the other nodes goes, for a scrape.

use std::time::Duration;

use troupe_cluster::consensus::{Role, Vitals, WRITE_BUCKETS_US};

use super::names;
use super::text::{Seconds, Text};

/// How agreement goes at one moment.
#[derive(Debug, Default)]
pub struct Agreed {
    /// How consensus is.
    pub vitals: Vitals,
    /// How long ago a quorum confirmed that this node knew all there was.
    pub age: Option<Duration>,
    /// Whether clients are admitted by it.
    pub is_fresh: bool,
    /// Questions about unknown keys that were answered.
    pub checks_seen: u64,
    /// And those that nobody could be asked.
    pub checks_unseen: u64,
}

impl Agreed {
    pub(super) fn render(&self, text: &mut Text) {
        let Vitals { role, leader, term, voters, learners, .. } = &self.vitals;
        text.single(&names::HAS_LEADER, u8::from(leader.is_some()));
        text.single(&names::IS_LEADER, u8::from(*role == Role::Leader));
        text.single(&names::LEADER_CHANGES, self.vitals.leader_changes);
        text.single(&names::TERM, term);
        text.head(&names::VOTERS);
        text.sample(&names::VOTERS, &["voter"], voters.len());
        text.sample(&names::VOTERS, &["learner"], learners.len());
        text.single(&names::COMMITTED, self.vitals.committed);
        text.single(&names::APPLIED, self.vitals.applied);
        text.single(&names::PENDING, self.vitals.pending);
        text.single(&names::FAILED, self.vitals.failed);
        text.head(&names::BEHIND);
        for (node, entries) in &self.vitals.behind {
            text.sample(&names::BEHIND, &[&node.to_string()], entries);
        }
        self.render_disk(text);
        text.head(&names::FRESHNESS);
        if let Some(age) = self.age {
            text.sample(&names::FRESHNESS, &[], seconds(age));
        }
        text.single(&names::IS_FRESH, u8::from(self.is_fresh));
        text.head(&names::KEY_CHECKS);
        text.sample(&names::KEY_CHECKS, &["seen"], self.checks_seen);
        text.sample(&names::KEY_CHECKS, &["unseen"], self.checks_unseen);
    }

    fn render_disk(&self, text: &mut Text) {
        let writes = &self.vitals.writes;
        text.single(&names::LOG_BYTES, self.vitals.log_bytes);
        text.single(&names::SNAPSHOT_BYTES, self.vitals.snapshot_bytes);
        text.single(&names::SNAPSHOT_INDEX, self.vitals.snapshot_index);
        text.head(&names::WRITE_DURATION);
        text.histogram_of(&names::WRITE_DURATION, &WRITE_BUCKETS_US, &writes.buckets, writes.count, writes.sum);
        text.single(&names::FSYNCS, writes.fsyncs);
        text.single(&names::FSYNC_SECONDS, seconds(writes.fsync_sum));
    }
}

fn seconds(duration: Duration) -> Seconds {
    Seconds(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
