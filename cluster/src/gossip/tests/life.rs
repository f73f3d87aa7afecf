//! Members that come, go, come back, and change their keys.

use super::*;

/// Nodes 1 to 3, each alive for each other.
async fn three(world: &World) -> [Node; 3] {
    let nodes = [world.node(1).await, world.node(2).await, world.node(3).await];
    eventually("all are alive for all", || all_alive(&nodes)).await;
    nodes
}

fn all_alive(nodes: &[Node]) -> bool {
    nodes.iter().all(|one| nodes.iter().all(|other| one.id == other.id || one.is_alive_here(other)))
}

fn all_see(nodes: &[Node], of: usize, topic: &str, value: Option<&[u8]>) -> bool {
    let others = nodes.iter().filter(|node| node.id != nodes[of].id);
    others.into_iter().all(|node| node.sees(&nodes[of], topic).as_deref() == value)
}

/// Stops a node, and gives its socket's address to the next life.
async fn stop(node: Node) -> UdpSocket {
    let address = node.address;
    drop(node);
    let mut socket = None;
    while socket.is_none() {
        sleep(Duration::from_millis(5)).await;
        socket = bind(address).await.ok();
    }
    socket.unwrap()
}

#[tokio::test]
async fn what_one_says_all_hear_and_what_it_takes_back_is_gone_everywhere() {
    let world = World::new();
    let nodes = three(&world).await;

    nodes[0].gossip.put("card", b"one").unwrap();
    nodes[0].gossip.put("load", &[0, 159, 255]).unwrap();
    eventually("all hear it", || all_see(&nodes, 0, "card", Some(b"one"))).await;
    eventually("bytes are bytes", || all_see(&nodes, 0, "load", Some(&[0, 159, 255]))).await;
    nodes[0].gossip.put("card", b"won").unwrap();
    eventually("the last word counts", || all_see(&nodes, 0, "card", Some(b"won"))).await;
    nodes[0].gossip.remove("card");
    eventually("it is taken back", || all_see(&nodes, 0, "card", None)).await;

    assert!(all_see(&nodes, 0, "load", Some(&[0, 159, 255])), "other topics stay");
    let took = nodes[1].gossip.stats().values_took;
    assert!(took.count >= 3, "{took:?}");
}

