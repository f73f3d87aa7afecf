//! Data directories that earlier versions left behind open in this one, and what is no such directory does not.
//!
//! `tests/fixtures/data-dir` has one for each version of the agreed state, written by the program of that time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_cluster::audit;
use troupe_node::clock;
use troupe_proto::member;
use troupe_tests::Crew;
use troupe_tests::crew::attempt;
use troupe_tests::eventually::LONG;

use crate::cluster::{all_answer, program};
use crate::joining::says;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-dir")
}

/// What the program that wrote a directory said of it.
fn told(version: u16, name: &str) -> Value {
    let file = fixtures().join(version.to_string()).join(name);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

/// A node that does not run yet, on a copy of what `version` left behind.
fn prepared(version: u16) -> Crew {
    let crew = Crew::prepare(program(), 1);
    copy(&fixtures().join(version.to_string()).join("data"), &crew.nodes[0].dir);
    crew
}

async fn ask(crew: &Crew, path: &str) -> Value {
    let reply = crew.ask(0, Method::GET, &format!("/admin/v1/{path}"), None).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The status of a client's call that asks no provider.
async fn enters(crew: &Crew, key: &str) -> u16 {
    attempt(crew.nodes[0].data, Method::GET, "/v1/models", key, "").await.map_or(0, |reply| reply.status)
}

/// Waits until the node has put in force what it brings.
async fn settled(crew: &Crew) {
    let deadline = clock::now() + LONG;
    while ask(crew, "cluster").await["version"] != json!(member::VERSION) {
        assert!(clock::now() < deadline, "{}", crew.log(0));
        sleep(Duration::from_millis(20)).await;
    }
}

/// All that the directory held is there, works and goes on.
async fn opens(version: u16) {
    let mut crew = prepared(version);
    crew.run(0);
    crew.ready(0).await;
    settled(&crew).await;

    assert_eq!(ask(&crew, "export?hashes=true").await, told(version, "export.json"), "version {version}");
    for (key, status) in [("sk-team", 200), ("sk-late", 200), ("sk-gone", 401), ("sk-old", 401), ("sk-removed", 401)] {
        assert_eq!(enters(&crew, key).await, status, "{key} of version {version}");
    }
    let members = crew.members(0).await;
    assert_eq!((members.len(), &members[0]["name"], &members[0]["votes"]), (1, &json!("gw-1"), &json!(true)));
    let tokens = ask(&crew, "tokens").await;
    let names: Vec<&Value> = tokens["items"].as_array().unwrap().iter().map(|token| &token["name"]).collect();
    assert_eq!(names.iter().filter(|name| ["ci", "late"].contains(&name.as_str().unwrap())).count(), 2, "{names:?}");
    let waiting = ask(&crew, "join-tokens").await["items"].as_array().unwrap().len();
    assert_eq!(waiting, 1, "those of the cluster before are gone, the one behind the snapshot is there");

    if version >= 3 {
        let switched = ask(&crew, "providers/az").await;
        assert_eq!(switched["state"], "disabled", "{switched}");
    }

    // The secrets open: a provider is called with its own, which nobody said again.
    let mut provider = told(version, "export.json")["providers"]["o"].clone();
    provider["base_url"] = json!(format!("{}/v1", crew.mock.base_url));
    let reply = crew.ask(0, Method::PUT, "/admin/v1/providers/o", Some(provider)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answer(&crew, "sk-team", 200).await;
    let heard = crew.mock.received();
    let shown = heard.last().and_then(|call| call.header("authorization")).map(str::to_owned);
    assert!(shown.as_deref().is_some_and(|shown| shown.starts_with("Bearer provider-secret-")), "{shown:?}");

    // Each line of the audit is what it was, and the new ones are linked to it.
    let lines = ask(&crew, "audit?limit=1000").await["items"].as_array().unwrap().clone();
    let before = told(version, "audit.json")["items"].as_array().unwrap().clone();
    assert_eq!(lines[..before.len()], before, "version {version}");
    assert!(lines.len() > before.len(), "the change of the provider");
    crew.kill(0);
    let report = audit::verify(&crew.nodes[0].dir.join("audit")).unwrap();
    assert!(report.gaps.is_empty() && report.lines >= u64::try_from(before.len()).unwrap(), "{report:?}");

    // What this version writes behind it is read again.
    crew.run(0);
    crew.ready(0).await;
    all_answer(&crew, "sk-team", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_earlier_version_left_behind_opens_with_all_that_was_in_it() {
    let mut versions: Vec<u16> = std::fs::read_dir(fixtures())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok())
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=member::VERSION).collect::<Vec<_>>(), "each version leaves a fixture: see `write` there");

    for version in versions {
        opens(version).await;
    }
}

/// What a node says that does not start on a directory that was altered.
async fn refused(alter: impl FnOnce(&Path)) -> String {
    let mut crew = prepared(member::VERSION);
    alter(&crew.nodes[0].dir);
    crew.run(0);
    let code = crew.ends(0).await;
    assert_ne!(code, Some(0), "{}", crew.log(0));
    let said = crew.log(0);
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The only file of a directory that ends so.
fn only(dir: &Path, ending: &str) -> PathBuf {
    let mut found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.to_str().unwrap().ends_with(ending)).unwrap()
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_cut_off_foreign_or_of_a_later_version_is_refused_in_clear_words() {
    let said = refused(|dir| cut(&only(&dir.join("snapshots"), ".snapshot"))).await;
    assert!(said.contains("the snapshots cannot be read"), "{said}");

    let said = refused(|dir| cut(&dir.join("identity"))).await;
    assert!(said.contains("identity is damaged"), "{said}");

    let said = refused(|dir| std::fs::remove_dir_all(dir.join("raft")).unwrap()).await;
    assert!(said.contains("is gone, and this node has taken part"), "{said}");

    let said = refused(|dir| std::fs::remove_file(dir.join("identity")).unwrap()).await;
    assert!(said.contains("holds a node's data without its identity"), "{said}");

    let later = |dir: &Path| {
        let file = dir.join("identity");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4] = 200;
        std::fs::write(file, bytes).unwrap();
    };
    let said = refused(later).await;
    assert!(said.contains("a later version of troupe"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_cluster_with_another_seal_key_is_refused_in_clear_words() {
    let mut crew = prepared(member::VERSION);
    std::fs::write(crew.path("seal-key"), "5f".repeat(32)).unwrap();
    crew.run(0);

    says(&crew, 0, "which this node was not given").await;

    assert_ne!(enters(&crew, "sk-team").await, 200);
}
