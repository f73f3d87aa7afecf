//! Who becomes part of a cluster, how it leaves, and who is kept out: real nodes with certificates.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_cluster::transport::ca;
use troupe_node::clock;
use troupe_tests::Crew;

use crate::cluster::{all_answer, program};
use crate::trouble::comes_to;

/// What anything here may take while the machine does something else.
const WITHIN: Duration = Duration::from_secs(40);

/// Waits until a node says something in its log.
pub(crate) async fn says(crew: &Crew, at: usize, words: &str) {
    let deadline = clock::now() + WITHIN;
    while !crew.log(at).contains(words) {
        assert!(clock::now() < deadline, "{} never says {words:?}:\n{}", crew.nodes[at].name, crew.log(at));
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node has counted a refusal for one of these reasons.
pub(crate) async fn counts(crew: &Crew, at: usize, direction: &str, reason: &str) {
    let deadline = clock::now() + WITHIN;
    let start = format!("troupe_peer_refused_total{{direction=\"{direction}\",reason=\"{reason}\"}} ");
    loop {
        let page = crew.ask(at, Method::GET, "/metrics", None).await.map(|reply| reply.text()).unwrap_or_default();
        let count = page.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok());
        if count.is_some_and(|count| count > 0.0) {
            return;
        }
        assert!(clock::now() < deadline, "{start} stays {count:?}:\n{}", crew.log(at));
        sleep(Duration::from_millis(50)).await;
    }
}

/// The last thing that a node said.
fn last_line(crew: &Crew, at: usize) -> String {
    crew.log(at).lines().rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

async fn token(crew: &Crew, at: usize, expires_in: &str) -> String {
    crew.operate(at, &["cluster", "token", "--expires-in", expires_in]).await.ok().trim().to_owned()
}

/// A new seat that joins with a token.
fn newcomer(crew: &mut Crew, token: &str) -> usize {
    let at = crew.seat();
    let mut flags = crew.joining(at);
    let file = crew.path(&format!("join-token.{at}"));
    std::fs::write(&file, token).unwrap();
    flags.push(format!("--cluster-join-token=file:{}", file.display()));
    crew.nodes[at].flags = Some(flags);
    crew.run(at);
    at
}

/// A new seat that joins with a certificate.
async fn certified(crew: &mut Crew) -> usize {
    let at = crew.seat();
    let mut flags = crew.joining(at);
    flags.extend(crew.certificate("ca", &crew.nodes[at].name).await);
    crew.nodes[at].flags = Some(flags);
    crew.run(at);
    at
}

fn voters(members: &[Value]) -> usize {
    members.iter().filter(|member| member["votes"] == json!(true)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_certificates_form_a_cluster_and_others_join_it_by_tokens() {
    let mut crew = Crew::certified(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;

    let used = token(&crew, 1, "1h").await;
    let fourth = newcomer(&mut crew, &used);
    crew.ready(fourth).await;
    let told = crew.operate(0, &["cluster", "promote", "gw-4"]).await.fails(4);
    assert!(told.contains("one, three or five voters, never 4"), "{told}");

    let again = newcomer(&mut crew, &used);
    assert_eq!(crew.ends(again).await, Some(1));
    assert!(crew.log(again).contains("was used by node"), "{}", crew.log(again));
    let short = token(&crew, 2, "1ms").await;
    while !crew.operate(2, &["cluster", "tokens"]).await.ok().contains("expired") {
        sleep(Duration::from_millis(50)).await;
    }
    let late = newcomer(&mut crew, &short);
    assert_eq!(crew.ends(late).await, Some(1));
    assert!(crew.log(late).contains("expired"), "{}", crew.log(late));

    // The nodes that were turned away sit on gw-5 and gw-6.
    let fresh = token(&crew, 0, "1h").await;
    let seventh = newcomer(&mut crew, &fresh);
    crew.ready(seventh).await;
    crew.operate(1, &["cluster", "promote", "gw-4", "gw-7"]).await.ok();
    assert_eq!(voters(&crew.members(0).await), 5);
    all_answer(&crew, "sk-team", 200).await;
    if crew.leader().await == Some(fourth) {
        // On a machine that is busy it may lead already, and what changes nothing is not kept.
        crew.operate(1, &["cluster", "transfer-leader", "gw-1"]).await.ok();
    }
    crew.operate(1, &["cluster", "transfer-leader", "gw-4"]).await.ok();
    let members = crew.members(fourth).await;
    assert!(members.iter().any(|member| member["leads"] == json!(true) && member["name"] == "gw-4"), "{members:?}");

    let audit = crew.operate(0, &["audit", "-o", "json"]).await.ok();
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let changes = |line: &Value| line["changes"].as_array().unwrap().clone();
    let votes: Vec<Value> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(changes)
        .filter(|change| change["what"] == "votes")
        .collect();
    let last =
        |name: &str| votes.iter().rfind(|vote| vote["name"] == *name).unwrap_or_else(|| panic!("{name}: {audit}"));
    let (promoted, led) = (last("promote"), last("transfer-leader"));
    let count = |seats: &Value, kind: &str| seats[kind].as_array().unwrap().len();
    assert_eq!((count(&promoted["before"], "voters"), count(&promoted["after"], "voters")), (3, 5), "{promoted}");
    assert_eq!(
        led["after"]["leader"],
        members.iter().find(|member| member["name"] == "gw-4").unwrap()["node"],
        "{led}"
    );

    let given = std::fs::read_to_string(crew.nodes[fourth].dir.join("peer.crt")).unwrap();
    let named = ca::describe(&given).unwrap()[0].node_id().map(|node| json!(node.to_string()));
    assert_eq!(named.as_ref(), Some(&led["after"]["leader"]), "a certificate by token is for the node that showed it");

    // The certificate stays; the token is of no use any more, and not needed.
    crew.kill(fourth);
    let flags = crew.joining(fourth);
    crew.nodes[fourth].flags = Some(flags);
    crew.run(fourth);
    crew.ready(fourth).await;
    assert_eq!(crew.chat(fourth, "sk-team").await, 200);
    let tokens = crew.operate(0, &["cluster", "tokens", "-o", "json"]).await.ok();
    let tokens: Value = serde_json::from_str(&tokens).unwrap();
    let count = |state: &str| tokens["items"].as_array().unwrap().iter().filter(|t| t["state"] == state).count();
    assert_eq!((count("used"), count("expired"), count("open")), (2, 1, 0), "{tokens}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_to_join_is_kept_out_and_told_why() {
    let mut crew = Crew::certified(program(), 1).await;
    crew.furnish().await;

    // Neither certificate nor token.
    let bare = crew.seat();
    let flags = crew.joining(bare);
    crew.nodes[bare].flags = Some(flags);
    crew.run(bare);
    assert_eq!(crew.ends(bare).await, Some(2));
    assert!(crew.log(bare).contains("join_token"), "{}", crew.log(bare));

    // A token that nobody made.
    let real = token(&crew, 0, "1h").await;
    let (_, fingerprint) = real.split_once('.').unwrap();
    let forger = newcomer(&mut crew, &format!("troupe-join-forged.{fingerprint}"));
    assert_eq!(crew.ends(forger).await, Some(1));
    let last = last_line(&crew, forger);
    assert!(last.contains("no such join token"), "{last}\n{}", crew.log(forger));

    // A certificate of another authority.
    crew.authority("other").await;
    let stranger = crew.seat();
    let mut flags = crew.joining(stranger);
    flags.extend(crew.certificate("other", "gw-x").await);
    crew.nodes[stranger].flags = Some(flags);
    crew.run(stranger);
    says(&crew, stranger, "refuse each other: the certificate is not of this cluster's authority").await;
    assert!(!crew.log(stranger).contains("bootstrap_expect"), "{}", crew.log(stranger));
    counts(&crew, 0, "in", "certificate_untrusted").await;
    crew.kill(stranger);

    // A node of another cluster of the same authority.
    let second = crew.seat();
    let own = crew.certificate("ca", &crew.nodes[second].name).await;
    crew.nodes[second].flags = Some([own.clone(), vec!["--cluster-bootstrap-expect=1".to_owned()]].concat());
    crew.run(second);
    crew.ready(second).await;
    assert_ne!(crew.status(second, "cluster").await, crew.status(0, "cluster").await);
    crew.kill(second);
    let flags = [own, crew.joining(second)].concat();
    crew.nodes[second].flags = Some(flags);
    crew.run(second);
    says(&crew, second, "two clusters were formed").await;
    counts(&crew, 0, "in", "foreign_cluster").await;
    counts(&crew, second, "out", "foreign_cluster").await;

    assert_eq!(crew.members(0).await.len(), 1);
    assert_eq!(crew.chat(0, "sk-team").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_nodes_are_replaced_and_nodes_leave() {
    let mut crew = Crew::certified(program(), 3).await;
    crew.furnish().await;

    // Each has told of itself.
    while crew.members(0).await.iter().any(|member| !member["name"].is_string()) {
        sleep(Duration::from_millis(20)).await;
    }

    // A disk is lost: the node is another one from now on.
    let lost = crew.status(2, "node").await;
    crew.kill(2);
    crew.wipe(2);
    crew.run(2);
    crew.ready(2).await;
    let found = crew.status(2, "node").await;
    assert_ne!(lost, found);
    let [lost, found] = [&lost, &found].map(|id| id.as_str().unwrap());
    let told = crew.operate(0, &["cluster", "replace", "gw-3", "--by", "gw-3"]).await.fails(4);
    assert!(told.contains(lost) && told.contains(found), "{told}");
    crew.operate(0, &["cluster", "replace", lost, "--by", found]).await.ok();
    let members = crew.members(0).await;
    assert_eq!((members.len(), voters(&members)), (3, 3), "{members:?}");
    all_answer(&crew, "sk-team", 200).await;

    // Taken out by an operator: it stays out.
    let fourth = certified(&mut crew).await;
    crew.ready(fourth).await;
    crew.operate(1, &["cluster", "remove", "gw-4"]).await.ok();
    assert_eq!(crew.members(1).await.len(), 3);
    crew.kill(fourth);
    crew.run(fourth);
    says(&crew, fourth, "taken out of the cluster").await;
    crew.kill(fourth);
    let told = crew.operate(1, &["cluster", "remove", "gw-2"]).await.fails(4);
    assert!(told.contains("never 2"), "{told}");

    // Leaves by itself: a learner, then a voter, whose vote the learner gets.
    let fifth = certified(&mut crew).await;
    crew.ready(fifth).await;
    crew.operate(fifth, &["cluster", "leave"]).await.ok();
    assert_eq!(crew.ends(fifth).await, Some(0));
    let told = crew.operate(2, &["cluster", "leave"]).await.fails(4);
    assert!(told.contains("learner"), "{told}");
    let sixth = certified(&mut crew).await;
    crew.ready(sixth).await;
    crew.operate(2, &["cluster", "leave"]).await.ok();
    assert_eq!(crew.ends(2).await, Some(0));
    let members = crew.members(0).await;
    assert_eq!((members.len(), voters(&members)), (3, 3), "{members:?}");
    assert!(members.iter().any(|member| member["name"] == "gw-6"), "{members:?}");
    all_answer(&crew, "sk-team", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stops_when_a_copy_of_its_data_directory_runs_beside_it() {
    let mut crew = Crew::start(program(), 3).await;
    let leader = crew.some_leader().await;
    let first = (leader + 1) % 3;
    let copy = crew.seat();
    let (from, to) = (crew.nodes[first].dir.clone(), crew.nodes[copy].dir.clone());
    let copied = std::process::Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap();
    assert!(copied.success());
    let mut flags = crew.joining(copy);
    flags.push("--cluster-plain=true".to_owned());
    crew.nodes[copy].flags = Some(flags);

    crew.run(copy);

    assert_eq!(crew.ends(first).await, Some(1), "{}", crew.log(first));
    let said = crew.log(first);
    assert!(said.contains("a later process of node") && said.contains("copied or put back"), "{said}");
    assert!(crew.runs(copy), "{}", crew.log(copy));
}

/// When the first certificate ends, as a page of metrics has it.
fn expiry(page: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix("troupe_peer_certificate_expiry_seconds ")?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_without_a_failed_call() {
    let mut crew = Crew::certified(program(), 3).await;
    crew.furnish().await;
    all_answer(&crew, "sk-team", 200).await;

    let mut before = Vec::new();
    for at in 0..3 {
        let page = crew.ask(at, Method::GET, "/metrics", None).await.unwrap().text();
        before.push(expiry(&page).unwrap());
    }
    for (at, before) in before.into_iter().enumerate() {
        let name = crew.nodes[at].name.clone();
        let (ca, new) = (crew.path("ca").display().to_string(), crew.path(&format!("new-{name}")));
        let out = new.display().to_string();
        crew.troupe(&["cert", "issue", "--ca", &ca, "--name", &name, "--days", "30", "--out", &out]).await.ok();
        // Half of the pair: refused, and the old one stays in force.
        std::fs::rename(new.join("peer.key"), crew.path(&format!("ca-{name}")).join("peer.key")).unwrap();
        crew.signal(at, "HUP");
        says(&crew, at, "those in force stay").await;
        std::fs::rename(new.join("peer.crt"), crew.path(&format!("ca-{name}")).join("peer.crt")).unwrap();
        crew.signal(at, "HUP");
        says(&crew, at, "were read again").await;
        for node in 0..3 {
            let path = format!("/admin/v1/keys/k{at}{node}");
            let reply = crew.ask(node, Method::PUT, &path, Some(json!({ "secret": format!("sk-k{at}{node}") }))).await;
            assert_eq!(reply.unwrap().status, 201);
            assert_eq!(crew.chat(node, "sk-team").await, 200);
        }
        let page = crew.ask(at, Method::GET, "/metrics", None).await.unwrap().text();
        assert!(expiry(&page).unwrap() < before, "{page}");
    }

    // New connections are made with them.
    for at in 0..3 {
        crew.kill(at);
        crew.run(at);
        crew.ready(at).await;
    }
    all_answer(&crew, "sk-team", 200).await;
    // Until gossip has heard the one that was started last, it misses it.
    comes_to(&crew, 1, &["cluster", "status", "--check"], 0).await;
}
