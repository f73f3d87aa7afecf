use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

/// How consensus behaves. The same at all nodes, or near it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// After how long without a leader a node stands for election: drawn between these two. A new leader is there
    /// after about 1.7 times the upper bound.
    pub election: (Duration, Duration),
    /// How long a proposal is tried; large ones get more.
    pub propose_within: Duration,
    /// How long a read index is tried.
    pub read_within: Duration,
    /// How long one question for the read index may take.
    pub ask_within: Duration,
    /// How long a change of members is tried.
    pub reshape_within: Duration,
    /// How long sending entries may take; large ones get more.
    pub append_within: Duration,
    /// How long sending one piece of a snapshot may take.
    pub piece_within: Duration,
    /// How long putting a snapshot in force may take.
    pub install_within: Duration,
    /// A snapshot is written after so many entries.
    pub snapshot_every: u64,
    /// So many entries stay behind a snapshot, for nodes that were away for a moment.
    pub keep: u64,
    /// When the log has more bytes on disk, a snapshot is written sooner, and fewer entries stay behind it.
    pub log_bytes_max: u64,
    /// Entries sent at once; there is a bound of bytes besides.
    pub batch: u64,
    /// The most bytes a snapshot from another node may have.
    pub snapshot_limit: u64,
    /// The most proposals of this node that are on their way; further ones wait.
    pub pending_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(300), Duration::from_millis(600)),
            propose_within: Duration::from_secs(5),
            read_within: Duration::from_secs(3),
            ask_within: Duration::from_millis(500),
            reshape_within: Duration::from_secs(20),
            append_within: Duration::from_secs(1),
            piece_within: Duration::from_secs(5),
            install_within: Duration::from_secs(30),
            snapshot_every: 50_000,
            keep: 5_000,
            // A node reads its log again when it starts. An entry of 100,000 keys has 6 MiB and takes 0.3 s.
            log_bytes_max: 32 << 20,
            batch: 1_024,
            snapshot_limit: 1 << 30,
            pending_max: 4_096,
        }
    }
}

impl Settings {
    /// What openraft makes of them.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "troupe".to_owned(),
            // A follower that comes back with less than it had is brought up to date again. It broke a promise, and its
            // own start refuses what it can tell; but one node's bad disk is no reason for the leader to panic.
            allow_log_reversion: Some(true),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election.0),
            election_timeout_max: ms(self.election.1),
            install_snapshot_timeout: ms(self.install_within),
            max_payload_entries: self.batch,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            // Who is further behind than the log reaches gets a snapshot; who is not gets entries.
            replication_lag_threshold: self.snapshot_every.saturating_add(self.keep),
            max_in_snapshot_log_to_keep: self.keep,
            enable_pre_vote: Some(true),
            // A restarted leader that led on without an election could serve a state older than one it served before.
            enable_leader_restore: Some(false),
            // Without it a leader cut off from a quorum would hold its followers by heartbeats for ever.
            quorum_loss_probe_interval: Some(ms(self.election.1).saturating_mul(2)),
            backoff: "50ms 100ms 200ms ..500ms".to_owned(),
            ..Config::default()
        };
        config.validate()
    }
}

/// What is given to so many bytes on their way, in addition to the usual time.
pub(super) fn more_for(bytes: usize) -> Duration {
    const BYTES_PER_SECOND: usize = 4 << 20;
    Duration::from_secs(u64::try_from(bytes / BYTES_PER_SECOND).unwrap_or(u64::MAX))
}
