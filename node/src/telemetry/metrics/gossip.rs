//! How gossip goes, for a scrape.

use std::fmt;

use troupe_cluster::gossip::{Refused, Stats};

use super::names;
use super::text::Text;

pub(super) fn render(stats: &Stats, text: &mut Text) {
    let count = |state: Option<bool>| stats.peers.values().filter(|peer| peer.is_alive == state).count();
    text.head(&names::GOSSIP_MEMBERS);
    for (word, state) in [("alive", Some(true)), ("dead", Some(false)), ("unheard", None)] {
        text.sample(&names::GOSSIP_MEMBERS, &[word], count(state));
    }
    text.head(&names::GOSSIP_SEEN);
    for (node, peer) in &stats.peers {
        if let Some(ago) = peer.seen_ago {
            text.sample(
                &names::GOSSIP_SEEN,
                &[&node.to_string()],
                Millis(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
            );
        }
    }
    text.head(&names::GOSSIP_CLOCK);
    for (node, peer) in &stats.peers {
        if let Some(ahead) = peer.clock_ahead_ms {
            text.sample(&names::GOSSIP_CLOCK, &[&node.to_string()], Millis(ahead));
        }
    }
    text.head(&names::GOSSIP_DATAGRAMS);
    text.sample(&names::GOSSIP_DATAGRAMS, &["sent"], stats.sent);
    text.sample(&names::GOSSIP_DATAGRAMS, &["received"], stats.received);
    text.single(&names::GOSSIP_UNSENT, stats.unsent);
    text.head(&names::GOSSIP_BYTES);
    text.sample(&names::GOSSIP_BYTES, &["sent"], stats.sent_bytes);
    text.sample(&names::GOSSIP_BYTES, &["received"], stats.received_bytes);
    text.head(&names::GOSSIP_REFUSED);
    // All of them from the first scrape on: a rate over a series that begins with its first refusal misses that one.
    for reason in Refused::ALL {
        text.sample(&names::GOSSIP_REFUSED, &[reason.word()], stats.refused.get(&reason).copied().unwrap_or(0));
    }
    text.head(&names::GOSSIP_DELAY);
    let bounds = names::bounds_us(&names::GOSSIP_DELAY);
    for (way, delays) in [("gossip", &stats.values_took), ("push", &stats.pushes_took)] {
        text.histogram_of(&names::GOSSIP_DELAY, &[way], &bounds, &delays.buckets, delays.count, delays.sum);
    }
    text.head(&names::GOSSIP_PUSHES);
    for (outcome, count) in
        [("pushed", stats.pushed), ("unconfirmed", stats.pushes_failed), ("dropped", stats.pushes_dropped)]
    {
        text.sample(&names::GOSSIP_PUSHES, &[outcome], count);
    }
    text.head(&names::GOSSIP_FACTS);
    for (outcome, count) in
        [("heard", stats.facts), ("repeated", stats.facts_repeated), ("dropped", stats.facts_dropped)]
    {
        text.sample(&names::GOSSIP_FACTS, &[outcome], count);
    }
    text.single(&names::GOSSIP_RESTARTS, stats.restarts);
}

/// Milliseconds of either sign that print as seconds, exactly.
struct Millis(i64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, millis) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:03}", millis / 1000, millis % 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use troupe_cluster::gossip::PeerStats;
    use troupe_proto::id::NodeId;

    use super::*;

    #[test]
    fn a_page_says_who_is_alive_what_was_refused_and_whose_clock_is_off() {
        let peer = |is_alive, ahead| PeerStats {
            is_alive,
            seen_ago: is_alive.map(|_| Duration::from_millis(1_250)),
            heard_ago: None,
            clock_ahead_ms: ahead,
        };
        let mut stats = Stats { sent: 9, ..Stats::default() };
        stats.peers.insert(NodeId(1), peer(Some(true), Some(-7)));
        stats.peers.insert(NodeId(2), peer(Some(false), Some(61_002)));
        stats.peers.insert(NodeId(3), peer(None, None));
        stats.refused.insert(Refused::TooOld, 4);
        stats.values_took.buckets[5] = 2;
        stats.values_took.count = 2;
        let mut text = Text::default();

        render(&stats, &mut text);

        let page = text.finish();
        for line in [
            r#"troupe_gossip_members{state="alive"} 1"#,
            r#"troupe_gossip_members{state="dead"} 1"#,
            r#"troupe_gossip_members{state="unheard"} 1"#,
            r#"troupe_gossip_seen_seconds{node="0000000000000002"} 1.250"#,
            r#"troupe_gossip_clock_ahead_seconds{node="0000000000000001"} -0.007"#,
            r#"troupe_gossip_clock_ahead_seconds{node="0000000000000002"} 61.002"#,
            r#"troupe_gossip_datagrams_total{direction="sent"} 9"#,
            r#"troupe_gossip_refused_total{reason="too_old"} 4"#,
            r#"troupe_gossip_refused_total{reason="replayed"} 0"#,
            r#"troupe_gossip_delay_seconds_bucket{way="gossip",le="0.05"} 0"#,
            r#"troupe_gossip_delay_seconds_bucket{way="gossip",le="0.1"} 2"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("seen_seconds{node=\"0000000000000003\"}"));
    }
}
