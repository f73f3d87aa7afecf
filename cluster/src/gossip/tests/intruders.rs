//! Datagrams of those who are no node, and of nodes that have something wrong with them: each is refused and counted, and
//! gossip goes on.

use super::super::datagram::tests::{head, keyring, keys};
use super::super::datagram::{DATAGRAM_MAX, Head, Keys};
use super::*;

/// Somebody with a socket, who heard what passed by.
struct Intruder(UdpSocket);

impl Intruder {
    async fn new() -> Self {
        Self(bind(([127, 0, 0, 1], 0).into()).await.unwrap())
    }

    async fn send(&self, to: &Node, datagram: &[u8]) {
        self.0.send_to(datagram, to.address).await.unwrap();
    }
}

/// Two nodes, the second of which is the intruder's to play: what it seals is right but for what a test changes.
async fn world() -> (World, Node) {
    let world = World::new();
    let node = world.node(2).await;
    world.members.send_modify(|members| {
        Arc::make_mut(members).insert(NodeId(1), "127.0.0.1:9".to_owned());
    });
    (world, node)
}

fn sealed(world: &World, change: impl Fn(&mut Head)) -> Vec<u8> {
    let keys = keys(&[1]);
    let mut head = Head { sent_ms: world.wall.load(Ordering::Relaxed), ..head(&keys) };
    change(&mut head);
    keys.seal(&head, b"no word of chitchat").unwrap()
}

#[tokio::test]
async fn each_intruder_is_refused_and_counted_and_gossip_goes_on() {
    let (world, node) = world().await;
    let intruder = Intruder::new().await;
    let good = sealed(&world, |_| {});
    let altered = [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat();
    let foreign = Keys::of(&keyring(&[1]), ClusterId(8));
    let foreign_head = Head { cluster: ClusterId(8), key: foreign.current(), ..head(&foreign) };
    let strange = keys(&[9]);
    let strange_head = Head { key: strange.current(), ..head(&strange) };
    let fakes = [
        (vec![0; DATAGRAM_MAX + 1], Refused::Oversized),
        (vec![0x55; 60_000], Refused::Oversized),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refused::Malformed),
        (Vec::new(), Refused::Malformed),
        (altered, Refused::Altered),
        (foreign.seal(&foreign_head, b"x").unwrap(), Refused::ForeignCluster),
        (strange.seal(&strange_head, b"x").unwrap(), Refused::UnknownKey),
        (sealed(&world, |head| head.from = NodeId(2)), Refused::Own),
        (sealed(&world, |head| head.to = NodeId(3)), Refused::Misdirected),
        (sealed(&world, |head| head.from = NodeId(77)), Refused::Stranger),
        (sealed(&world, |head| head.sent_ms -= 31_000), Refused::TooOld),
        (sealed(&world, |head| head.sent_ms += 31_000), Refused::TooNew),
        (good.clone(), Refused::Unreadable),
        (good, Refused::Replayed),
        (sealed(&world, |head| head.incarnation = 2), Refused::Superseded),
    ];

    let mut expected = BTreeMap::new();
    for (datagram, reason) in &fakes {
        intruder.send(&node, datagram).await;
        *expected.entry(*reason).or_insert(0) += 1;
        eventually(reason.word(), || node.gossip.stats().refused == expected).await;
    }

    let three = world.node(3).await;
    three.gossip.put("card", b"still here").unwrap();
    eventually("a node is heard", || node.sees(&three, "card").is_some()).await;
}

#[tokio::test]
async fn what_was_overheard_is_refused_when_it_is_said_again() {
    // Each node believes the other to be where the intruder sits, who passes everything on, to one of them twice.
    let middle = Intruder::new().await;
    let world = World { through: middle.0.local_addr().ok(), ..World::new() };
    let (one, two) = (world.node(1).await, world.node(2).await);
    one.gossip.put("card", b"I am one").unwrap();

    let echo = async {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = middle.0.recv_from(&mut buffer).await.unwrap();
            let datagram = &buffer[..length];
            if from == one.address {
                middle.send(&two, datagram).await;
            } else {
                middle.send(&one, datagram).await;
                middle.send(&one, datagram).await;
            }
        }
    };
    let seen = eventually("replays are refused, and words arrive", || {
        one.refused(Refused::Replayed) > 3 && two.sees(&one, "card").is_some()
    });
    tokio::select! {
        () = echo => {}
        () = seen => {}
    }

    assert_eq!(two.refused(Refused::Replayed), 0);
}

#[tokio::test]
async fn a_flood_of_rubbish_ends_nothing() {
    let world = World::new();
    let (one, two) = (world.node(1).await, world.node(2).await);
    let intruder = Intruder::new().await;

    for number in 0..2_000_u32 {
        intruder.send(&one, &number.to_le_bytes().repeat(50)).await;
    }
    two.gossip.put("card", b"heard").unwrap();

    eventually("the word is heard", || one.sees(&two, "card").is_some()).await;
    assert!(one.refused(Refused::Malformed) > 0);
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_is_not_heard_and_both_sides_can_tell() {
    let world = World::new();
    let other = World { wall: Arc::new(AtomicI64::new(1_000_000_000 - 45_000)), ..World::new() };
    let one = world.node(1).await;
    let late = other.node(2).await;
    for (world, node) in [(&world, &late), (&other, &one)] {
        world.members.send_modify(|members| drop(Arc::make_mut(members).insert(node.id, node.address.to_string())));
    }

    eventually("refused for its age", || one.refused(Refused::TooOld) > 0 && late.refused(Refused::TooNew) > 0).await;
    other.wall.store(1_000_000_000 - 5_000, Ordering::Relaxed);
    eventually("alive once the clock is nearly right", || one.is_alive_here(&late)).await;

    let peers = one.gossip.stats().peers;
    assert_eq!(peers[&NodeId(2)].clock_ahead_ms, Some(-5_000));
}
