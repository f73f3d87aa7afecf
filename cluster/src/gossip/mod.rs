//! What nodes tell each other without agreeing on it: who is alive, and what each last said under its topics.
//!
//! ```text
//! put ─▶ chitchat ─ loopback codec ─ seal ─▶ UDP, the peer port ─▶ open, check ─ codec ─▶ chitchat ─▶ Board
//! push ─▶ Class::Push over the transport, to all live members at once ─▶ Fact
//! ```
//! Every 100 ms a node compares notes with up to three others, so that a word is everywhere after a round or two. What
//! gossip says may be late or wrong: it steers routing, never membership, leadership or money. This module carries bytes and
//! knows nothing of what they mean.

pub mod datagram;
pub mod guard;

mod board;
mod codec;
mod counts;
mod keep;
mod push;
mod route;
mod socket;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use troupe_proto::id::{ClusterId, NodeId};

pub use board::{Board, Peer};
pub use counts::{DELAY_BOUNDS, Delays, PeerStats, Stats};
pub use guard::{AGE_MAX, Refused};
pub use push::{FACT_MAX, Fact, Push};
pub use route::Members;

use crate::seal::Keyring;
use crate::transport::{Links, Service};
use counts::Book;
use datagram::Keys;
use guard::Guard;
use push::Ear;
use socket::{Plug, Wire};

/// The wall clock, in milliseconds since 1970.
pub type Wall = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The most bytes of a topic's name.
pub const TOPIC_MAX: usize = 128;
/// The most bytes of a value.
pub const VALUE_MAX: usize = 24 << 10;
/// The most bytes of all that a node says. chitchat passes notes on in messages of 64 KiB; what is far beyond starves the
/// small and urgent.
pub const SAID_MAX: usize = 128 << 10;

/// How often notes are compared, and how long silence means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Between two rounds.
    pub interval: Duration,
    /// A node is dead when it is silent for so many times its usual interval.
    pub phi: f64,
    /// And not before it is silent for this long: on a machine that is busy the usual interval says little.
    pub silence_min: Duration,
    /// How long what a dead node said is kept; it is told to others for half of that.
    pub keep_dead: Duration,
    /// How long it is remembered that a topic was removed.
    pub keep_removed: Duration,
    /// How often the names of members are looked up.
    pub look_up_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            phi: 10.0,
            silence_min: Duration::from_secs(1),
            keep_dead: Duration::from_secs(600),
            keep_removed: Duration::from_secs(600),
            look_up_every: Duration::from_secs(10),
        }
    }
}

/// What gossip is made of.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Which start of its process this is.
    pub incarnation: u64,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Datagrams are sealed under keys that come from these.
    pub keyring: Keyring,
    /// Where datagrams come and go: bound to the peer port.
    pub socket: UdpSocket,
    /// The members of the cluster, this node among them or not.
    pub members: watch::Receiver<Members>,
    /// The way to push facts.
    pub links: Arc<dyn Links>,
    /// Where facts go that others push.
    pub facts: mpsc::Sender<Fact>,
    /// The wall clock.
    pub wall: Wall,
    /// How often, how long.
    pub settings: Settings,
}

/// Why something is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// The topic's name, the value or the fact is too long.
    #[error("{bytes} bytes, at most {limit} can be said at once")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// This node says too much already.
    #[error("this node says {} bytes already, or nearly", SAID_MAX)]
    Full,
    /// Too many facts wait to be pushed.
    #[error("too many facts wait to be pushed")]
    Busy,
}

