//! Facts that all shall know at once: each live member is called, without waiting for the next round of gossip. Who was not
//! reached learns them from gossip.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bincode::{Decode, Encode};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use super::counts::{Book, between};
use super::route::Members;
use super::window::Window;
use super::{Board, Wall};
use crate::transport::{Caller, Class, Links, Rejected, Service, readable};

/// The most bytes of a fact.
pub const FACT_MAX: usize = 32 << 10;
/// Facts of this node that may wait to be pushed.
pub(super) const FACTS_MAX: usize = 256;
/// Calls under way beyond which no further fact is pushed yet.
const CALLS_MAX: usize = 256;
/// How long a member may take to confirm a fact; gossip is there long before.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
/// What a member answers that took the fact, or had it.
const CONFIRMED: &[u8] = b"k";

/// A fact on its way. Who sent it is known by the connection it came on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// Its number among those that this process of its sender pushed, from 1 on.
    pub seq: u64,
    /// When it was pushed by its sender's wall clock, in milliseconds since 1970.
    pub said_ms: i64,
    /// What it says.
    pub bytes: Vec<u8>,
}

impl Message for Push {
    // Kinds 96 to 99 are gossip's.
    const KIND: u16 = 96;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = FACT_MAX + (1 << 10);
}

/// A fact that another node pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Whose word it is.
    pub from: NodeId,
    /// Which start of its process.
    pub incarnation: u64,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Pushes facts to all live members until nobody has any more.
pub(super) async fn run(
    mut facts: mpsc::Receiver<Push>,
    board: watch::Receiver<Arc<Board>>,
    links: Arc<dyn Links>,
    book: Arc<Book>,
) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            Some(confirmed) = calls.join_next() => if !matches!(confirmed, Ok(true)) {
                book.note(|stats| stats.pushes_failed += 1);
            },
            fact = facts.recv(), if calls.len() < CALLS_MAX => {
                let Some(fact) = fact else { return };
                let Ok(body) = wire::encode(&fact) else { continue };
                book.note(|stats| stats.pushed += 1);
                let board = Arc::clone(&board.borrow());
                for (node, peer) in board.live() {
                    let (links, address, body) = (Arc::clone(&links), peer.address.clone(), body.clone());
                    calls.spawn(async move {
                        let answer = links.call(node, &address, Class::Push, body, CONFIRM_WITHIN).await;
                        answer.is_ok_and(|answer| answer == CONFIRMED)
                    });
                }
            }
        }
    }
}

/// Takes what others push.
pub(super) struct Ear {
    pub(super) members: watch::Receiver<Members>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) book: Arc<Book>,
    pub(super) wall: Wall,
    pub(super) seen: Mutex<BTreeMap<NodeId, (u64, Window)>>,
}

impl Ear {
    fn hear(&self, from: &Caller, body: &[u8]) -> Vec<u8> {
        let members = Arc::clone(&self.members.borrow());
        let Ok(push) = wire::decode::<Push>(body) else { return Vec::new() };
        if !from.is_verified || !members.contains_key(&from.node) {
            return Vec::new();
        }
        let is_new = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.retain(|node, _| members.contains_key(node));
            let (incarnation, window) = seen.entry(from.node).or_default();
            if from.incarnation > *incarnation {
                (*incarnation, *window) = (from.incarnation, Window::default());
            }
            from.incarnation == *incarnation && window.take(push.seq)
        };
        if !is_new {
            self.book.note(|stats| stats.facts_repeated += 1);
            return CONFIRMED.to_vec();
        }
        self.book.note(|stats| stats.facts += 1);
        self.book.push_took(between(push.said_ms, (self.wall)()));
        let fact = Fact { from: from.node, incarnation: from.incarnation, bytes: push.bytes };
        if self.facts.try_send(fact).is_err() {
            self.book.note(|stats| stats.facts_dropped += 1);
            return Vec::new();
        }
        CONFIRMED.to_vec()
    }
}

impl Service for Ear {
    fn check(&self, _from: &Caller, body: &[u8]) -> Result<(), Rejected> {
        readable::<Push>(body)
    }

    fn serve(&self, from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        std::future::ready(self.hear(&from, &body)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(facts: usize) -> (Ear, mpsc::Receiver<Fact>) {
        let (facts, heard) = mpsc::channel(facts);
        let members: Members = Arc::new(BTreeMap::from([(NodeId(1), String::new())]));
        let (members, book) = (watch::channel(members).1, Arc::default());
        (Ear { members, facts, book, wall: Arc::new(|| 1_000), seen: Mutex::default() }, heard)
    }

    fn caller(node: u64, incarnation: u64) -> Caller {
        Caller {
            node: NodeId(node),
            class: Class::Push,
            incarnation,
            cluster: None,
            peer: String::new(),
            version: 1,
            is_verified: true,
        }
    }

    fn push(seq: u64) -> Vec<u8> {
        wire::encode(&Push { seq, said_ms: 900, bytes: vec![1] }).unwrap()
    }

    #[test]
    fn a_fact_is_heard_once_however_often_it_comes() {
        let (ear, mut heard) = ear(9);

        for seq in [1, 1, 3, 2, 3] {
            assert_eq!(ear.hear(&caller(1, 5), &push(seq)), CONFIRMED);
        }

        let count = std::iter::from_fn(|| heard.try_recv().ok()).count();
        let stats = ear.book.read();
        assert_eq!((count, stats.facts, stats.facts_repeated), (3, 3, 2));
        assert_eq!(stats.pushes_took.sum, Duration::from_millis(300));
    }

    #[test]
    fn a_later_process_is_heard_anew_and_an_earlier_one_no_more() {
        let (ear, mut heard) = ear(9);

        for incarnation in [5, 6, 5] {
            assert_eq!(ear.hear(&caller(1, incarnation), &push(1)), CONFIRMED);
        }

        let incarnations: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).map(|fact| fact.incarnation).collect();
        assert_eq!(incarnations, [5, 6]);
    }

    #[test]
    fn strangers_and_bytes_that_are_no_fact_are_not_heard() {
        let (ear, mut heard) = ear(9);

        assert!(ear.hear(&caller(2, 1), &push(1)).is_empty(), "no member");
        assert!(ear.hear(&Caller { is_verified: false, ..caller(1, 1) }, &push(1)).is_empty(), "without certificate");
        assert!(ear.hear(&caller(1, 1), b"junk").is_empty());

        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn what_nobody_has_time_for_is_counted_and_not_confirmed() {
        let (ear, _heard) = ear(1);

        assert_eq!(ear.hear(&caller(1, 1), &push(1)), CONFIRMED);
        assert!(ear.hear(&caller(1, 1), &push(2)).is_empty());

        assert_eq!(ear.book.read().facts_dropped, 1);
    }

    #[test]
    fn the_largest_fact_fits_its_class() {
        let fact = Push { seq: u64::MAX, said_ms: i64::MIN, bytes: vec![0xff; FACT_MAX] };

        assert!(wire::encode(&fact).unwrap().len() <= Class::Push.limit());
    }

    /// What other builds send; it changes with the schema only.
    #[test]
    fn a_fact_looks_as_ever() {
        let bytes = wire::encode(&Push { seq: 1, said_ms: 2, bytes: vec![3] }).unwrap();

        assert_eq!(bytes[wire::HEAD_BYTES..], [1, 4, 1, 3]);
        assert_eq!(wire::decode::<Push>(&bytes).unwrap().bytes, [3]);
    }
}
