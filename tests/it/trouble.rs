//! Nodes that cannot do all that they should: what they still do, and what they say.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_cluster::transport::ca;
use troupe_node::clock;
use troupe_tests::crew::{Crew, attempt};
use troupe_tests::eventually::LONG;

use crate::cluster::{all_answer, program};
use crate::joining::says;

/// Waits until a node says that this is wrong with it.
async fn shows(crew: &Crew, at: usize, words: &str) -> Value {
    let deadline = clock::now() + 2 * LONG;
    loop {
        let reply = crew.ask(at, Method::GET, "/admin/v1/cluster", None).await;
        let status = reply.map(|reply| reply.json()).unwrap_or_default();
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        if problems.iter().any(|problem| problem.as_str().unwrap().contains(words)) {
            return status;
        }
        assert!(clock::now() < deadline, "{words:?} is not among {status}:\n{}", crew.log(at));
        sleep(Duration::from_millis(20)).await;
    }
}

/// The program, not killed by the signal that says that a file may not grow.
fn unkilled(dir: &Path) -> std::path::PathBuf {
    let script = dir.join("troupe");
    std::fs::write(&script, format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", program().display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Lets no file of a process grow beyond the largest one of its log: as on a disk that is full.
fn fill_disk(crew: &Crew, at: usize) {
    let files = std::fs::read_dir(crew.nodes[at].dir.join("raft")).unwrap();
    let largest = files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap();
    let pid = crew.nodes[at].pid().unwrap().to_string();
    let limited =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={largest}")]).status().unwrap();
    assert!(limited.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_is_full_serves_up_to_its_bound_takes_no_change_and_then_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut crew = Crew::start(&unkilled(dir.path()), 1).await;
    crew.furnish().await;
    let reply = crew.ask(0, Method::PUT, "/admin/v1/policies", Some(json!({ "freshness": "15s" }))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    // The log of consensus is the largest file by far: it alone meets the limit.
    let keys: serde_json::Map<String, Value> = (0..3000).map(|n| (format!("k{n:05}"), json!({}))).collect();
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(json!({ "keys": keys }))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answer(&crew, "sk-team", 200).await;
    let put = |name: &str| {
        let (path, body) = (format!("/admin/v1/keys/{name}"), json!({ "secret": format!("sk-{name}") }));
        let crew = &crew;
        async move { crew.ask(0, Method::PUT, &path, Some(body)).await.unwrap() }
    };

    fill_disk(&crew, 0);
    let began = clock::now();
    let met = put("met").await;

    assert!(met.status >= 500, "{}", met.text());
    let status = shows(&crew, 0, "consensus stopped at this node").await;
    assert_eq!((status["role"].as_str(), status["quorum"].as_bool()), (Some("stopped"), Some(false)), "{status}");
    let refused = put("refused").await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("consensus_stopped")), "{}", refused.text());
    assert!(refused.text().contains("nothing was changed"), "{}", refused.text());
    let ready = attempt(crew.nodes[0].admin, Method::GET, "/readyz?verbose", "", "").await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.text().contains("[-] takes part in agreement"), "{}", ready.text());
    let node = crew.operate(0, &["node", "status"]).await.ok();
    assert!(node.contains("PROBLEM: consensus stopped at this node"), "{node}");
    assert_eq!(crew.operate(0, &["cluster", "status", "--check"]).await.code, Some(6));
    while began.elapsed() < Duration::from_secs(13) {
        assert_eq!(crew.chat(0, "sk-team").await, 200, "{}", crew.log(0));
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(crew.ends(0).await, Some(1), "{}", crew.log(0));
    let ended = began.elapsed();
    assert!(ended >= Duration::from_secs(14) && ended < Duration::from_secs(40), "{ended:?}");
    let log = crew.log(0);
    let last = log.lines().next_back().unwrap_or_default();
    assert!(last.contains("consensus stopped here") && last.contains("too old"), "{log}");

    // There is room again.
    crew.run(0);
    crew.ready(0).await;
    all_answer(&crew, "sk-team", 200).await;
    assert_eq!(crew.ask(0, Method::PUT, "/admin/v1/keys/more", Some(json!({}))).await.unwrap().status, 201);
}

/// Waits until a command at a node ends with this code; gives what it said.
pub(crate) async fn comes_to(crew: &Crew, at: usize, arguments: &[&str], code: i32) -> String {
    let deadline = clock::now() + 2 * LONG;
    loop {
        let ran = crew.operate(at, arguments).await;
        let told = format!("{}{}", ran.out, ran.err);
        if ran.code == Some(code) {
            return told;
        }
        assert!(clock::now() < deadline, "{arguments:?} does not exit with {code}: {told}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_leader_leads_no_more_a_node_without_consensus_is_heard_and_a_dead_voter_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut crew = Crew::start(&unkilled(dir.path()), 3).await;
    crew.furnish().await;
    let keys: serde_json::Map<String, Value> = (0..3000).map(|n| (format!("k{n:05}"), json!({}))).collect();
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(json!({ "keys": keys }))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answer(&crew, "sk-team", 200).await;
    let check = ["cluster", "status", "--check"];
    comes_to(&crew, 0, &check, 0).await;

    let former = crew.some_leader().await;
    crew.operate(former, &["node", "drain"]).await.ok();
    assert_ne!(crew.status(former, "role").await, "leader", "{}", crew.log(former));
    let leader = crew.some_leader().await;
    assert_ne!(leader, former);
    crew.operate(former, &["node", "undrain"]).await.ok();

    let ill = (0..3).find(|at| ![former, leader].contains(at)).unwrap();
    fill_disk(&crew, ill);
    let put = crew.ask(leader, Method::PUT, "/admin/v1/keys/more", Some(json!({}))).await.unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    shows(&crew, ill, "consensus stopped at this node").await;
    // Longer than gossip takes to find a node dead that says nothing.
    sleep(Duration::from_secs(4)).await;
    let node =
        |members: Vec<Value>| members.into_iter().find(|one| one["name"] == crew.nodes[ill].name.as_str()).unwrap();
    let seen = node(crew.members(leader).await);
    assert_eq!(seen["alive"], true, "{seen}");
    assert_eq!(crew.operate(leader, &check).await.code, Some(0), "it gives signs of life");

    crew.kill(ill);
    let told = comes_to(&crew, leader, &check, 6).await;
    let name = crew.nodes[ill].name.clone();
    assert!(told.contains(&format!("voter {name} (")) && told.contains("is dead"), "{told}");
    assert_eq!(crew.operate(leader, &[&check[..], &["--tolerate", &name]].concat()).await.code, Some(0));
    assert_eq!(crew.operate(leader, &["cluster", "status"]).await.code, Some(0), "it is asked what is so, not whether");
}

fn other_key(crew: &Crew) -> String {
    let file = crew.path("other-seal-key");
    std::fs::write(&file, "ab".repeat(32)).unwrap();
    format!("--cluster-seal-key=file:{}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_with_another_seal_key_says_so_once_and_shows_it() {
    let mut crew = Crew::start(program(), 1).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;
    crew.kill(0);
    crew.nodes[0].flags = Some(vec![other_key(&crew)]);

    crew.run(0);

    let status = shows(&crew, 0, "cluster.seal_key").await;
    assert!(status["problems"][0].as_str().unwrap().contains("provider o, key main"), "{status}");
    // Time in which it used to be said eight times.
    sleep(Duration::from_secs(2)).await;
    let said = crew.log(0).matches("cannot be served at this node").count();
    assert_eq!(said, 1, "{}", crew.log(0));
    let ready = attempt(crew.nodes[0].admin, Method::GET, "/readyz?verbose", "", "").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("[-] serves all that was agreed"), "{}", ready.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_seal_key_than_the_others_shows_that_they_refuse_it_and_why() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;
    crew.kill(2);
    let flags = [crew.joining(2), vec!["--cluster-plain=true".to_owned(), other_key(&crew)]].concat();
    crew.nodes[2].flags = Some(flags);

    crew.run(2);

    let status = shows(&crew, 2, "refuse each other").await;
    assert!(status["problems"].to_string().contains("this node's cluster.seal_key is not the others'"), "{status}");
    says(&crew, 2, "other nodes and this one refuse each other").await;
    let said = crew.log(2).matches("other nodes and this one refuse each other").count();
    assert_eq!(said, 1, "{}", crew.log(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_started_with_an_ended_certificate_names_it_and_takes_a_renewed_one_up() {
    let mut crew = Crew::certified(program(), 1).await;
    crew.kill(0);
    let read = |name: &str| std::fs::read_to_string(crew.path("ca").join(name)).unwrap();
    let issuer = ca::Issuer::read(&read("ca.crt"), &read("ca.key")).unwrap();
    let now = clock::unix_seconds();
    let ended = ca::Validity { from: now - 7200, until: now - 60 };
    let node = issuer.issue("gw-1", &[], None, ended).unwrap();
    let kept = crew.path("ca-gw-1");
    std::fs::write(kept.join("peer.crt"), node.cert).unwrap();
    std::fs::write(kept.join("peer.key"), node.key).unwrap();

    crew.run(0);
    says(&crew, 0, "peer.crt ended at 20").await;
    assert!(crew.log(0).contains("troupe cert issue"), "{}", crew.log(0));
    // It agrees with itself, and serves.
    crew.ready(0).await;

    let (authority, new) = (crew.path("ca").display().to_string(), crew.path("new"));
    let out = new.display().to_string();
    crew.troupe(&["cert", "issue", "--ca", &authority, "--name", "gw-1", "--days", "5", "--out", &out]).await.ok();
    for file in ["peer.key", "peer.crt"] {
        std::fs::rename(new.join(file), kept.join(file)).unwrap();
    }
    crew.signal(0, "HUP");
    says(&crew, 0, "were read again").await;
    says(&crew, 0, "peer.crt ends at 20").await;
}
