//! How long a word takes to all nodes of a large cluster, in a simulated time and network.

use chitchat::transport::ChannelTransport;

use super::*;

struct Unreachable;

impl Links for Unreachable {
    fn call(&self, _: NodeId, _: &str, _: Class, _: Vec<u8>, _: Duration) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        std::future::ready(Err(CallError::Unreachable)).boxed()
    }
}

fn node(id: u64, members: &watch::Receiver<Members>, network: &Arc<ChannelTransport>) -> Gossip {
    let began = clock::now();
    let begun = Begun {
        node: NodeId(id),
        incarnation: 1,
        members: members.clone(),
        links: Arc::new(Unreachable),
        facts: mpsc::channel(1).0,
        wall: Arc::new(move || i64::try_from(began.elapsed().as_millis()).unwrap()),
        settings: Settings::default(),
        book: Arc::default(),
    };
    Gossip::over(begun, Arc::clone(network) as _, Vec::new())
}

/// The longest that one of ten words took to all nodes, without a push: by gossip alone.
async fn slowest(nodes: u64) -> Duration {
    let network = Arc::new(ChannelTransport::with_mtu(65_507));
    let names: Members = Arc::new((1..=nodes).map(|id| (NodeId(id), format!("node-{id}:1"))).collect());
    let (_names, members) = watch::channel(names);
    let nodes: Vec<_> = (1..=nodes).map(|id| node(id, &members, &network)).collect();
    let boards: Vec<_> = nodes.iter().map(Gossip::board).collect();
    let others = nodes.len() - 1;
    eventually("all are alive for all", || boards.iter().all(|board| board.borrow().live().count() == others)).await;

    let mut slowest = Duration::ZERO;
    for word in 0..10_u8 {
        // Words fall anywhere between two rounds.
        sleep(Duration::from_millis(u64::from(word) * 37)).await;
        let place = usize::from(word) * 7 % nodes.len();
        let (said, id) = (clock::now(), NodeId(u64::try_from(place).unwrap() + 1));
        nodes[place].put("rests", &[word]).unwrap();
        let knows = |board: &watch::Receiver<Arc<Board>>| {
            board
                .borrow()
                .peers
                .get(&id)
                .and_then(|peer| peer.values.get("rests"))
                .is_some_and(|known| **known == [word])
        };
        let others = || boards.iter().enumerate().filter(|(at, _)| *at != place);
        eventually("all know it", || others().all(|(_, board)| knows(board))).await;
        slowest = slowest.max(said.elapsed());
    }
    slowest
}

/// HEALTH-1, as far as gossip goes.
#[tokio::test(start_paused = true)]
async fn a_word_is_with_all_of_three_nodes_within_a_fifth_of_a_second() {
    let slowest = slowest(3).await;

    assert!(slowest <= Duration::from_millis(200), "{slowest:?}");
    assert!(slowest >= Duration::from_millis(20), "nothing is faster than the next round: {slowest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_word_is_with_all_of_a_hundred_nodes_within_half_a_second() {
    let slowest = slowest(100).await;

    assert!(slowest <= Duration::from_millis(500), "{slowest:?}");
    assert!(slowest >= Duration::from_millis(100), "a hundred nodes take more than one round: {slowest:?}");
}
