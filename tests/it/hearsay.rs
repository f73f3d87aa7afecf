//! Three nodes, each the real program, that tell each other how a provider does.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::crew::{Crew, heard_of};
use troupe_tests::eventually::LONG;

use crate::cluster::{all_answer, program};

/// Waits until the breaker of each of these nodes is so.
async fn all_are(crew: &Crew, nodes: &[usize], what: &str, is_so: impl Fn(&Value) -> bool) {
    let deadline = clock::now() + LONG;
    for at in nodes {
        loop {
            let seen = crew.breaker(*at).await;
            if is_so(&seen) {
                break;
            }
            assert!(clock::now() < deadline, "{} is not {what}: {seen}\n{}", crew.nodes[*at].name, crew.log(*at));
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn start() -> Crew {
    let crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;
    crew
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_node_finds_refused_rests_on_all_and_is_probed_once_for_all() {
    let crew = start().await;
    crew.mock.fail(Strike::new("status=401")).unwrap();
    let before = crew.mock.counts();

    let began = clock::now();
    assert_eq!(crew.chat(0, "sk-team").await, 502);
    all_are(&crew, &[1, 2], "resting", |seen| seen["rests_for"] == "credential").await;
    // A bound for a busy machine; the simulation measures.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let first = crew.nodes[0].name.clone();
    all_are(&crew, &[1, 2], "told by whom", |seen| heard_of(seen, &first).as_deref() == Some("credential")).await;
    // Each of three nodes alone would probe after half a second.
    sleep(Duration::from_secs(4)).await;
    let after = crew.mock.counts();
    assert_eq!((after.calls - before.calls, after.probes - before.probes), (1, 1));

    crew.mock.heal();
    let reply = crew.ask(2, Method::POST, "/admin/v1/breakers/reset", Some(json!({ "provider": "o" }))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_are(&crew, &[0, 1, 2], "closed", |seen| seen["state"] == "closed").await;
    all_answer(&crew, "sk-team", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_answers_nobody_is_probed_about_once_in_two_seconds_by_all_nodes_together() {
    let mut crew = start().await;
    let rules = json!({ "defaults": { "timeouts": { "first_byte": "300ms" }, "retries": { "attempts": 1 },
                                      "breaker": { "failures": 1, "rest": "5s" } } });
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(rules)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answer(&crew, "sk-team", 200).await;
    // It takes connections and answers nothing, neither calls nor probes.
    crew.mock.fail(Strike::new("hang")).unwrap();
    futures_util::future::join_all([0, 1, 2].map(|at| crew.chat(at, "sk-team"))).await;
    all_are(&crew, &[0, 1, 2], "resting", |seen| seen["rests_for"] == "unreachable").await;

    let probes = crew.mock.counts().probes;
    sleep(Duration::from_secs(12)).await;
    let together = crew.mock.counts().probes - probes;
    crew.kill(0);
    let probes = crew.mock.counts().probes;
    sleep(Duration::from_secs(12)).await;
    let without_one = crew.mock.counts().probes - probes;

    assert!((2..=9).contains(&together), "{together} probes in 12 s");
    assert!((2..=9).contains(&without_one), "{without_one} probes in 12 s");
    crew.mock.heal();
    all_answer(&crew, "sk-team", 200).await;
}
