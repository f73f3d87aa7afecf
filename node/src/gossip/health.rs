//! Carries what actors say of providers' health to other nodes, and what others say to actors.
//!
//! ```text
//! actors ─ tell ─▶ Outbox ─▶ put under health/<provider>, and pushed where it cannot wait
//! actors ◀─ living, hear ─ Board;  ◀─ hear, reset ─ facts that were pushed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{debug, info};
use troupe_actors::{Actors, HealthBoard, Urgency};
use troupe_cluster::Process;
use troupe_cluster::gossip::{Board, Fact, Peer};
use troupe_proto::health::{CARD_TOPIC, Card, OPINIONS_TOPIC, Opinions, Scope, Urgent};
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, WireError};

use super::Gossiping;

/// Words that may wait to be sent; what is lost is said again within seconds.
const WORDS_MAX: usize = 1_024;

/// Where actors leave what they have to say. It stands before gossip does.
pub(crate) struct Outbox {
    me: (NodeId, u64),
    words: mpsc::Sender<Word>,
}

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Word {
    /// What this node has to say of a provider.
    Opinions(Opinions, Urgency),
    /// An operator's word.
    Reset(Scope),
}

impl Outbox {
    /// An outbox of this node, and where it is read.
    pub(crate) fn new(process: Process) -> (Arc<Self>, mpsc::Receiver<Word>) {
        let (words, reader) = mpsc::channel(WORDS_MAX);
        (Arc::new(Self { me: (process.node, process.incarnation), words }), reader)
    }

    /// Has the other nodes forget why targets rest.
    pub(crate) fn reset(&self, scope: &Scope) {
        self.send(Word::Reset(scope.clone()));
    }

    fn send(&self, word: Word) {
        // What is lost is said again when words are renewed; a reset can be asked for again.
        if self.words.try_send(word).is_err() {
            debug!("too many words wait to be sent, one is lost");
        }
    }
}

impl HealthBoard for Outbox {
    fn me(&self) -> (NodeId, u64) {
        self.me
    }

    fn tell(&self, opinions: Opinions, urgency: Urgency) {
        self.send(Word::Opinions(opinions, urgency));
    }
}

/// Carries words both ways for as long as this node gossips.
pub(crate) async fn carry(gossip: Gossiping, actors: Actors, mut words: mpsc::Receiver<Word>) {
    // Without other nodes there is nobody to hear.
    let Some(mut facts) = gossip.take_facts() else { return };
    let mut board = gossip.board();
    let mut reader = Reader::default();
    reader.read(&board.borrow_and_update().clone(), &actors);
    loop {
        tokio::select! {
            word = words.recv() => match word {
                Some(word) => send(&gossip, word),
                None => return,
            },
            fact = facts.recv() => match fact {
                Some(fact) => hear(&actors, &fact),
                None => return,
            },
            is_open = changed(&mut board) => match is_open {
                Some(board) => reader.read(&board, &actors),
                None => return,
            },
        }
    }
}

async fn changed(board: &mut watch::Receiver<Arc<Board>>) -> Option<Arc<Board>> {
    board.changed().await.ok()?;
    Some(board.borrow_and_update().clone())
}

fn send(gossip: &Gossiping, word: Word) {
    let urgent = match word {
        Word::Opinions(mut opinions, urgency) => {
            let topic = format!("{OPINIONS_TOPIC}{}", opinions.provider);
            match bytes(&mut opinions).map(|bytes| gossip.put(&topic, &bytes)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%topic, %error, "opinions are not said"),
                Err(error) => debug!(%topic, %error, "opinions cannot be written"),
            }
            match urgency {
                Urgency::Now => Urgent::Opinions(opinions),
                Urgency::Soon => return,
            }
        }
        Word::Reset(scope) => Urgent::Reset(scope),
    };
    match wire::encode(&urgent).map(|bytes| gossip.push(&bytes)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a fact is not pushed"),
        Err(error) => debug!(%error, "a fact cannot be written"),
    }
}

