//! What each node said last, as this one heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chitchat::{Chitchat, NodeState};
use tokio::time::Instant;
use troupe_proto::id::NodeId;

use super::counts::{Book, between};
use super::route::{self, Members};

/// What the other members said last, and which of them are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// The other members that were heard of.
    pub peers: BTreeMap<NodeId, Peer>,
}

impl Board {
    /// Those that are alive.
    pub fn live(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_alive).map(|(node, peer)| (*node, peer))
    }
}

/// One other member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Which start of its process said what stands here.
    pub incarnation: u64,
    /// Where it listens for other nodes: `host:port`, as the cluster agreed.
    pub address: String,
    /// Whether it gives signs of life. What one said that does not is kept for a while.
    pub is_alive: bool,
    /// What it said last, by topic.
    pub values: BTreeMap<String, Arc<[u8]>>,
}

/// chitchat's generations are starts of gossip: more than one only where it had to be begun anew in one process.
const RESTART_BITS: u32 = 16;

/// The generation of one start of gossip in one start of a process.
pub(super) const fn generation(incarnation: u64, restarts: u16) -> u64 {
    (incarnation << RESTART_BITS) | restarts as u64
}

/// A value as chitchat carries it, with when it was said.
pub(super) fn text(bytes: &[u8], said_ms: i64) -> String {
    BASE64.encode([&said_ms.to_le_bytes(), bytes].concat())
}

fn value(text: &str) -> Option<(i64, Arc<[u8]>)> {
    let bytes = BASE64.decode(text).ok()?;
    let (said, bytes) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*said), bytes.into()))
}

/// Reads chitchat's state again and again.
#[derive(Default)]
pub(super) struct Reader {
    seen: BTreeMap<NodeId, Seen>,
}

/// What was read of one node.
struct Seen {
    generation: u64,
    version: u64,
    heartbeat: u64,
    /// When it was first heard of. What was said before took as long as nobody was there to hear it.
    first_ms: i64,
    /// When the heartbeat grew last. The first one that is heard may be that of a node long dead.
    grown: Option<Instant>,
    values: BTreeMap<String, Arc<[u8]>>,
}

/// When the state is read, and what for.
pub(super) struct Look<'a> {
    pub(super) me: NodeId,
    pub(super) members: &'a Members,
    pub(super) now: Instant,
    pub(super) wall_ms: i64,
    /// A node is not dead before it was silent for this long, however regular it was before.
    pub(super) silence_min: Duration,
}

impl Reader {
    /// What the other members said last.
    pub(super) fn read(&mut self, chat: &Chitchat, look: &Look<'_>, book: &Book) -> Board {
        let live: BTreeSet<_> = chat.live_nodes().collect();
        let mut newest: BTreeMap<NodeId, &NodeState> = BTreeMap::new();
        // In the order of node and generation.
        for (id, state) in chat.node_states() {
            let Ok(node) = id.node_id.parse::<NodeId>() else { continue };
            let is_other = node != look.me && look.members.contains_key(&node);
            if is_other && id.gossip_advertise_addr == route::stand_in(node) {
                newest.insert(node, state);
            }
        }
        self.seen.retain(|node, _| newest.contains_key(node));
        let peers = newest.into_iter().map(|(node, state)| {
            let seen = self.look_at(node, state, look, book);
            let is_recent = seen.grown.is_some_and(|at| look.now.duration_since(at) < look.silence_min);
            let peer = Peer {
                incarnation: seen.generation >> RESTART_BITS,
                address: look.members.get(&node).cloned().unwrap_or_default(),
                is_alive: is_recent || live.contains(state.chitchat_id()),
                values: seen.values.clone(),
            };
            (node, peer)
        });
        Board { peers: peers.collect() }
    }

    /// When a node's heartbeat grew last.
    pub(super) fn grown(&self, node: NodeId) -> Option<Instant> {
        self.seen.get(&node)?.grown
    }

    fn look_at(&mut self, node: NodeId, state: &NodeState, look: &Look<'_>, book: &Book) -> &Seen {
        let generation = state.chitchat_id().generation_id;
        let heartbeat = u64::from(state.heartbeat());
        let first = || Seen::first(generation, heartbeat, look.wall_ms);
        let seen = self.seen.entry(node).or_insert_with(first);
        if seen.generation != generation {
            *seen = first();
        }
        if heartbeat > seen.heartbeat {
            (seen.heartbeat, seen.grown) = (heartbeat, Some(look.now));
        }
        if state.max_version() == seen.version {
            return seen;
        }
        let known = std::mem::take(&mut seen.values);
        for (topic, versioned) in state.key_values_including_deleted() {
            if versioned.is_deleted() {
                continue;
            }
            let read = match known.get(topic) {
                Some(known) if versioned.version <= seen.version => Arc::clone(known),
                Some(_) | None => match value(&versioned.value) {
                    Some((said_ms, value)) => {
                        if said_ms >= seen.first_ms {
                            book.value_took(between(said_ms, look.wall_ms));
                        }
                        value
                    }
                    None => continue,
                },
            };
            seen.values.insert(topic.to_owned(), read);
        }
        seen.version = state.max_version();
        seen
    }
}

impl Seen {
    const fn first(generation: u64, heartbeat: u64, first_ms: i64) -> Self {
        Self { generation, version: 0, heartbeat, first_ms, grown: None, values: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_later_process_is_a_later_generation_however_often_gossip_was_begun() {
        assert!(generation(2, 0) > generation(1, u16::MAX));
        assert!(generation(1, 1) > generation(1, 0));
        assert_eq!(generation(3, 7) >> RESTART_BITS, 3);
    }

    #[test]
    fn a_text_that_is_no_value_is_none() {
        for text in ["", "AAAA", "no base64!", "===="] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were(bytes in prop::collection::vec(any::<u8>(), 0..100), said in any::<i64>()) {
            let (when, read) = value(&text(&bytes, said)).unwrap();

            prop_assert_eq!((when, &*read), (said, &*bytes));
        }
    }
}
