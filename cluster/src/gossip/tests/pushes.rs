//! Facts that are pushed, and the time that words take.

use super::*;

#[tokio::test]
async fn a_pushed_fact_reaches_every_live_member_once() {
    let world = World::new();
    let (one, mut two, mut three) = (world.node(1).await, world.node(2).await, world.node(3).await);
    eventually("alive", || one.is_alive_here(&two) && one.is_alive_here(&three)).await;

    one.gossip.push(b"a breaker opened").unwrap();

    for node in [&mut two, &mut three] {
        let fact = timeout(SOON, node.facts.recv()).await.unwrap().unwrap();
        assert_eq!(fact, Fact { from: NodeId(1), incarnation: 1, bytes: b"a breaker opened".to_vec() });
        assert!(node.facts.try_recv().is_err());
    }
    let stats = one.gossip.stats();
    assert_eq!((stats.pushed, stats.pushes_failed, stats.pushes_dropped), (1, 0, 0));
}

#[tokio::test]
async fn a_fact_that_cannot_be_delivered_is_counted_and_holds_up_no_other() {
    let world = World::new();
    let (one, mut two, three) = (world.node(1).await, world.node(2).await, world.node(3).await);
    eventually("alive", || one.is_alive_here(&two) && one.is_alive_here(&three)).await;
    world.lines.0.lock().unwrap().remove(&three.id);

    one.gossip.push(b"first").unwrap();
    one.gossip.push(b"second").unwrap();

    for expected in [&b"first"[..], b"second"] {
        let fact = timeout(SOON, two.facts.recv()).await.unwrap().unwrap();
        assert_eq!(fact.bytes, expected);
    }
    eventually("both failures are counted", || one.gossip.stats().pushes_failed == 2).await;
}

#[tokio::test]
async fn a_fact_that_is_too_large_is_not_pushed() {
    let world = World::new();
    let one = world.node(1).await;

    let error = one.gossip.push(&[0; FACT_MAX + 1]);

    assert_eq!(error, Err(SayError::TooLarge { bytes: FACT_MAX + 1, limit: FACT_MAX }));
    assert_eq!(one.gossip.stats().pushed, 0);
}
