//! Three nodes that agree, each the real program in a process of its own.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::time::sleep;
use troupe_node::clock;
use troupe_tests::churn::{Fate, Pace, Writers, verdict};
use troupe_tests::crew::{Crew, attempt};
use troupe_tests::eventually::LONG;

const TROUPE: &str = env!("CARGO_BIN_EXE_troupe-under-test");

pub(crate) fn program() -> &'static Path {
    Path::new(TROUPE)
}

/// Waits until a call of every node that runs has this status.
pub(crate) async fn all_answer(crew: &Crew, key: &str, status: u16) {
    let deadline = clock::now() + LONG;
    for at in (0..crew.nodes.len()).filter(|at| crew.runs(*at)) {
        loop {
            let seen = crew.chat(at, key).await;
            if seen == status {
                break;
            }
            assert!(clock::now() < deadline, "{} answers {seen}, not {status}:\n{}", crew.nodes[at].name, crew.log(at));
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_at_one_node_is_in_force_at_all_and_survives_all_of_them() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;

    for at in [0, 1, 2] {
        crew.kill(at);
    }
    for at in [0, 1, 2] {
        crew.run(at);
    }
    crew.all_ready().await;

    all_answer(&crew, "sk-team", 200).await;
    let asked: Vec<_> =
        crew.mock.received().iter().filter_map(|call| call.header("authorization").map(str::to_owned)).collect();
    assert!(asked.iter().all(|value| value == "Bearer provider-secret"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_at_one_node_works_at_another_at_once_and_a_revoked_one_nowhere() {
    let crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    for (made, used, revoked) in [(0, 1, 2), (1, 2, 0), (2, 0, 1)] {
        let (path, secret) = (format!("/admin/v1/keys/k{made}"), format!("sk-k{made}"));
        let reply = crew.ask(made, Method::PUT, &path, Some(json!({ "secret": secret }))).await.unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());

        assert_eq!(crew.chat(used, &secret).await, 200, "made a moment ago at another node");

        let reply = crew.ask(revoked, Method::POST, &format!("{path}/revoke"), None).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let began = clock::now();
        all_answer(&crew, &secret, 401).await;
        // A bound for a busy machine; `crew revoke` measures.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_many_make_at_once_are_an_entry_each() {
    const WRITES: u64 = 64;
    let crew = Crew::start(program(), 3).await;
    let applied =
        async || crew.ask(0, Method::GET, "/admin/v1/cluster", None).await.unwrap().json()["applied"].as_u64();
    let before = applied().await.unwrap();

    let paths: Vec<_> = (0..WRITES).map(|at| format!("/admin/v1/keys/many-{at}")).collect();
    let writes = paths.iter().map(|path| crew.ask(0, Method::PUT, path, Some(json!({ "metadata": {} }))));
    let replies = futures_util::future::join_all(writes).await;

    for reply in replies {
        let reply = reply.unwrap();
        assert!(reply.status < 300, "{}", reply.text());
    }
    let entries = applied().await.unwrap() - before;
    assert!((WRITES..WRITES * 2).contains(&entries), "{entries} entries for {WRITES} changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_when_the_leader_dies_and_none_is_lost_or_made_twice() {
    let mut crew = Crew::start(program(), 3).await;
    let pace =
        Pace { tasks: 2, changes: 150, pause: Duration::from_millis(20), prefix: "c".to_owned(), shared: Some(7) };
    let writers = Writers::start(&crew, &pace);
    for _ in 0..2 {
        let at = crew.some_leader().await;
        crew.kill(at);
        sleep(Duration::from_millis(1500)).await;
        crew.run(at);
        crew.ready(at).await;
    }

    let ledger = writers.stop().await;
    crew.all_ready().await;

    assert_eq!(verdict(&crew, &ledger).await, [""; 0]);
    assert!(ledger.count(Fate::Acknowledged) > 0, "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_under_writes_come_back_with_every_acknowledged_change() {
    let mut crew = Crew::start(program(), 3).await;
    for round in 0..2 {
        let pace =
            Pace { tasks: 4, changes: u64::MAX, pause: Duration::ZERO, prefix: format!("r{round}-"), shared: None };
        let writers = Writers::start(&crew, &pace);
        sleep(Duration::from_millis(700)).await;
        for at in [2, 0, 1] {
            crew.kill(at);
        }
        let ledger = writers.stop().await;
        for at in [0, 1, 2] {
            crew.run(at);
        }
        crew.all_ready().await;

        assert_eq!(verdict(&crew, &ledger).await, [""; 0], "round {round}");
        assert!(ledger.count(Fate::Acknowledged) > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_from_no_majority_serves_up_to_its_bound_and_then_admits_nobody() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    let policies = json!({ "freshness": "5s" });
    let reply = crew.ask(0, Method::PUT, "/admin/v1/policies", Some(policies)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answer(&crew, "sk-team", 200).await;
    let left = crew.some_leader().await;
    let others: Vec<usize> = (0..3).filter(|at| *at != left).collect();

    others.iter().for_each(|at| crew.kill(*at));
    let killed = clock::now();

    // It leads and cannot know it no longer does; it serves from what it holds, for as long as that is fresh.
    assert_eq!(crew.chat(left, "sk-team").await, 200);
    let deadline = killed + 2 * LONG;
    loop {
        let began = clock::now();
        let status = crew.chat(left, "sk-team").await;
        let was_over = began.duration_since(killed) > Duration::from_millis(5300);
        if status == 503 {
            break;
        }
        assert_eq!(status, 200);
        assert!(!was_over, "it admits past its bound");
        assert!(clock::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    let told = attempt(crew.nodes[left].data, Method::GET, "/v1/models", "sk-team", "").await.unwrap();
    assert_eq!(told.header("x-troupe-error"), Some("stale"), "{}", told.text());
    assert!(told.header("retry-after").is_some());
    // The client comes anew, through a balancer that sends it to another node.
    assert_eq!(told.header("connection"), Some("close"));
    let ready = attempt(crew.nodes[left].data, Method::GET, "/readyz", "", "").await.unwrap();
    assert_eq!((ready.status, ready.text().as_str()), (503, "stale\n"));
    let status = crew.ask(left, Method::GET, "/admin/v1/cluster", None).await.unwrap().json();
    assert_eq!(status["quorum"], json!(false), "{status}");
    assert!(status["problems"].to_string().contains("no quorum confirms this node"), "{status}");
    let told = crew.operate(left, &["cluster", "status"]).await.ok();
    assert!(told.contains("PROBLEM: no quorum confirms this node"), "{told}");
    let written = crew.ask(left, Method::PUT, "/admin/v1/keys/cut-off", Some(json!({}))).await.unwrap();
    assert_eq!(written.status, 503, "{}", written.text());
    assert!(written.text().contains("nothing was changed") && !written.text().contains("stale"), "{}", written.text());

    others.iter().for_each(|at| crew.run(*at));
    crew.all_ready().await;
    all_answer(&crew, "sk-team", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_knows_is_told_so_and_not_while_nobody_can_be_asked() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;
    assert_eq!(crew.chat(0, "sk-nobody").await, 401);

    crew.kill(1);
    crew.kill(2);

    // The known key works; of the unknown one nothing can be said.
    assert_eq!(crew.chat(0, "sk-team").await, 200);
    assert_eq!(crew.chat(0, "sk-nobody").await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_is_a_cluster_too() {
    let mut crew = Crew::start(program(), 1).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;

    crew.kill(0);
    crew.run(0);
    crew.ready(0).await;

    all_answer(&crew, "sk-team", 200).await;
    let status = crew.ask(0, Method::GET, "/admin/v1/cluster", None).await.unwrap().json();
    assert_eq!((status["voters"].as_u64(), status["role"].as_str()), (Some(1), Some("leader")), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over_first() {
    let mut crew = Crew::start(program(), 3).await;
    let at = crew.some_leader().await;
    let pace =
        Pace { tasks: 1, changes: u64::MAX, pause: Duration::from_millis(10), prefix: "h".to_owned(), shared: None };
    let writers = Writers::start(&crew, &pace);
    sleep(Duration::from_millis(300)).await;

    crew.signal(at, "TERM");
    let told = clock::now();
    crew.ended(at).await;
    sleep(Duration::from_millis(500)).await;

    let ledger = writers.stop().await;
    assert!(crew.log(at).contains("leadership handed over"), "{}", crew.log(at));
    let gaps = ledger.gaps(&[told]);
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(4)), "{gaps:?}");
}

/// A node that does not lead.
async fn a_follower(crew: &Crew) -> usize {
    let leader = crew.some_leader().await;
    (0..crew.nodes.len()).find(|at| *at != leader).unwrap()
}

async fn put_key(crew: &Crew, at: usize, name: &str) {
    let body = json!({ "secret": format!("sk-{name}") });
    let reply = crew.ask(at, Method::PUT, &format!("/admin/v1/keys/{name}"), Some(body)).await.unwrap();
    assert!(reply.status < 300, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_is_gone_does_not_come_back_as_if_it_had_never_voted() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    let at = a_follower(&crew).await;
    let begun = crew.nodes[at].dir.join("begun");
    troupe_tests::until("it has written down that it takes part", || begun.exists()).await;
    crew.kill(at);
    std::fs::remove_dir_all(crew.nodes[at].dir.join("raft")).unwrap();

    crew.run(at);
    crew.ended(at).await;

    assert!(crew.log(at).contains("is gone, and this node has taken part"), "{}", crew.log(at));
    put_key(&crew, crew.some_leader().await, "others-go-on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_with_an_older_disk_takes_nobody_down() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    let at = a_follower(&crew).await;
    let (dir, old) = (crew.nodes[at].dir.clone(), crew.dir().join("older"));
    crew.kill(at);
    assert!(std::process::Command::new("cp").arg("-a").args([&dir, &old]).status().unwrap().success());
    crew.run(at);
    crew.ready(at).await;
    for number in 0..5 {
        put_key(&crew, at, &format!("since-{number}")).await;
    }
    crew.kill(at);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&old, &dir).unwrap();

    crew.run(at);
    crew.ready(at).await;

    put_key(&crew, crew.some_leader().await, "after").await;
    all_answer(&crew, "sk-after", 200).await;
    for other in (0..3).filter(|other| *other != at) {
        assert!(!crew.log(other).contains("panicked"), "{}", crew.log(other));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_tried_again_at_another_node_is_made_once() {
    let crew = Crew::start(program(), 3).await;
    put_key(&crew, 0, "once").await;
    let mut hashes = std::collections::BTreeSet::new();

    for at in [0, 1, 2] {
        let client = crew.admin(at).header("idempotency-key", "the-same");
        let reply = client.post("/admin/v1/keys/once/rotate", json!({})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        hashes.insert(reply.json()["hash_prefix"].as_str().unwrap().to_owned());
    }

    assert_eq!(hashes.len(), 1, "{hashes:?}");
}
