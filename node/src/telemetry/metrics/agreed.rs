//! How agreement with the other nodes goes, for a scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use troupe_cluster::consensus::{Role, Vitals};
use troupe_cluster::gossip::Stats;
use troupe_cluster::transport::{Counts, Rejected};
use troupe_proto::id::ProviderId;

use super::text::{Seconds, Text};
use super::{gossip, names};

/// How agreement goes at one moment.
#[derive(Debug, Default)]
pub struct Agreed {
    /// How consensus is.
    pub vitals: Vitals,
    /// How long ago a quorum confirmed that this node knew all there was.
    pub age: Option<Duration>,
    /// Whether clients are admitted by it.
    pub is_fresh: bool,
    /// Providers that are switched off.
    pub off: Vec<ProviderId>,
    /// Questions about unknown keys that were answered.
    pub checks_seen: u64,
    /// And those that nobody could be asked.
    pub checks_unseen: u64,
    /// How calls of other nodes went.
    pub links: Counts,
    /// When the first of the certificates for other nodes ends, in seconds since 1970.
    pub certificate_expires: Option<i64>,
    /// Whether the files of these cannot be taken up.
    pub is_certificate_unusable: bool,
    /// How gossip goes.
    pub gossip: Stats,
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
        self.render_links(text);
        text.head(&names::PROVIDER_OFF);
        // As many as there are providers, up to what all their series may be.
        for provider in self.off.iter().take(super::PROVIDERS_MAX) {
            text.sample(&names::PROVIDER_OFF, &[provider.as_str()], 1);
        }
        gossip::render(&self.gossip, text);
    }

    fn render_links(&self, text: &mut Text) {
        let links = &self.links;
        // Every reason from the first scrape on: a rate over a series that begins with its first refusal misses that one.
        let of = |counts: &BTreeMap<Rejected, u64>, reason| counts.get(&reason).copied().unwrap_or(0);
        text.head(&names::PEER_REFUSED);
        for (direction, reasons) in [("in", &links.rejected_in), ("out", &links.rejected_out)] {
            for reason in Rejected::ALL {
                text.sample(&names::PEER_REFUSED, &[direction, reason.word()], of(reasons, reason));
            }
        }
        text.head(&names::PEER_HANDSHAKES);
        text.sample(&names::PEER_HANDSHAKES, &["accepted"], links.accepted);
        for reason in Rejected::ALL {
            text.sample(&names::PEER_HANDSHAKES, &[reason.word()], of(&links.refused, reason));
        }
        text.head(&names::PEER_HANDSHAKE_DURATION);
        let bounds = names::bounds_us(&names::PEER_HANDSHAKE_DURATION);
        for (outcome, took) in ["accepted", "refused"].into_iter().zip(&links.shook) {
            let metric = &names::PEER_HANDSHAKE_DURATION;
            text.histogram_of(metric, &[outcome], &bounds, &took.buckets, took.count, took.sum);
        }
        text.single(&names::PEER_CONNECTIONS, links.connections_in);
        text.head(&names::PEER_CONNECTED);
        for ((node, class), link) in &links.links {
            text.sample(&names::PEER_CONNECTED, &[&node.to_string(), class.word()], u8::from(link.is_connected));
        }
        text.head(&names::PEER_FAILED);
        for ((node, class), link) in &links.links {
            text.sample(&names::PEER_FAILED, &[&node.to_string(), class.word()], link.failed);
        }
        text.head(&names::PEER_ROUND_TRIP);
        let bounds = names::bounds_us(&names::PEER_ROUND_TRIP);
        for ((node, class), link) in &links.links {
            let labels = [node.to_string(), class.word().to_owned()];
            let labels = labels.each_ref().map(String::as_str);
            let sum = link.round_trip_sum;
            text.histogram_of(&names::PEER_ROUND_TRIP, &labels, &bounds, &link.round_trips, link.answered, sum);
        }
        text.head(&names::CERTIFICATE_EXPIRES);
        if let Some(at) = self.certificate_expires {
            text.sample(&names::CERTIFICATE_EXPIRES, &[], at);
        }
        text.single(&names::CERTIFICATE_UNUSABLE, u8::from(self.is_certificate_unusable));
    }

    fn render_disk(&self, text: &mut Text) {
        text.single(&names::LOG_BYTES, self.vitals.log_bytes);
        text.single(&names::SNAPSHOT_BYTES, self.vitals.snapshot_bytes);
        text.single(&names::SNAPSHOT_INDEX, self.vitals.snapshot_index);
        for (name, times) in
            [(&names::WRITE_DURATION, &self.vitals.writes), (&names::FSYNC_DURATION, &self.vitals.fsyncs)]
        {
            text.head(name);
            text.histogram_of(name, &[], &names::bounds_us(name), &times.buckets, times.count, times.sum);
        }
    }
}

fn seconds(duration: Duration) -> Seconds {
    Seconds(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