#[tokio::test]
async fn a_board_is_told_of_when_it_changed_and_not_with_each_heartbeat() {
    let world = World::new();
    let nodes = three(&world).await;
    let (mut board, rounds) = (nodes[0].gossip.board(), nodes[0].gossip.stats().received);
    let mut last = board.borrow_and_update().clone();

    while nodes[0].gossip.stats().received < rounds + 40 {
        sleep(Duration::from_millis(2)).await;
        if board.has_changed().unwrap() {
            let next = board.borrow_and_update().clone();
            assert_ne!(next, last, "told of nothing");
            last = next;
        }
    }
    nodes[1].gossip.put("card", b"two").unwrap();

    let told = |board: &Arc<Board>| board.peers[&NodeId(2)].values.get("card").is_some_and(|card| **card == *b"two");
    timeout(SOON, board.wait_for(told)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dead_node_is_known_as_dead_and_its_words_are_kept_until_it_is_back() {
    let world = World::new();
    let [one, two, three] = three(&world).await;
    three.gossip.put("card", b"three").unwrap();
    eventually("heard", || one.sees(&three, "card").is_some() && two.sees(&three, "card").is_some()).await;

    let (id, address) = (three.id, three.address);
    let socket = stop(three).await;
    let alive = |node: &Node| node.gossip.board().borrow().peers[&id].is_alive;
    eventually("it is missed", || !alive(&one) && !alive(&two)).await;

    let board = one.gossip.board().borrow().clone();
    assert_eq!(*board.peers[&id].values["card"], *b"three");
    assert!(board.live().all(|(node, _)| node != id));
    let back = world.start(3, 2, &[1], socket).await;
    back.gossip.put("card", b"three again").unwrap();
    let reborn = |node: &Node| {
        let board = node.gossip.board().borrow().clone();
        let peer = &board.peers[&id];
        peer.is_alive && peer.incarnation == 2 && peer.values.get("card").is_some_and(|card| **card == *b"three again")
    };
    eventually("it is back", || reborn(&one) && reborn(&two)).await;
    assert_eq!(board.peers[&id].address, address.to_string());
}

#[tokio::test]
async fn a_member_that_leaves_is_gone_and_heard_no_more() {
    let world = World::new();
    let nodes = three(&world).await;

    world.members.send_modify(|members| drop(Arc::make_mut(members).remove(&NodeId(3))));

    let gone = |node: &Node| !node.gossip.board().borrow().peers.contains_key(&NodeId(3));
    eventually("it is gone", || gone(&nodes[0]) && gone(&nodes[1])).await;
    eventually("its words are refused", || nodes[0].refused(Refused::Stranger) > 0).await;
    eventually("the others stay", || nodes[0].is_alive_here(&nodes[1])).await;
}

#[tokio::test]
async fn a_rotation_of_the_key_loses_no_member() {
    let world = World::new();
    let nodes = three(&world).await;
    let mut lives = nodes.map(Some);

    // As an operator does it: first all learn the new key, then all use it, then all forget the old one.
    for (life, keys) in (2..).zip([&[1, 2][..], &[2, 1], &[2]]) {
        for place in 0..3 {
            let socket = stop(lives[place].take().unwrap()).await;
            let id = u64::try_from(place).unwrap() + 1;
            let reborn = world.start(id, life, keys, socket).await;
            reborn.gossip.put("life", &life.to_le_bytes()).unwrap();
            lives[place] = Some(reborn);
            let nodes: Vec<_> = lives.iter().flatten().collect();
            let (here, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.id == NodeId(id));
            eventually("all hear the one that was restarted, and it hears all", || {
                others.iter().all(|other| {
                    other.sees(here[0], "life").as_deref() == Some(&life.to_le_bytes()[..])
                        && other.is_alive_here(here[0])
                        && here[0].is_alive_here(other)
                })
            })
            .await;
            for node in lives.iter().flatten() {
                assert_eq!(node.refused(Refused::UnknownKey), 0, "step {life}, node {}", node.id);
            }
        }
    }
}

#[tokio::test]
async fn a_node_with_only_a_new_key_is_not_heard_by_those_who_do_not_know_it() {
    let world = World::new();
    let one = world.node(1).await;

    let two = world.start(2, 1, &[2], bind(([127, 0, 0, 1], 0).into()).await.unwrap()).await;

    let unknown = |node: &Node| node.refused(Refused::UnknownKey) > 0;
    eventually("refused by its key", || unknown(&one) && unknown(&two)).await;
    assert!(!one.is_alive_here(&two));
}

#[tokio::test]
async fn gossip_that_ended_by_a_fault_is_begun_anew_and_says_the_same() {
    let world = World::new();
    let (one, two) = (world.node(1).await, world.node(2).await);
    one.gossip.put("card", b"one").unwrap();
    eventually("heard", || two.sees(&one, "card").is_some()).await;

    one.gossip.shared.fault.notify_one();
    eventually("it fell", || one.gossip.stats().restarts == 1).await;
    one.gossip.put("more", b"words").unwrap();

    eventually("heard again", || two.sees(&one, "more").is_some() && one.is_alive_here(&two)).await;
    assert_eq!(two.sees(&one, "card").as_deref(), Some(&b"one"[..]));
    assert_eq!(two.gossip.board().borrow().peers[&NodeId(1)].incarnation, 1);
}

#[tokio::test]
async fn much_that_is_said_goes_in_many_datagrams() {
    let world = World::new();
    let (one, two) = (world.node(1).await, world.node(2).await);
    let noise = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(VALUE_MAX - 1)
        .collect()
    };

    for topic in 0..3 {
        one.gossip.put(&topic.to_string(), &noise(topic)).unwrap();
    }

    eventually("all of it arrives", || (0..3).all(|topic| two.sees(&one, &topic.to_string()) == Some(noise(topic))))
        .await;
    assert!(two.gossip.stats().received_bytes > 3 * 12_000);
}

#[tokio::test]
async fn a_node_says_no_more_than_it_may() {
    let world = World::new();
    let one = world.node(1).await.gossip;

    let long = SayError::TooLarge { bytes: VALUE_MAX + 1, limit: VALUE_MAX };
    assert_eq!(one.put("a", &[0; VALUE_MAX + 1]), Err(long));
    let name = SayError::TooLarge { bytes: TOPIC_MAX + 1, limit: TOPIC_MAX };
    assert_eq!(one.put(&"a".repeat(TOPIC_MAX + 1), &[]), Err(name));
    for topic in ["a", "b", "c", "e", "f"] {
        one.put(topic, &[0; VALUE_MAX]).unwrap();
    }
    assert_eq!(one.put("d", &[0; VALUE_MAX]), Err(SayError::Full));
    one.put("a", &[1; VALUE_MAX]).unwrap();
    one.remove("a");
    one.put("d", &[0; VALUE_MAX]).unwrap();
}