/// This node's part in gossip, until its last clone is dropped.
#[derive(Clone)]
pub struct Gossip {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// What the tasks of gossip share.
struct Shared {
    said: Mutex<Said>,
    /// There is something to say.
    says: Notify,
    board: watch::Sender<Arc<Board>>,
    seen: Mutex<BTreeMap<NodeId, PeerStats>>,
    pushes: mpsc::Sender<Push>,
    pushed: AtomicU64,
    ear: Arc<Ear>,
    book: Arc<Book>,
    wall: Wall,
    /// Makes chitchat fall, as a fault of it would.
    #[cfg(test)]
    fault: Notify,
}

/// What this node says.
#[derive(Default)]
struct Said {
    values: BTreeMap<String, (Arc<[u8]>, i64)>,
    /// Topics that chitchat does not know the last word of.
    news: BTreeSet<String>,
}

/// Ends the tasks with the last clone.
struct Owner(Vec<AbortHandle>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Gossip {
    /// Begins to gossip, on the runtime this is called in.
    ///
    /// # Errors
    /// Those of the system when the loopback carries no datagrams; nothing runs then.
    pub async fn start(parts: Parts) -> io::Result<Self> {
        // It fails here what would fail in each round.
        codec::Codec::open().await?;
        let Parts { node, incarnation, cluster, keyring, socket, members, links, facts, wall, settings } = parts;
        let book = Arc::new(Book::default());
        let keys = Keys::of(&keyring, cluster);
        let wire = Wire {
            guard: Mutex::new(Guard::new(node, cluster, keys.clone())),
            udp: socket,
            cluster,
            me: node,
            incarnation,
            keys,
            wall: Arc::clone(&wall),
            members: members.clone(),
            routes: Mutex::default(),
            seq: AtomicU64::new(1),
            book: Arc::clone(&book),
        };
        let wire = Arc::new(wire);
        let every = settings.look_up_every;
        let follows = tokio::spawn({
            let wire = Arc::clone(&wire);
            async move { wire.follow(every).await }
        });
        let begun = Begun { node, incarnation, members, links, facts, wall, settings, book };
        Ok(Self::over(begun, Arc::new(Plug(wire)), vec![follows.abort_handle()]))
    }

    /// Gossips over a transport of chitchat's.
    fn over(begun: Begun, transport: Arc<dyn chitchat::transport::Transport>, mut tasks: Vec<AbortHandle>) -> Self {
        let Begun { node, incarnation, members, links, facts, wall, settings, book } = begun;
        let (pushes, to_push) = mpsc::channel(push::FACTS_MAX);
        let ear = Ear {
            members: members.clone(),
            facts,
            book: Arc::clone(&book),
            wall: Arc::clone(&wall),
            seen: Mutex::default(),
        };
        let shared = Arc::new(Shared {
            said: Mutex::default(),
            says: Notify::new(),
            board: watch::Sender::new(Arc::default()),
            seen: Mutex::default(),
            pushes,
            pushed: AtomicU64::new(1),
            ear: Arc::new(ear),
            book: Arc::clone(&book),
            wall,
            #[cfg(test)]
            fault: Notify::new(),
        });
        let keeper = keep::Keeper { node, incarnation, members, settings, shared: Arc::clone(&shared) };
        tasks.push(tokio::spawn(keeper.run(transport)).abort_handle());
        tasks.push(tokio::spawn(push::run(to_push, shared.board.subscribe(), links, book)).abort_handle());
        Self { shared, _owner: Arc::new(Owner(tasks)) }
    }

    /// Says something under a topic, until something else is said there. The same bytes again are no news.
    ///
    /// # Errors
    /// [`SayError::TooLarge`], [`SayError::Full`]; what was said before stands then.
    pub fn put(&self, topic: &str, bytes: &[u8]) -> Result<(), SayError> {
        for (length, limit) in [(topic.len(), TOPIC_MAX), (bytes.len(), VALUE_MAX)] {
            if length > limit {
                return Err(SayError::TooLarge { bytes: length, limit });
            }
        }
        let mut said = self.shared.said();
        if said.values.get(topic).is_some_and(|(known, _)| **known == *bytes) {
            return Ok(());
        }
        let others = said.values.iter().filter(|(other, _)| *other != topic);
        let length = others.map(|(other, (value, _))| other.len() + value.len()).sum::<usize>();
        if length + topic.len() + bytes.len() > SAID_MAX {
            return Err(SayError::Full);
        }
        said.values.insert(topic.to_owned(), (bytes.into(), (self.shared.wall)()));
        said.news.insert(topic.to_owned());
        drop(said);
        self.shared.says.notify_one();
        Ok(())
    }

    /// Says nothing under a topic any more.
    pub fn remove(&self, topic: &str) {
        let mut said = self.shared.said();
        if said.values.remove(topic).is_some() {
            said.news.insert(topic.to_owned());
            drop(said);
            self.shared.says.notify_one();
        }
    }

    /// What the other members said last. It changes with what they say, and with who is alive.
    pub fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.shared.board.subscribe()
    }

    /// Tells all live members at once, each at most once. Who is not reached is not told again: what must be known is put
    /// under a topic as well.
    ///
    /// # Errors
    /// [`SayError::TooLarge`] and [`SayError::Busy`]; nobody is told then.
    pub fn push(&self, bytes: &[u8]) -> Result<(), SayError> {
        if bytes.len() > FACT_MAX {
            return Err(SayError::TooLarge { bytes: bytes.len(), limit: FACT_MAX });
        }
        let seq = self.shared.pushed.fetch_add(1, Ordering::Relaxed);
        let push = Push { seq, said_ms: (self.shared.wall)(), bytes: bytes.to_vec() };
        self.shared.pushes.try_send(push).map_err(|_| {
            self.shared.book.note(|stats| stats.pushes_dropped += 1);
            SayError::Busy
        })
    }

    /// Takes the calls of class [`crate::transport::Class::Push`].
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.shared.ear) as _
    }

    /// The numbers at this moment.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.book.read();
        stats.peers = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (node, peer) in &mut stats.peers {
            let heard = self.shared.book.heard(*node);
            (peer.heard_ago, peer.clock_ahead_ms) = heard.unzip();
        }
        stats
    }
}

/// What gossip needs over any transport.
struct Begun {
    node: NodeId,
    incarnation: u64,
    members: watch::Receiver<Members>,
    links: Arc<dyn Links>,
    facts: mpsc::Sender<Fact>,
    wall: Wall,
    settings: Settings,
    book: Arc<Book>,
}

impl Shared {
    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket for gossip at an address.
///
/// # Errors
/// Those of the system.
pub async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}
