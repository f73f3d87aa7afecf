//! This node's part in gossip: begun once it knows its cluster, on the thread of consensus, where load stretches no round.
//!
//! ```text
//! cluster known, peer port bound ─▶ Gossip ─▶ board ─▶ watch that others read
//! agreed members ─▶ who is heard            facts that others push ─▶ taken by one who reads them
//! ```
//! A node without other nodes (it follows a file, or has no peer listener) has an empty board and no socket.

pub mod card;
pub(crate) mod health;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use troupe_cluster::forming::Door;
use troupe_cluster::gossip::{Board, Fact, Gossip, Members, Parts, SayError, Settings, Stats};
use troupe_cluster::transport::Transport;
use troupe_cluster::{Handle, Keyring, State};
use troupe_proto::id::ClusterId;

use crate::clock;

/// Facts of others that may wait to be read.
const FACTS_MAX: usize = 1024;

/// What the house knows of gossip. Clones share everything.
#[derive(Clone)]
pub struct Gossiping {
    begun: watch::Receiver<Option<Gossip>>,
    board: watch::Receiver<Arc<Board>>,
    facts: Arc<Mutex<Option<mpsc::Receiver<Fact>>>>,
}

/// What beginning takes, once the cluster is known.
pub(crate) struct Beginning {
    /// Bound to the peer port.
    pub(crate) socket: UdpSocket,
    /// What the cluster agreed on.
    pub(crate) handle: Handle,
    /// What datagrams are sealed with.
    pub(crate) keyring: Keyring,
    /// The way to push facts.
    pub(crate) transport: Transport,
    /// Lets facts of others in.
    pub(crate) door: Arc<Door>,
}

impl Gossiping {
    /// A node that hears nobody and is heard by nobody.
    pub fn silent() -> Self {
        Self { begun: watch::channel(None).1, board: watch::channel(Arc::default()).1, facts: Arc::default() }
    }

    /// Begins as soon as the cluster is known. Its tasks run on the runtime this is called in, and end with it.
    pub(crate) fn when_known(beginning: Beginning, cluster: watch::Receiver<Option<ClusterId>>) -> Self {
        let (facts, heard) = mpsc::channel(FACTS_MAX);
        let (begun, is_begun) = watch::channel(None);
        let (board, boards) = watch::channel(Arc::default());
        tokio::spawn(begin(beginning, cluster, facts, begun, board));
        Self { begun: is_begun, board: boards, facts: Arc::new(Mutex::new(Some(heard))) }
    }

    /// What the other members said last; empty before gossip has begun.
    pub fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.board.clone()
    }

    /// Gossip itself, once it has begun: at once, late, or never.
    pub async fn begun(&self) -> Gossip {
        let mut begun = self.begun.clone();
        loop {
            if let Some(gossip) = begun.borrow_and_update().as_ref() {
                return gossip.clone();
            }
            if begun.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Says something under a topic; before gossip has begun nobody hears it, and whoever says it says it again.
    ///
    /// # Errors
    /// As [`Gossip::put`].
    pub fn put(&self, topic: &str, bytes: &[u8]) -> Result<(), SayError> {
        self.begun.borrow().as_ref().map_or(Ok(()), |gossip| gossip.put(topic, bytes))
    }

    /// Says nothing under a topic any more.
    pub fn remove(&self, topic: &str) {
        if let Some(gossip) = self.begun.borrow().as_ref() {
            gossip.remove(topic);
        }
    }

    /// Tells all live members at once; before gossip has begun there are none.
    ///
    /// # Errors
    /// As [`Gossip::push`].
    pub fn push(&self, bytes: &[u8]) -> Result<(), SayError> {
        self.begun.borrow().as_ref().map_or(Ok(()), |gossip| gossip.push(bytes))
    }

    /// The facts that others push here. There is one reader: the first who asks.
    pub fn take_facts(&self) -> Option<mpsc::Receiver<Fact>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Its numbers; `None` before it has begun.
    pub fn stats(&self) -> Option<Stats> {
        self.begun.borrow().as_ref().map(Gossip::stats)
    }
}

async fn begin(
    beginning: Beginning,
    mut cluster: watch::Receiver<Option<ClusterId>>,
    facts: mpsc::Sender<Fact>,
    begun: watch::Sender<Option<Gossip>>,
    board: watch::Sender<Arc<Board>>,
) {
    let Ok(Some(cluster)) = cluster.wait_for(Option::is_some).await.map(|known| *known) else { return };
    let Beginning { socket, handle, keyring, transport, door } = beginning;
    let process = handle.process();
    let (members, agreed) = watch::channel(members_of(&handle.state()));
    let parts = Parts {
        node: process.node,
        incarnation: process.incarnation,
        cluster,
        keyring,
        socket,
        members: agreed,
        links: Arc::new(transport),
        facts,
        wall: Arc::new(clock::unix_millis),
        settings: Settings::default(),
    };
    let gossip = match Gossip::start(parts).await {
        Ok(gossip) => gossip,
        Err(error) => {
            return tracing::error!(%error, "no gossip: datagrams on the loopback are not delivered; is it up?");
        }
    };
    door.hear(gossip.service());
    let mut boards = gossip.board();
    begun.send_replace(Some(gossip));
    let mut states = handle.watch();
    loop {
        tokio::select! {
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = members_of(&states.borrow_and_update());
                members.send_if_modified(|known| {
                    let is_news = *known != now;
                    *known = now;
                    is_news
                });
            }
            changed = boards.changed() => {
                if changed.is_err() {
                    return;
                }
                board.send_replace(Arc::clone(&boards.borrow_and_update()));
            }
        }
    }
}

fn members_of(state: &State) -> Members {
    Arc::new(state.members().iter().map(|(node, member)| (*node, member.peer.clone())).collect())
}
