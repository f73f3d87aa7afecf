//! Keeps chitchat going: tells it what this node says, reads what others said, greets those who are silent, and begins it
//! anew should it end.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chitchat::transport::Transport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use troupe_proto::id::NodeId;

use super::board::{self, Look, Reader};
use super::route::{self, Members};
use super::{Board, PeerStats, Settings, Shared};
use crate::clock;

/// chitchat's own name for a cluster. Which one a datagram belongs to is said in its head, and checked there.
const CLUSTER: &str = "troupe";
/// Intervals it remembers of each node.
const SAMPLES: usize = 1000;
/// How long after a fault it is begun anew.
const REST: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) members: watch::Receiver<Members>,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
}

impl Keeper {
    pub(super) async fn run(self, transport: Arc<dyn Transport>) {
        let mut restarts = 0_u16;
        loop {
            match spawn_chitchat(self.config(restarts), self.all_said(), &*transport).await {
                Ok(chat) => self.attend(&chat).await,
                Err(error) => tracing::error!(%error, "gossip does not begin"),
            }
            tracing::error!("gossip ended by a fault and is begun anew");
            self.shared.book.note(|stats| stats.restarts += 1);
            restarts = restarts.saturating_add(1);
            sleep(REST).await;
        }
    }

    fn config(&self, restarts: u16) -> ChitchatConfig {
        let Settings { interval, phi, keep_dead, keep_removed, .. } = self.settings;
        let address = route::stand_in(self.node);
        let generation = board::generation(self.incarnation, restarts);
        ChitchatConfig {
            chitchat_id: ChitchatId::new(self.node.to_string(), generation, address),
            cluster_id: CLUSTER.to_owned(),
            gossip_interval: interval,
            listen_addr: address,
            // Members come and go, seeds would not: those who are silent are greeted instead.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: phi,
                sampling_window_size: SAMPLES,
                max_interval: interval * 20,
                initial_interval: interval,
                dead_node_grace_period: keep_dead,
            },
            marked_for_deletion_grace_period: keep_removed,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        }
    }

    fn all_said(&self) -> Vec<(String, String)> {
        let mut said = self.shared.said();
        said.news.clear();
        said.values.iter().map(|(topic, (value, at))| (topic.clone(), board::text(value, *at))).collect()
    }

    /// Does what there is to do until chitchat ends.
    async fn attend(&self, chat: &ChitchatHandle) {
        let (heard, mut reader) = (Arc::new(Notify::new()), Reader::default());
        let _listener = {
            let heard = Arc::clone(&heard);
            let chat = chat.chitchat().lock_owned().await;
            chat.subscribe_event("", move |_| heard.notify_one())
        };
        let mut rounds = interval(self.settings.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = std::pin::pin!(chat.termination_watcher());
        let mut greeted = None;
        loop {
            tokio::select! {
                ended = &mut ended => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "chitchat ended");
                    }
                    return;
                }
                () = self.fault() => chat.abort(),
                () = self.shared.says.notified() => self.say(chat).await,
                () = heard.notified() => self.read(chat, &mut reader).await,
                _ = rounds.tick() => {
                    self.read(chat, &mut reader).await;
                    greeted = self.greet(chat, greeted);
                }
            }
        }
    }

    #[cfg(test)]
    async fn fault(&self) {
        self.shared.fault.notified().await;
    }

    #[cfg(not(test))]
    async fn fault(&self) {
        std::future::pending().await
    }

    async fn say(&self, chat: &ChitchatHandle) {
        let chat = chat.chitchat();
        let mut chat = chat.lock().await;
        let mut said = self.shared.said();
        let state = chat.self_node_state();
        for topic in std::mem::take(&mut said.news) {
            match said.values.get(&topic) {
                Some((value, at)) => state.set(&topic, board::text(value, *at)),
                None if state.contains_key(&topic) => state.delete(&topic),
                None => {}
            }
        }
    }

    async fn read(&self, chat: &ChitchatHandle, reader: &mut Reader) {
        let members: Members = self.members.borrow().clone();
        let (now, wall_ms) = (clock::now(), (self.shared.wall)());
        let look = Look { me: self.node, members: &members, now, wall_ms, silence_min: self.settings.silence_min };
        let board = {
            let chat = chat.chitchat();
            let chat = chat.lock().await;
            reader.read(&chat, &look, &self.shared.book)
        };
        let stats = |node: &NodeId| PeerStats {
            is_alive: board.peers.get(node).map(|peer| peer.is_alive),
            seen_ago: reader.grown(*node).map(|at| now.duration_since(at)),
            ..PeerStats::default()
        };
        let others = members.keys().filter(|node| **node != self.node);
        let peers: BTreeMap<_, _> = others.map(|node| (*node, stats(node))).collect();
        *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = peers;
        self.shared.board.send_if_modified(|known| {
            let is_news = **known != board;
            if is_news {
                tell(known, &board);
                *known = Arc::new(board);
            }
            is_news
        });
    }

    /// Asks the next of those who are silent for their notes: a newcomer, or one that is back.
    fn greet(&self, chat: &ChitchatHandle, last: Option<NodeId>) -> Option<NodeId> {
        let (members, board) = (self.members.borrow(), self.shared.board.borrow());
        let is_silent = |node: &NodeId| *node != self.node && !board.peers.get(node).is_some_and(|peer| peer.is_alive);
        let mut silent = members.keys().copied().filter(is_silent);
        let next = silent.clone().find(|node| Some(*node) > last).or_else(|| silent.next())?;
        if chat.gossip(route::stand_in(next)).is_err() {
            tracing::trace!(node = %next, "gossip has ended");
        }
        Some(next)
    }
}

/// Says who came and who fell silent.
fn tell(before: &Board, after: &Board) {
    for (node, peer) in &after.peers {
        let was_alive = before.peers.get(node).is_some_and(|peer| peer.is_alive);
        match (was_alive, peer.is_alive) {
            (false, true) => tracing::info!(%node, address = peer.address, "a node gives signs of life"),
            (true, false) => tracing::warn!(%node, address = peer.address, "a node gives no sign of life"),
            (true, true) | (false, false) => {}
        }
    }
}
