//! What becomes of a node whose consensus stopped, and of one that the others refuse.
//!
//! ```text
//! disk full, entry unreadable ──▶ consensus stops ──▶ serves by what it holds ──▶ freshness bound over ──▶ unready, drains, 1
//!                                                     no change is taken here
//! ```
//! What requests read was agreed on, so it may be served for as long as it is fresh (KEY-1): a full disk must not take
//! the data plane down with it. Behind the bound the process is of no more use, and a new one may find room. Where the
//! bound is `never`, it serves until an operator stops it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use troupe_cluster::transport::Rejected;

use crate::clock;
use crate::house::House;
use crate::peers::Peers;
use crate::troubles::Trouble;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a quorum must have been silent before refusals of other nodes are what keeps this one from it.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a refusal counts: connections are tried again more often than that.
const REFUSED_FOR: Duration = Duration::from_secs(20);

/// Looks after a node for as long as it runs: tells operators what keeps it from the others, and says in `over` when it
/// may serve no more.
pub async fn watch(house: Arc<House>, peers: Arc<Peers>, over: watch::Sender<Option<String>>) {
    let (mut refusals, began) = (Refusals::default(), clock::now());
    loop {
        let (now, freshness) = (clock::now(), house.agreement.freshness());
        let troubles = house.health.troubles();
        if let Some(why) = peers.stopped() {
            let text = format!(
                "consensus stopped at this node ({why}): it takes no change, and serves by what it holds until that is \
                 too old (policies.freshness), then it ends, to be started anew; make room on its disk, or look at its \
                 log, and restart it"
            );
            troubles.set(Trouble::Stopped, Some(text), now);
            if !freshness.is_fresh(now) {
                over.send_replace(Some(format!(
                    "consensus stopped here ({why}), and what this node holds is too old to be served"
                )));
                return;
            }
        }
        let is_silent = freshness.age(now).unwrap_or(now.saturating_duration_since(began)) >= SILENCE;
        let latest = refusals.latest(&peers.transport.counts().rejected_out, now);
        let refused = latest.filter(|_| is_silent);
        troubles.set(Trouble::Refused, refused.and_then(told), now);
        troubles.set(Trouble::Certificates, peers.unusable_certificates(), now);
        sleep(LOOK_EVERY).await;
    }
}

/// What to say of a refusal; nothing of one that passes by itself, or is no fault.
fn told(why: Rejected) -> Option<String> {
    let hint = match why {
        Rejected::ForeignSealKey => "; this node's cluster.seal_key is not the others': give it theirs, and restart it",
        Rejected::CertificateExpired => "; look at the certificates' dates (`troupe cert show`) and at the clocks",
        Rejected::CertificateUntrusted => "; its certificate, or cluster.tls.ca, is of another authority",
        Rejected::CertificateForeign => "; its certificate is another node's, or another cluster's",
        Rejected::NoCertificate => "; one of the two has no certificate",
        Rejected::Tls => "; one of the two may speak without TLS (cluster.plain)",
        Rejected::Version => "; one of the two is of a build that is too old",
        Rejected::ForeignCluster => "; it was formed apart, or its data directory is another cluster's",
        Rejected::WrongNode
        | Rejected::OwnId
        | Rejected::Superseded
        | Rejected::Malformed
        | Rejected::TooLarge
        | Rejected::Slow
        | Rejected::Busy => return None,
    };
    Some(format!("other nodes and this one refuse each other, and no quorum answers it: {why}{hint}"))
}

/// Which refusals are new.
#[derive(Default)]
struct Refusals {
    counted: BTreeMap<Rejected, u64>,
    last: Option<(Rejected, Instant)>,
}

impl Refusals {
    /// The refusal that was counted last, if that is no longer ago than connections are tried again.
    fn latest(&mut self, counts: &BTreeMap<Rejected, u64>, now: Instant) -> Option<Rejected> {
        let grew = counts.iter().find(|(why, count)| self.counted.get(why).unwrap_or(&0) < *count);
        if let Some((why, _)) = grew {
            self.last = Some((*why, now));
        }
        self.counted.clone_from(counts);
        self.last.filter(|(_, at)| now.saturating_duration_since(*at) < REFUSED_FOR).map(|(why, _)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_that_is_counted_again_and_again_is_told_until_it_stops() {
        let (mut refusals, began) = (Refusals::default(), clock::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let counts = |busy, key| BTreeMap::from([(Rejected::Busy, busy), (Rejected::ForeignSealKey, key)]);

        assert_eq!(refusals.latest(&BTreeMap::new(), at(0)), None);
        assert_eq!(refusals.latest(&counts(1, 0), at(1)), Some(Rejected::Busy));
        assert_eq!(refusals.latest(&counts(1, 2), at(2)), Some(Rejected::ForeignSealKey));
        assert_eq!(refusals.latest(&counts(1, 2), at(21)), Some(Rejected::ForeignSealKey));
        assert_eq!(refusals.latest(&counts(1, 2), at(22)), None);
        assert!(told(Rejected::ForeignSealKey).unwrap().contains("cluster.seal_key"));
        assert_eq!(told(Rejected::Busy), None);
    }
}
