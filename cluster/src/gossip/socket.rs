//! chitchat's socket: what it says is sealed and sent, what comes is opened and checked before chitchat hears of it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use troupe_proto::id::{ClusterId, NodeId};

use super::Wall;
use super::codec::Codec;
use super::counts::Book;
use super::datagram::{DATAGRAM_MAX, Head, Keys, PART_MAX};
use super::guard::{Guard, Refused};
use super::route::{self, Members, Routes};
use crate::clock;

/// Messages that may wait for chitchat; the system's own queue is behind it.
const INBOX: usize = 64;
/// After so many refusals in a row the socket is left alone for a moment: whoever floods it shall not have the thread.
const REFUSALS_MAX: u32 = 64;
/// That moment.
const BREATH: Duration = Duration::from_millis(1);

/// This node's one socket for gossip, and who may use it.
pub(super) struct Wire {
    pub(super) udp: UdpSocket,
    pub(super) cluster: ClusterId,
    pub(super) me: NodeId,
    pub(super) incarnation: u64,
    pub(super) keys: Keys,
    pub(super) wall: Wall,
    pub(super) members: watch::Receiver<Members>,
    pub(super) guard: Mutex<Guard>,
    pub(super) routes: Mutex<Routes>,
    pub(super) seq: AtomicU64,
    pub(super) book: Arc<Book>,
}

impl Wire {
    async fn send(&self, to: NodeId, message: &[u8]) {
        let route = self.routes.lock().unwrap_or_else(PoisonError::into_inner).to(to, clock::now());
        let Some(address) = route else { return self.book.note(|stats| stats.unsent += 1) };
        let chunks = message.chunks(PART_MAX);
        let Ok(parts) = u8::try_from(chunks.len()) else { return self.book.note(|stats| stats.unsent += 1) };
        let first = self.seq.fetch_add(parts.into(), Ordering::Relaxed);
        for (part, chunk) in (0..parts).zip(chunks) {
            let head = Head {
                part,
                parts,
                key: self.keys.current(),
                cluster: self.cluster,
                from: self.me,
                incarnation: self.incarnation,
                to,
                sent_ms: (self.wall)(),
                seq: first + u64::from(part),
            };
            let sent = match self.keys.seal(&head, chunk) {
                Ok(datagram) => self.udp.send_to(&datagram, address).await,
                Err(error) => Err(io::Error::other(error)),
            };
            match sent {
                Ok(bytes) => self.book.sent(bytes),
                Err(error) => {
                    tracing::trace!(node = %to, %error, "a datagram of gossip was not sent");
                    return self.book.note(|stats| stats.unsent += 1);
                }
            }
        }
    }

    /// Waits for the next message of another node.
    async fn next(&self) -> (NodeId, SocketAddr, Vec<u8>) {
        let mut buffer = [0; DATAGRAM_MAX + 1];
        let mut refusals = 0_u32;
        loop {
            let (length, from) = match self.udp.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "no datagram of gossip could be received");
                    sleep(BREATH).await;
                    continue;
                }
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let taken = {
                let members = self.members.borrow();
                let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
                guard.take(datagram, (self.wall)(), |node| members.contains_key(&node))
            };
            match taken {
                Ok(taken) => {
                    refusals = 0;
                    self.book.took(length, taken.from, taken.ahead_ms);
                    let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
                    routes.heard(taken.from, from, clock::now());
                    drop(routes);
                    if let Some(message) = taken.message {
                        return (taken.from, from, message);
                    }
                }
                Err(reason) => {
                    self.book.refused(reason, &from);
                    refusals = refusals.wrapping_add(1);
                    if refusals.is_multiple_of(REFUSALS_MAX) {
                        sleep(BREATH).await;
                    }
                }
            }
        }
    }

    /// Follows where members are.
    pub(super) async fn follow(&self, every: Duration) {
        let mut members = self.members.clone();
        loop {
            let now: Members = members.borrow_and_update().clone();
            let is_member = |node: NodeId| now.contains_key(&node);
            self.guard.lock().unwrap_or_else(PoisonError::into_inner).keep(is_member);
            self.book.keep(is_member);
            let found = match self.udp.local_addr() {
                Ok(local) => route::look_up(&now, self.me, local).await,
                Err(_) => BTreeMap::new(),
            };
            self.routes.lock().unwrap_or_else(PoisonError::into_inner).looked_up(found, &now);
            tokio::select! {
                () = sleep(every) => {}
                changed = members.changed() => if changed.is_err() {
                    sleep(every).await;
                },
            }
        }
    }
}

/// Gives chitchat its socket, as often as it has to be begun anew.
pub(super) struct Plug(pub(super) Arc<Wire>);

#[async_trait]
impl Transport for Plug {
    async fn open(&self, address: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (heard, inbox) = mpsc::channel(INBOX);
        let (codec, wire) = (Codec::open().await?, Arc::clone(&self.0));
        let decoder = Codec::open().await?;
        let pump = tokio::spawn(pump(Arc::clone(&wire), decoder, heard));
        Ok(Box::new(Sealed { wire, codec, inbox, pump, address }))
    }
}

/// Opens what comes, for as long as somebody wants it.
async fn pump(wire: Arc<Wire>, mut codec: Codec, heard: mpsc::Sender<RecvOutcome>) {
    loop {
        let (from, peer, message) = wire.next().await;
        match codec.decode(&message).await {
            Ok(Some(envelope)) => {
                let from_addr = route::stand_in(from);
                let outcome = RecvOutcome { from_addr, envelope, num_bytes_received: message.len() };
                if heard.send(outcome).await.is_err() {
                    return;
                }
            }
            Ok(None) => wire.book.refused(Refused::Unreadable, &peer),
            Err(error) => {
                tracing::warn!(%error, "the loopback does not carry gossip");
                codec = renewed(codec).await;
            }
        }
    }
}

async fn renewed(old: Codec) -> Codec {
    match Codec::open().await {
        Ok(codec) => codec,
        Err(error) => {
            tracing::warn!(%error, "no socket on the loopback");
            sleep(Duration::from_secs(1)).await;
            old
        }
    }
}

/// The socket as chitchat sees it: nodes are at the addresses that stand for them.
struct Sealed {
    wire: Arc<Wire>,
    codec: Codec,
    inbox: mpsc::Receiver<RecvOutcome>,
    pump: JoinHandle<()>,
    address: SocketAddr,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[async_trait]
impl Socket for Sealed {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.address)
    }

    // An error would end gossip; a message that is lost is said again.
    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let Some(node) = route::node_of(to) else {
            self.wire.book.note(|stats| stats.unsent += 1);
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        match self.codec.encode(envelope).await {
            Ok(message) => {
                self.wire.send(node, &message).await;
                Ok(SendOutcome { num_bytes_sent: message.len() })
            }
            Err(error) => {
                tracing::warn!(%error, "the loopback does not carry gossip");
                if let Ok(codec) = Codec::open().await {
                    self.codec = codec;
                }
                Ok(SendOutcome { num_bytes_sent: 0 })
            }
        }
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("nothing is heard any more"))
    }
}
