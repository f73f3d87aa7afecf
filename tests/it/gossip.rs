//! What real nodes tell each other without agreeing on it.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use troupe_node::clock;
use troupe_tests::Crew;

use crate::cluster::program;

/// What anything here may take while the machine does something else.
const WITHIN: Duration = Duration::from_secs(40);

/// One number of a node's metrics; 0 where it is not there.
pub(crate) async fn metric(crew: &Crew, at: usize, series: &str) -> f64 {
    let page = crew.ask(at, Method::GET, "/metrics", None).await.map(|reply| reply.text()).unwrap_or_default();
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// Waits until a number of a node's metrics is as it should be.
pub(crate) async fn reaches(crew: &Crew, at: usize, series: &str, is_there: impl Fn(f64) -> bool) {
    let deadline = clock::now() + WITHIN;
    loop {
        let value = metric(crew, at, series).await;
        if is_there(value) {
            return;
        }
        assert!(clock::now() < deadline, "{}: {series} stays {value}:\n{}", crew.nodes[at].name, crew.log(at));
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node sees so many others alive.
pub(crate) async fn alive(crew: &Crew, at: usize, count: f64) {
    reaches(crew, at, r#"troupe_gossip_members{state="alive"}"#, |value| (value - count).abs() < 0.5).await;
}

/// What a node's members say of one of them.
async fn listed(crew: &Crew, at: usize, name: &str) -> Value {
    let members = crew.members(at).await;
    members.into_iter().find(|member| member["name"] == name).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_each_other_and_miss_one_that_dies_until_it_is_back() {
    let mut crew = Crew::certified(program(), 3).await;
    for at in 0..3 {
        alive(&crew, at, 2.0).await;
    }
    // Each says which revision it has, as soon as that is another one.
    crew.furnish().await;
    for at in 0..3 {
        reaches(&crew, at, r#"troupe_gossip_delay_seconds_count{way="gossip"}"#, |count| count >= 2.0).await;
    }

    crew.kill(2);
    alive(&crew, 0, 1.0).await;
    assert_eq!(listed(&crew, 0, "gw-3").await["alive"], false);
    let shown = crew.operate(0, &["cluster", "members"]).await.ok();
    assert!(shown.lines().any(|line| line.contains("gw-3") && line.contains("dead, ")), "{shown}");
    crew.run(2);
    crew.all_ready().await;
    for at in 0..3 {
        alive(&crew, at, 2.0).await;
    }

    let seen = listed(&crew, 0, "gw-3").await;
    assert!(seen["seen_ms"].is_u64(), "{seen}");
    assert_eq!(metric(&crew, 0, "troupe_gossip_restarts_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_at_the_peer_port_is_counted_and_nothing_else() {
    let crew = Crew::start(program(), 3).await;
    alive(&crew, 0, 2.0).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();

    for rubbish in [&b"hello"[..], &[0; 1400], &[0x16; 9000]] {
        stranger.send_to(rubbish, crew.nodes[0].peer).await.unwrap();
    }

    reaches(&crew, 0, r#"troupe_gossip_refused_total{reason="malformed"}"#, |count| count >= 1.0).await;
    reaches(&crew, 0, r#"troupe_gossip_refused_total{reason="oversized"}"#, |count| count >= 2.0).await;
    alive(&crew, 0, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_opens_no_port_for_gossip() {
    let crew = Crew::start(program(), 1).await;

    let peer = UdpSocket::bind(crew.nodes[0].peer).await;

    assert!(peer.is_ok(), "{peer:?}");
    let seen = listed(&crew, 0, "gw-1").await;
    assert_eq!((&seen["alive"], &seen["seen_ms"]), (&Value::Null, &Value::Null));
}
