//! Every metric's name, kind, labels and meaning. Nothing else in the house spells one.

use std::time::Duration;

use troupe_cluster::consensus::TIMES_BUCKETS_US;
use troupe_cluster::gossip::DELAY_BOUNDS;
use troupe_cluster::transport::Rejected;
use troupe_cluster::transport::counts::ROUND_TRIP_BOUNDS;

use super::text::Seconds;

/// What a metric's number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and starts at 0 with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by size, with their sum.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, unit last.
    pub name: &'static str,
    /// What its number does.
    pub kind: Kind,
    /// The labels its series differ by, in this order.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $ident: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order it is rendered in.
        pub const ALL: &[Metric] = &[$($ident,)*];
    };
}

metrics! {
    BUILD_INFO = Gauge "troupe_build_info" ["version", "revision"] "Always 1; says what runs.";
    REQUESTS = Counter "troupe_requests_total" ["operation", "model", "status_class", "outcome"] "Requests that ended.";
    REQUESTS_IN_FLIGHT = Gauge "troupe_requests_in_flight" [] "Requests that have begun and not ended.";
    STREAMS_OPEN = Gauge "troupe_streams_open" [] "Replies that are being streamed to clients; each is one of the requests in flight.";
    REFUSED = Counter "troupe_refused_total" ["code"] "Requests the gateway refused before asking any provider, by error code.";
    REQUEST_DURATION = Histogram "troupe_request_duration_seconds" ["operation", "model"] "Time from a request's head to the end of its reply.";
    FIRST_TOKEN = Histogram "troupe_time_to_first_token_seconds" ["operation", "model"] "Time from a request's head to the first content sent to the client.";
    TOKENS = Counter "troupe_tokens_total" ["model", "type"] "Tokens that providers reported; cached_read and cache_write are parts of input, reasoning is a part of output.";
    ATTEMPTS = Counter "troupe_attempts_total" ["provider", "model", "outcome"] "Tries at a provider that ended.";
    RETRIES = Counter "troupe_retries_total" ["model"] "Further tries of requests whose first one failed or was slow to begin.";
    RETRIES_DENIED = Counter "troupe_retries_denied_total" ["model"] "Requests that were not tried again because the model's retry budget was spent.";
    SEAMS = Counter "troupe_stream_seams_total" ["model"] "Broken streams that went on at another target.";
    TARGET_RESTING = Gauge "troupe_target_resting" ["provider", "credential", "model"] "1 while a target gets no calls (it rests, or one call tries it); a model of `*` stands for the names that are passed on.";
    TARGET_TOLD = Gauge "troupe_target_rests_by_hearsay" ["provider", "credential", "model"] "1 while a target rests because other nodes say so.";
    TARGETS_DISPUTED = Gauge "troupe_targets_disputed" [] "Targets that some nodes find ill and others well, as this one hears.";
    HEARSAY = Counter "troupe_health_words_total" ["what"] "What nodes told each other of providers' health: sent, heard, and heard when something newer was known.";
    PROBES = Counter "troupe_probes_total" ["provider", "finding"] "Probes of resting targets that this node made; one for the whole cluster at a time.";
    TARGET_IN_FLIGHT = Gauge "troupe_target_in_flight" ["provider", "credential", "model"] "Calls at a target.";
    PROVIDER_OFF = Gauge "troupe_provider_switched_off" ["provider"] "1 for each provider that an operator switched off.";
    LOST = Counter "troupe_translation_lost_total" ["direction", "field"] "Fields that a translation between dialects had to drop.";
    CONNECTIONS_OPEN = Gauge "troupe_connections_open" [] "Client connections that are open.";
    CONNECTIONS = Counter "troupe_connections_total" [] "Client connections that were accepted.";
    UPSTREAM_CONNECTIONS = Gauge "troupe_upstream_connections" ["provider"] "Connections to providers that are open.";
    UPSTREAM_CONNECTS = Counter "troupe_upstream_connects_total" ["provider", "outcome"] "Tries to open a connection to a provider.";
    ACCESS_LOG_LINES = Counter "troupe_access_log_lines_total" [] "Access log lines that were written.";
    ACCESS_LOG_DROPPED = Counter "troupe_access_log_dropped_total" [] "Access log lines that were lost, because the ring was full or the file could not be written.";
    LOG_DROPPED = Counter "troupe_log_dropped_total" [] "Lines of the process's own log that were lost, because stderr was not read fast enough or could not be written.";
    PANICS = Counter "troupe_panics_total" [] "Panics that were caught; each is a fault of this gateway.";
    DRAINS = Counter "troupe_drains_total" ["by"] "Times this node left rotation.";
    DRAIN_DURATION = Histogram "troupe_drain_duration_seconds" [] "Time from when it said so until nobody was left who was there before, the rest was cut, or it came back.";
    DRAIN_CONNECTIONS = Counter "troupe_drain_connections_total" ["outcome"] "Client connections that were there before a drain and ended in it.";
    DRAIN_REQUESTS_CUT = Counter "troupe_drain_requests_cut_total" [] "Requests that were still in flight, streams most of them, when a drain's time was over and they were cut.";
    ACTORS = Gauge "troupe_actors" ["role"] "Actors that are up.";
    ACTOR_RESTARTS = Counter "troupe_actor_restarts_total" ["role"] "Actors that fell and were started again.";
    ACTOR_INBOX = Gauge "troupe_actor_inbox_depth" ["role"] "Facts that wait for an actor.";
    ACTOR_DROPPED = Counter "troupe_actor_facts_dropped_total" ["role"] "Facts that were refused because too many waited.";
    VIEW_AGE = Gauge "troupe_view_age_seconds" ["view", "model"] "Age of a view that requests read; one older than 15 s counts as neutral.";
    READY = Gauge "troupe_ready" [] "1 while `/readyz` answers 200.";
    READY_CHECK = Gauge "troupe_ready_check" ["check"] "1 for each thing that `/readyz?verbose` lists and that is well, 0 where it is not.";
    CONFIG_RELOADS = Counter "troupe_config_reloads_total" ["outcome"] "Times the spec was read again, and whether it was applied.";
    SPEC_REVISION = Gauge "troupe_spec_revision" [] "The revision of the agreed state that requests are served by.";
    HAS_LEADER = Gauge "troupe_raft_has_leader" [] "1 while this node knows who leads.";
    IS_LEADER = Gauge "troupe_raft_is_leader" [] "1 while this node leads.";
    LEADER_CHANGES = Counter "troupe_raft_leader_changes_total" [] "Times this node saw another leader than before.";
    TERM = Gauge "troupe_raft_term" [] "The term of the vote this node gave last.";
    VOTERS = Gauge "troupe_raft_members" ["role"] "Nodes that take part, with and without a vote.";
    COMMITTED = Gauge "troupe_raft_proposals_committed" [] "The index of the last entry known to be agreed.";
    APPLIED = Gauge "troupe_raft_proposals_applied" [] "The index of the last entry applied here.";
    PENDING = Gauge "troupe_raft_proposals_pending" [] "Proposals made here that are not answered yet.";
    FAILED = Counter "troupe_raft_proposals_failed_total" [] "Proposals made here that ended in an error.";
    BEHIND = Gauge "troupe_raft_behind_entries" ["node"] "Entries that another node lacks, where this one leads.";
    LOG_BYTES = Gauge "troupe_raft_log_bytes" [] "The size of the log on disk.";
    SNAPSHOT_BYTES = Gauge "troupe_raft_snapshot_bytes" [] "The size of the newest snapshot on disk.";
    SNAPSHOT_INDEX = Gauge "troupe_raft_snapshot_index" [] "The index of the last entry in the newest snapshot.";
    WRITE_DURATION = Histogram "troupe_raft_write_duration_seconds" [] "Time from when entries are handed to the log until they are on disk.";
    FSYNC_DURATION = Histogram "troupe_raft_fsync_duration_seconds" [] "Time the disk takes each time that it is asked to make the log durable; writes that come together share one.";
    FRESHNESS = Gauge "troupe_freshness_seconds" [] "Time since a quorum confirmed that this node knew all there was; past the bound of the policies it answers 503.";
    IS_FRESH = Gauge "troupe_fresh" [] "1 while clients are admitted by what this node knows.";
    KEY_CHECKS = Counter "troupe_key_checks_total" ["outcome"] "Times the other nodes were asked about keys this node did not know; requests share one.";
    PEER_REFUSED = Counter "troupe_peer_refused_total" ["direction", "reason"] "Connections and calls between nodes that were refused.";
    PEER_HANDSHAKES = Counter "troupe_peer_handshakes_total" ["outcome"] "Handshakes of other nodes at the peer port that ended: accepted, or why not.";
    PEER_HANDSHAKE_DURATION = Histogram "troupe_peer_handshake_seconds" ["outcome"] "Time from when a connection came to the peer port until it was let in or refused.";
    PEER_CONNECTIONS = Gauge "troupe_peer_connections" [] "Connections that other nodes have open here.";
    PEER_CONNECTED = Gauge "troupe_peer_connected" ["node", "class"] "1 while this node has a connection of this class to another.";
    PEER_FAILED = Counter "troupe_peer_calls_failed_total" ["node", "class"] "Calls of another node that were not answered.";
    PEER_ROUND_TRIP = Histogram "troupe_peer_round_trip_seconds" ["node", "class"] "Time from a call of another node to its answer.";
    CERTIFICATE_EXPIRES = Gauge "troupe_peer_certificate_expiry_seconds" [] "When the first of the certificates for other nodes ends, in seconds since 1970.";
    CERTIFICATE_UNUSABLE = Gauge "troupe_peer_certificate_unusable" [] "1 while the certificate files for other nodes cannot be taken up, so that those in force stay.";
    GOSSIP_MEMBERS = Gauge "troupe_gossip_members" ["state"] "Other members: alive, dead, or never heard of by gossip.";
    GOSSIP_SEEN = Gauge "troupe_gossip_seen_seconds" ["node"] "Time since another member's last sign of life, heard from it or through others.";
    GOSSIP_CLOCK = Gauge "troupe_gossip_clock_ahead_seconds" ["node"] "How far another member's clock is ahead of this node's, less the time on the way; beyond 30 s its datagrams are refused.";
    GOSSIP_DATAGRAMS = Counter "troupe_gossip_datagrams_total" ["direction"] "Datagrams of gossip that were sent, and those that were taken.";
    GOSSIP_UNSENT = Counter "troupe_gossip_datagrams_unsent_total" [] "Datagrams of gossip that could not be sent: the system refused, or a member's name leads nowhere.";
    GOSSIP_BYTES = Counter "troupe_gossip_bytes_total" ["direction"] "Bytes of those datagrams.";
    GOSSIP_REFUSED = Counter "troupe_gossip_refused_total" ["reason"] "Datagrams on the peer port that were not taken.";
    GOSSIP_DELAY = Histogram "troupe_gossip_delay_seconds" ["way"] "Time from when another node said something until it was seen here, by the clocks of both.";
    GOSSIP_PUSHES = Counter "troupe_gossip_pushes_total" ["outcome"] "Urgent facts that this node pushed, those it had no room for, and the members that did not confirm one; gossip repairs that.";
    GOSSIP_FACTS = Counter "troupe_gossip_facts_total" ["outcome"] "Urgent facts that others pushed here.";
    GOSSIP_RESTARTS = Counter "troupe_gossip_restarts_total" [] "Times that gossip ended by a fault and was begun anew; each is a fault of this gateway.";
    TASKS = Gauge "troupe_tasks" ["runtime"] "Tasks that have not ended: of connections and calls, of agreement, of everything else.";
    UPTIME = Gauge "troupe_uptime_seconds" [] "Time since this process began to serve metrics.";
    PROCESS_START = Gauge "process_start_time_seconds" [] "When the process started, in seconds since 1970.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "CPU time the process has used, user and system.";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] "Memory of the process that is resident.";
    PROCESS_FDS = Gauge "process_open_fds" [] "File descriptors that are open.";
}

