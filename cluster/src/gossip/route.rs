//! Where datagrams go. chitchat knows nodes by addresses that no network has, one for each node id; so a node that moves
//! stays who it is, and no word of one node sends datagrams of another to a place that the cluster did not agree on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::{Instant, timeout};
use troupe_proto::id::NodeId;

/// The members of the cluster, and where each listens: `host:port`.
pub type Members = Arc<BTreeMap<NodeId, String>>;

/// A prefix of unique local addresses, which never leaves a machine.
const PREFIX: [u8; 8] = *b"\xfdtroupe\0";
/// chitchat wants one.
const PORT: u16 = 1;
/// Answers go where a node was heard from this long.
const HEARD_MAX: Duration = Duration::from_secs(5);
/// What looking up one name may take.
const LOOKUP_MAX: Duration = Duration::from_secs(2);
/// Names that are looked up at once.
const LOOKUPS: usize = 8;

/// The address that stands for a node.
pub(super) fn stand_in(node: NodeId) -> SocketAddr {
    let mut octets = [0; 16];
    let bytes = PREFIX.into_iter().chain(node.0.to_be_bytes());
    octets.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    (Ipv6Addr::from(octets), PORT).into()
}

/// The node that an address stands for.
pub(super) fn node_of(address: SocketAddr) -> Option<NodeId> {
    let (IpAddr::V6(ip), PORT) = (address.ip(), address.port()) else { return None };
    let octets = ip.octets();
    let (prefix, node) = octets.split_first_chunk::<8>()?;
    (*prefix == PREFIX).then_some(())?;
    Some(NodeId(u64::from_be_bytes(node.try_into().ok()?)))
}

/// Where each member is.
#[derive(Debug, Default)]
pub(super) struct Routes {
    looked_up: BTreeMap<NodeId, SocketAddr>,
    heard: BTreeMap<NodeId, (SocketAddr, Instant)>,
}

impl Routes {
    /// A datagram of a node was taken that came from here.
    pub(super) fn heard(&mut self, node: NodeId, from: SocketAddr, now: Instant) {
        self.heard.insert(node, (from, now));
    }

    /// Where names led; a name that led nowhere this time keeps where it led before.
    pub(super) fn looked_up(&mut self, found: BTreeMap<NodeId, SocketAddr>, members: &Members) {
        self.looked_up.extend(found);
        self.looked_up.retain(|node, _| members.contains_key(node));
        self.heard.retain(|node, _| members.contains_key(node));
    }

    /// Where to reach a node: where it was heard from a moment ago, else where its name leads.
    pub(super) fn to(&self, node: NodeId, now: Instant) -> Option<SocketAddr> {
        let heard = self.heard.get(&node);
        let fresh = heard.filter(|(_, at)| now.duration_since(*at) <= HEARD_MAX);
        let known = self.looked_up.get(&node);
        fresh.map(|(from, _)| *from).or(known.copied()).or(heard.map(|(from, _)| *from))
    }
}

/// Looks up where members are, as a socket at `local` can reach them.
pub(super) async fn look_up(members: &Members, me: NodeId, local: SocketAddr) -> BTreeMap<NodeId, SocketAddr> {
    let mut others: Vec<_> = members.iter().map(|(node, peer)| (*node, peer.clone())).collect();
    others.retain(|(node, _)| *node != me);
    let found = stream::iter(others).map(|(node, peer)| async move {
        let answers = timeout(LOOKUP_MAX, tokio::net::lookup_host(peer)).await;
        let reachable = answers.ok()?.ok()?.find_map(|address| reachable(address, local))?;
        Some((node, reachable))
    });
    found.buffer_unordered(LOOKUPS).filter_map(std::future::ready).collect().await
}

/// An address in the form that a socket of this family can send to.
fn reachable(address: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    match (address.ip(), local.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(address),
        (IpAddr::V4(ip), IpAddr::V6(local)) if local.is_unspecified() => {
            Some((ip.to_ipv6_mapped(), address.port()).into())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_an_address_of_its_own_that_leads_back_to_it() {
        for id in [1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(node_of(stand_in(NodeId(id))), Some(NodeId(id)));
        }
        for stranger in ["127.0.0.1:1", "[::1]:1", "[fd74:726f:7570:6500::1]:2"] {
            assert_eq!(node_of(stranger.parse().unwrap()), None, "{stranger}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_where_a_node_was_heard_and_later_where_its_name_leads() {
        let (node, named, heard) = (NodeId(1), "10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let members: Members = Arc::new(BTreeMap::from([(node, String::new())]));
        let (mut routes, begin) = (Routes::default(), crate::clock::now());

        assert_eq!(routes.to(node, begin), None);
        routes.heard(node, heard, begin);
        assert_eq!(routes.to(node, begin + HEARD_MAX * 9), Some(heard), "better than nothing");
        routes.looked_up(BTreeMap::from([(node, named)]), &members);

        assert_eq!(routes.to(node, begin + HEARD_MAX), Some(heard));
        assert_eq!(routes.to(node, begin + HEARD_MAX * 2), Some(named));
        routes.looked_up(BTreeMap::new(), &members);
        assert_eq!(routes.to(node, begin + HEARD_MAX * 2), Some(named), "a name that leads nowhere now");
        routes.looked_up(BTreeMap::new(), &Members::default());
        assert_eq!(routes.to(node, begin), None, "no member any more");
    }

    #[test]
    fn a_socket_reaches_its_own_family_and_the_unspecified_one_both() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (four, six) = (parse("10.0.0.1:5"), parse("[2001:db8::1]:5"));

        assert_eq!(reachable(four, parse("0.0.0.0:1")), Some(four));
        assert_eq!(reachable(six, parse("0.0.0.0:1")), None);
        assert_eq!(reachable(six, parse("[::]:1")), Some(six));
        assert_eq!(reachable(four, parse("[::]:1")), Some(parse("[::ffff:10.0.0.1]:5")));
        assert_eq!(reachable(four, parse("[::1]:1")), None);
    }
}
