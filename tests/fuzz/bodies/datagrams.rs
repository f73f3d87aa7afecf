//! Whatever a datagram holds, it is taken once or refused, and a message is made of the parts that were sent, whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use troupe_cluster::Keyring;
use troupe_cluster::gossip::datagram::{Head, Keys, MESSAGE_MAX, PART_MAX, PARTS_MAX, read};
use troupe_cluster::gossip::guard::{Guard, Refused};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::secret::Secret;

const CLUSTER: ClusterId = ClusterId(7);
const NOW: i64 = 1_000_000;
/// Bytes of an input that make one datagram of a node.
const RECORD: usize = 8;

fn keys() -> Keys {
    let random = Arc::new(|place: &mut [u8]| {
        place.fill(5);
        Ok(())
    });
    Keys::of(&Keyring::new(Secret::new([1; 32]), Vec::new(), random), CLUSTER)
}

fn head(keys: &Keys) -> Head {
    Head {
        part: 0,
        parts: 1,
        key: keys.current(),
        cluster: CLUSTER,
        from: NodeId(1),
        incarnation: 1,
        to: NodeId(2),
        sent_ms: NOW,
        seq: 1,
    }
}

/// Datagrams as nodes send them.
#[allow(dead_code, reason = "seeds of the test that runs the bodies")]
pub(crate) fn sent() -> Vec<Vec<u8>> {
    let keys = keys();
    let part = |part: u8| Head { part, parts: 3, seq: 10 + u64::from(part), ..head(&keys) };
    let heads = [head(&keys), part(0), part(1), part(2), Head { incarnation: 2, ..head(&keys) }];
    heads.into_iter().map(|head| keys.seal(&head, &[7; 90]).expect("there is randomness")).collect()
}

/// Holds one input to it.
pub(crate) fn run(input: &[u8]) {
    let keys = keys();
    let mut guard = Guard::new(NodeId(2), CLUSTER, keys.clone());
    let take = |guard: &mut Guard, bytes: &[u8]| guard.take(bytes, NOW, |node| node.0 < 4);
    if let Ok(datagram) = read(input) {
        assert!(datagram.head.part < datagram.head.parts && datagram.head.parts <= PARTS_MAX);
    }
    if take(&mut guard, input).is_ok() {
        assert_eq!(take(&mut guard, input), Err(Refused::Replayed));
    }
    // The same input as what nodes with the key send, in any order.
    let mut guard = Guard::new(NodeId(2), CLUSTER, keys.clone());
    let mut taken = BTreeSet::new();
    for record in input.chunks_exact(RECORD) {
        let [part, parts, seq, from, incarnation, to, ahead, length] = record else { continue };
        let head = Head {
            part: *part,
            parts: *parts,
            seq: u64::from(*seq),
            from: NodeId(u64::from(*from % 6)),
            incarnation: u64::from(*incarnation % 4),
            to: NodeId(2 + u64::from(*to % 16 / 15)),
            sent_ms: NOW + (i64::from(*ahead) - 128) * 250,
            ..head(&keys)
        };
        let body = vec![*part; usize::from(*length) % (PART_MAX + 1)];
        let sealed = keys.seal(&head, &body).expect("there is randomness");
        let Ok(word) = take(&mut guard, &sealed) else { continue };
        assert!(taken.insert((head.from, head.incarnation, head.seq)), "taken twice");
        assert_eq!((word.from, word.ahead_ms), (head.from, head.sent_ms - NOW));
        if let Some(message) = word.message {
            assert!(message.len() <= MESSAGE_MAX + PART_MAX * usize::from(PARTS_MAX));
            assert!(message.is_sorted(), "parts are in their order");
        }
    }
}