/// Opinions as bytes; where names are so long that they are too many, the gravest of each account.
fn bytes(opinions: &mut Opinions) -> Result<Vec<u8>, WireError> {
    loop {
        match wire::encode(opinions) {
            Err(WireError::TooLarge { .. }) if opinions.targets() > 0 => {
                for account in &mut opinions.accounts {
                    let half = account.targets.len() / 2;
                    account.targets.truncate(half);
                }
            }
            other => return other,
        }
    }
}

/// Takes a fact that another node pushed.
fn hear(actors: &Actors, fact: &Fact) {
    match wire::decode::<Urgent>(&fact.bytes) {
        Ok(Urgent::Opinions(opinions)) if opinions.incarnation == fact.incarnation => {
            actors.hear(fact.from, &opinions);
        }
        Ok(Urgent::Opinions(_)) => debug!(node = %fact.from, "opinions of another start of a node were pushed"),
        Ok(Urgent::Reset(scope)) => {
            let meant = actors.reset(&scope);
            info!(node = %fact.from, meant, "breakers were reset by an operator of another node");
        }
        // A fact that this build does not know, or of somebody else's making.
        Err(error) => debug!(node = %fact.from, %error, "a fact could not be read"),
    }
}

/// Reads boards, and remembers what it has read.
#[derive(Default)]
struct Reader {
    read: BTreeMap<NodeId, BTreeMap<String, Arc<[u8]>>>,
    /// Those whose last card says that they take traffic.
    ready: BTreeSet<NodeId>,
}

impl Reader {
    fn read(&mut self, board: &Board, actors: &Actors) {
        for (node, peer) in &board.peers {
            self.read_card(*node, peer);
            let read = self.read.entry(*node).or_default();
            read.retain(|topic, _| peer.values.contains_key(topic));
            for (topic, value) in peer.values.iter().filter(|(topic, _)| topic.starts_with(OPINIONS_TOPIC)) {
                if read.get(topic).is_some_and(|known| Arc::ptr_eq(known, value)) {
                    continue;
                }
                read.insert(topic.clone(), Arc::clone(value));
                match wire::decode::<Opinions>(value) {
                    Ok(opinions) if opinions.incarnation == peer.incarnation => actors.hear(*node, &opinions),
                    Ok(_) => {}
                    Err(error) => debug!(%node, %topic, %error, "opinions could not be read"),
                }
            }
        }
        self.read.retain(|node, _| board.peers.contains_key(node));
        self.ready.retain(|node| board.peers.contains_key(node));
        actors.ready(self.ready.clone());
        actors.living(board.live().map(|(node, _)| node).collect());
    }

    fn read_card(&mut self, node: NodeId, peer: &Peer) {
        let Some(card) = peer.values.get(CARD_TOPIC) else { return };
        let read = self.read.entry(node).or_default();
        if read.get(CARD_TOPIC).is_some_and(|known| Arc::ptr_eq(known, card)) {
            return;
        }
        read.insert(CARD_TOPIC.to_owned(), Arc::clone(card));
        match wire::decode::<Card>(card) {
            Ok(card) if card.is_ready => drop(self.ready.insert(node)),
            Ok(_) | Err(_) => drop(self.ready.remove(&node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use troupe_proto::health::{Account, Millis, Opinion, Print};
    use troupe_proto::id::ProviderId;

    use super::*;

    #[test]
    fn opinions_with_names_too_long_for_one_datagram_keep_the_gravest_of_each_account() {
        let opinion = |at: usize| Opinion {
            model: format!("{at:03}{}", "m".repeat(400)),
            rest: None,
            suspected: Some(Millis(1)),
            worked: None,
            recovered: None,
            quota: None,
        };
        let account = Account {
            credential: None,
            print: Print([1; 16]),
            probe: None,
            targets: (0..Opinions::TARGETS_MAX).map(opinion).collect(),
        };
        let provider = ProviderId::new("p");
        let mut opinions = Opinions { provider, incarnation: 1, serial: 1, has_uplink: true, accounts: vec![account] };

        let written = bytes(&mut opinions).unwrap();

        assert_eq!(wire::decode::<Opinions>(&written).unwrap(), opinions);
        assert!((1..Opinions::TARGETS_MAX).contains(&opinions.targets()));
        assert!(opinions.accounts[0].targets[0].model.starts_with("000"), "the first is the gravest");
    }
}