/// The upper bounds of a histogram's buckets in microseconds.
pub(super) fn bounds_us(metric: &Metric) -> Vec<u64> {
    let micros = |bounds: &[Duration]| -> Vec<u64> {
        bounds.iter().map(|bound| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)).collect()
    };
    match metric.name {
        name if [WRITE_DURATION.name, FSYNC_DURATION.name].contains(&name) => TIMES_BUCKETS_US.to_vec(),
        name if [PEER_ROUND_TRIP.name, PEER_HANDSHAKE_DURATION.name].contains(&name) => micros(&ROUND_TRIP_BOUNDS),
        name if name == GOSSIP_DELAY.name => micros(&DELAY_BOUNDS),
        _ => BOUNDS_MS.iter().map(|ms| ms.saturating_mul(1000)).collect(),
    }
}

/// The upper bounds of the buckets of what clients wait for, in milliseconds: 10 ms doubled up to 11 minutes.
///
/// The first fourteen are those of the OpenTelemetry conventions for generative AI, so that both can share a dashboard.
pub const BOUNDS_MS: [u64; 17] =
    [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920, 163_840, 327_680, 655_360];

/// The reference page of all metrics, as `docs/reference/metrics.md` holds it.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Written by a test from node/src/telemetry/metrics/names.rs; run it with TROUPE_REGEN=1 to renew. -->\n\n\
         `GET /metrics` on the admin listener answers in the Prometheus text format. It needs the admin token:\n\n\
         ```yaml\nscrape_configs:\n  - job_name: troupe\n    authorization: { credentials_file: /etc/troupe/admin-token }\n    \
         static_configs: [{ targets: [\"127.0.0.1:8081\"] }]\n```\n\n\
         Labels are bounded sets. `model` is the name of a configured model (a wildcard counts under its own name), \
         `unknown` where a request named none that exists, and `other` beyond 4,096 of them. A client's words, keys and \
         users are never labels.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row =
            format!("| `{}` | {} | {} | {} |\n", metric.name, metric.kind.as_str(), labels.join(", "), metric.help);
        page.push_str(&row);
    }
    page.push_str(
        "\n## Label values\n\n\
         | label | values |\n|---|---|\n\
         | `operation` | `chat`, `completions`, `responses`, `embeddings`, `messages`, `count_tokens`, `unknown` |\n\
         | `status_class` | `2xx`, `4xx`, `5xx`, `other` |\n\
         | `outcome` of a request | `finished`, `refused`, `failed`, `interrupted`, `client_gone` |\n\
         | `outcome` of an attempt | `finished`, `client`, `credential`, `quota`, `capacity`, `context_length`, `provider`, \
         `ours`, `interrupted`, `client_gone`, `cancelled` (another attempt began sooner) |\n\
         | `outcome` of a connect | `connected`, `refused`, `timed_out`, `tls`, `failed` |\n\
         | `check` | `process`, `started`, `fresh` (in touch with the other nodes), `room` (for requests), `reaches_providers` \
         (those that other nodes reach), `takes_part` (in agreement), `serves_agreed`, `in_rotation` |\n\
         | `outcome` of a reload | `applied`, `unchanged`, `refused` |\n\
         | `class` | `vote`, `append`, `snapshot`, `forward`, `join`, `push` |\n\
         | `finding` | `alive`, `answers`, `dead`, `credential_refused`, `unknown` |\n\
         | `what` of a word | `told`, `heard`, `stale` |\n\
         | `by` | `operator` (`troupe node drain`), `end` (the process was told to end) |\n\
         | `outcome` of a connection in a drain | `closed`, `cut` (the drain's time was over) |\n\
         | `outcome` of a key check | `seen` (this node then knew all there was), `unseen` (nobody could be asked) |\n\
         | `code` | an error code; each has a page in [errors](../errors/README.md) |\n\
         | `runtime` | `data` (all data threads), `raft`, `control` |\n\
         | `type` | `input`, `output`, `cached_read`, `cache_write`, `reasoning` |\n\
         | `direction` | `request`, `reply` |\n\
         | `direction` between nodes | `in`, `out`; of gossip `sent`, `received` |\n\
         | `reason` of gossip | `oversized`, `malformed`, `version`, `foreign_cluster`, `own`, `unknown_key`, `altered`, \
         `misdirected`, `stranger` (no member), `too_old` and `too_new` (a clock is wrong), `superseded`, `replayed`, \
         `unreadable` |\n\
         | `way` | `gossip` (within a round or two), `push` (at once) |\n\
         | `outcome` of a push | `pushed`, `unconfirmed` (a member did not confirm it), `dropped` |\n\
         | `outcome` of a fact | `heard`, `repeated`, `dropped` (nobody had time for it) |\n\
         | `outcome` of a handshake | `accepted`, or the `reason` it was refused for; of its time `accepted`, `refused` |\n\
         | `reason` of a node | ",
    );
    let reasons: Vec<String> = Rejected::ALL.iter().map(|reason| format!("`{}`", reason.word())).collect();
    page.push_str(&reasons.join(", "));
    page.push_str(
        " |\n\n## Buckets\n\nWhere the buckets of each histogram end, in seconds.\n\n| metric | buckets |\n|---|---|\n",
    );
    for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
        let ends = bounds_us(metric).into_iter().map(|us| Seconds(us.saturating_mul(1000)).to_string());
        let row = format!("| `{}` | {} |\n", metric.name, ends.collect::<Vec<_>>().join(", "));
        page.push_str(&row);
    }
    page
}
