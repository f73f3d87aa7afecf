//! Nodes that gossip over real sockets, and those who want to hear or to lie.

mod intruders;
mod life;
mod pushes;
mod spread;

use std::sync::atomic::AtomicI64;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::*;
use crate::clock;
use crate::transport::{CallError, Class};

const CLUSTER: ClusterId = ClusterId(7);
const SOON: Duration = Duration::from_secs(20);

/// Waits for a claim to come true.
async fn eventually(claim: &str, mut is_true: impl FnMut() -> bool) {
    let wait = async {
        while !is_true() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {claim}"));
}

/// The way to other nodes of one test: calls go straight to whom they are for.
#[derive(Clone, Default)]
struct Switchboard(Arc<Mutex<BTreeMap<NodeId, Arc<dyn Service>>>>);

/// One node's end of it.
struct Line(Switchboard, crate::transport::Caller);

impl Links for Line {
    fn call(
        &self,
        to: NodeId,
        _address: &str,
        class: Class,
        body: Vec<u8>,
        _within: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        assert_eq!(class, Class::Push);
        let service = self.0.0.lock().unwrap().get(&to).cloned();
        async move {
            match service {
                Some(service) => Ok(service.serve(self.1.clone(), body).await),
                None => Err(CallError::Unreachable),
            }
        }
        .boxed()
    }
}

/// What the nodes of one test share.
struct World {
    members: watch::Sender<Members>,
    lines: Switchboard,
    wall: Arc<AtomicI64>,
    /// Where all nodes are told that all others are, instead of where they are.
    through: Option<SocketAddr>,
}

struct Node {
    gossip: Gossip,
    facts: mpsc::Receiver<Fact>,
    address: SocketAddr,
    id: NodeId,
}

impl World {
    fn new() -> Self {
        let wall = Arc::new(AtomicI64::new(1_000_000_000));
        Self { members: watch::Sender::new(Members::default()), lines: Switchboard::default(), wall, through: None }
    }

    async fn node(&self, id: u64) -> Node {
        self.start(id, 1, &[1], bind(([127, 0, 0, 1], 0).into()).await.unwrap()).await
    }

    /// A node in one of its lives, with these seal keys.
    async fn start(&self, id: u64, incarnation: u64, keys: &[u8], socket: UdpSocket) -> Node {
        let (id, address) = (NodeId(id), socket.local_addr().unwrap());
        let (facts, heard) = mpsc::channel(64);
        self.members.send_modify(|members| {
            Arc::make_mut(members).insert(id, self.through.unwrap_or(address).to_string());
        });
        let caller = crate::transport::Caller {
            node: id,
            class: Class::Push,
            incarnation,
            cluster: Some(CLUSTER),
            peer: address.to_string(),
            version: 1,
            is_verified: true,
        };
        let wall = Arc::clone(&self.wall);
        let parts = Parts {
            node: id,
            incarnation,
            cluster: CLUSTER,
            keyring: datagram::tests::keyring(keys),
            socket,
            members: self.members.subscribe(),
            links: Arc::new(Line(self.lines.clone(), caller)),
            facts,
            wall: Arc::new(move || wall.load(Ordering::Relaxed)),
            settings: Settings::default(),
        };
        let gossip = Gossip::start(parts).await.unwrap();
        self.lines.0.lock().unwrap().insert(id, gossip.service());
        Node { gossip, facts: heard, address, id }
    }
}

impl Node {
    fn sees(&self, other: &Self, topic: &str) -> Option<Vec<u8>> {
        let board = self.gossip.board().borrow().clone();
        Some(board.peers.get(&other.id)?.values.get(topic)?.to_vec())
    }

    fn is_alive_here(&self, other: &Self) -> bool {
        self.gossip.board().borrow().peers.get(&other.id).is_some_and(|peer| peer.is_alive)
    }

    fn refused(&self, reason: Refused) -> u64 {
        self.gossip.stats().refused.get(&reason).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn two_nodes_see_what_each_says() {
    let world = World::new();
    let (one, two) = (world.node(1).await, world.node(2).await);

    one.gossip.put("card", b"I am one").unwrap();
    two.gossip.put("card", b"I am two").unwrap();

    eventually("each sees the other's word", || {
        one.sees(&two, "card").as_deref() == Some(b"I am two") && two.sees(&one, "card").as_deref() == Some(b"I am one")
    })
    .await;
    eventually("and that it is alive", || one.is_alive_here(&two) && two.is_alive_here(&one)).await;
    assert_eq!(one.gossip.stats().refused, BTreeMap::new());
}
