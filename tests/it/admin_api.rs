//! The spec as operators change it while a node runs: by the command line, which speaks the admin API only.

use std::time::Duration;

use serde_json::Value;
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, until};

use crate::cli::{Running, Site};

/// What applying 100,000 keys may take in a build that is not optimised and checks its invariants.
const APPLY_MAX: Duration = Duration::from_secs(60);

/// Commands against a node that follows no file.
pub(crate) struct Operator {
    pub(crate) site: Site,
    node: Running,
}

impl Operator {
    pub(crate) async fn new() -> Self {
        let site = Site::new();
        let node = site.serve_agreed().await;
        Self { site, node }
    }

    /// The exit code, the standard output and the standard error.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let url = format!("http://{}", self.node.admin);
        self.site.run(&[arguments, &["--admin-url", &url]].concat()).await
    }

    /// Runs well, and gives the standard output.
    pub(crate) async fn does(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        out
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(&[arguments, &["-o", "json"]].concat()).await).unwrap()
    }

    /// Fails with this code, saying this.
    pub(crate) async fn fails(&self, arguments: &[&str], code: i32, told: &str) {
        let (ended, out, err) = self.run(arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {out}{err}");
        assert!(err.contains(told), "{told:?} is not in {err:?}");
    }

    async fn admits(&self, secret: &str) -> u16 {
        let client = Client::new(self.node.data, None).key(secret);
        client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await.status
    }

    /// Waits until a key is answered so.
    pub(crate) async fn until_admitted_as(&self, secret: &str, status: u16) {
        let deadline = clock::now() + troupe_tests::eventually::LONG;
        while self.admits(secret).await != status {
            assert!(clock::now() < deadline, "{status} is never answered");
        }
    }
}

#[tokio::test]
async fn a_spec_is_applied_shown_exported_and_applied_again() {
    let operator = Operator::new().await;

    let planned = operator.does(&["diff", "-f", "spec.toml"]).await;
    assert!(
        planned.contains("+ provider o\n") && planned.ends_with("3 to add, 0 to change, 0 to remove\n"),
        "{planned}"
    );
    let applied = operator.json(&["apply", "-f", "spec.toml", "--reason", "the first"]).await;
    let secret = applied["made"][0]["secret"].as_str().unwrap().to_owned();
    operator.until_admitted_as(&secret, 200).await;
    let again = operator.does(&["apply", "-f", "spec.toml", "--prune"]).await;
    assert!(again.contains("nothing changes"), "{again}");

    for format in ["toml", "json", "yaml"] {
        let exported = operator.does(&["export", "-o", format]).await;
        let name = format!("exported.{format}");
        operator.site.write(&name, &exported);
        let same = operator.json(&["diff", "-f", &name, "--prune"]).await;
        assert_eq!(same["changes"], serde_json::json!([]), "{exported}");
        assert!(!exported.contains(&secret), "{exported}");
    }
    assert!(operator.does(&["provider", "list"]).await.contains("o     openai"));
    assert!(operator.does(&["model", "show", "gpt-4o"]).await.contains("provider: \"o\""));
}

#[tokio::test]
async fn what_goes_is_said_and_asked_for() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml"]).await;
    operator.site.write("less.toml", "");

    operator.fails(&["apply", "-f", "less.toml", "--prune", "--yes"], 4, "troupe apply --prune --allow-empty").await;
    operator.fails(&["diff", "-f", "less.toml", "--prune"], 4, "all 3 in force would be taken away").await;
    let emptying = ["apply", "-f", "less.toml", "--prune", "--allow-empty"];
    operator.fails(&emptying, 2, "- key app").await;
    operator.fails(&emptying, 2, "say --yes").await;
    let done = operator.does(&[&emptying[..], &["--yes"]].concat()).await;

    assert_eq!(done, "0 added, 0 changed, 3 removed\nrevision 2\n");
    assert_eq!(operator.json(&["key", "list"]).await["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_key_lives_from_its_making_to_its_end() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml"]).await;

    let arguments = ["key", "create", "team", "--model", "gpt-*", "--expires", "30d", "--metadata", "owner=search"];
    let (_, made, talk) = operator.run(&arguments).await;
    let secret = made.trim();
    assert!(secret.starts_with("sk-troupe-") && talk.contains("shown this once"), "{made}{talk}");
    operator.until_admitted_as(secret, 200).await;
    let shown = operator.json(&["key", "show", "team"]).await;
    assert_eq!((&shown["state"], &shown["metadata"]["owner"]), (&"active".into(), &"search".into()));

    let rotated = operator.does(&["key", "rotate", "team"]).await;
    operator.until_admitted_as(rotated.trim(), 200).await;
    operator.until_admitted_as(secret, 401).await;
    operator.does(&["key", "revoke", "team"]).await;
    operator.until_admitted_as(rotated.trim(), 401).await;
    assert!(operator.does(&["key", "list"]).await.contains("team  revoked"));
    operator.does(&["key", "delete", "team"]).await;
    operator.fails(&["key", "show", "team"], 3, "there is no key \"team\"").await;
    operator.fails(&["key", "create", "app"], 4, "there is a key \"app\" already").await;
}

#[tokio::test]
async fn mistakes_are_told_where_they_are_made() {
    let operator = Operator::new().await;

    operator.site.write("wrong.toml", "[keys.a]\nsecret = \"sk-1\"\n[modles.m]\n");
    operator
        .fails(&["apply", "-f", "wrong.toml"], 2, "wrong.toml:2:10: keys.a.secret: a secret is never written down")
        .await;
    operator.fails(&["apply", "-f", "wrong.toml"], 2, "did you mean `models`?").await;
    operator.site.write("provider.toml", "wire = \"openai\"\nkeys = [{ name = \"main\" }]\n");
    operator
        .fails(&["provider", "put", "p", "-f", "provider.toml"], 2, "providers.p.keys[0]: `secret` is missing")
        .await;
    operator.fails(&["provider", "delete", "p"], 3, "there is no provider").await;
    operator.fails(&["key", "create", "a", "--metadata", "owner"], 2, "is not NAME=WORD").await;
}

#[tokio::test]
async fn a_node_that_follows_a_file_refuses_changes() {
    let site = Site::new();
    let node = site.serve(&["--limits-drain-delay", "0s"]).await;
    let url = format!("http://{}", node.admin);

    let said = site.fails(&["key", "create", "b", "--admin-url", &url], 4).await;

    assert!(said.contains("follows the spec file spec.toml"), "{said}");
    until("the node still runs", || node.process.err().contains("serving")).await;
}

#[tokio::test]
async fn a_hundred_thousand_keys_are_applied_within_seconds() {
    let operator = Operator::new().await;
    let mut text = std::fs::read_to_string(operator.site.path("spec.toml")).unwrap();
    for n in 0..100_000 {
        text.push_str(&format!("[keys.k{n:06}]\nhash = \"sha256:{n:064x}\"\nmodels = [\"gpt-4o\"]\n"));
    }
    operator.site.write("large.toml", &text);
    let began = clock::now();

    let url = format!("http://{}", operator.node.admin);
    let mut applying = operator.site.start(&["apply", "-f", "large.toml", "--yes", "--admin-url", &url]);
    let deadline = began + APPLY_MAX;
    let ended = loop {
        if let Some(ended) = applying.try_wait() {
            break ended;
        }
        assert!(clock::now() < deadline, "not applied within {APPLY_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    let (took, said) = (clock::now() - began, applying.err());
    assert_eq!(ended.code(), Some(0), "{said}");
    println!("100,000 keys, in this build: {took:?}");
    assert!(said.contains("100003 to add"), "{said}");
    let listed = operator.json(&["key", "list"]).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 100_001);
}

#[tokio::test]
async fn operators_have_tokens_with_roles_and_leave_a_trace() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml", "--reason", "the first"]).await;
    let token = operator.does(&["token", "create", "ann", "--role", "viewer", "--expires", "30d"]).await;
    let as_ann = |arguments: &[&'static str]| {
        [arguments, &["--admin-token", token.trim()]].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };

    let read = as_ann(&["key", "list"]);
    operator.does(&read.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let write = as_ann(&["key", "create", "mine"]);
    operator.fails(&write.iter().map(String::as_str).collect::<Vec<_>>(), 1, "this takes the role operator").await;
    let list = operator.does(&["token", "list"]).await;
    let is_anns = |line: &&str| line.split_whitespace().take(3).eq(["ann", "viewer", "active"]);
    assert!(list.lines().any(|line| is_anns(&line)), "{list}");
    let audit = operator.does(&["audit", "--since", "1h"]).await;
    assert!(audit.contains("the first") && audit.contains("added"), "{audit}");
    operator.does(&["token", "revoke", "ann"]).await;
    operator.fails(&read.iter().map(String::as_str).collect::<Vec<_>>(), 1, "did not accept the admin token").await;
}

#[tokio::test]
async fn a_node_alone_is_a_healthy_cluster_whose_state_is_kept_in_a_file() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml"]).await;

    let status = operator.json(&["cluster", "status", "--check"]).await;
    let members = operator.json(&["cluster", "members"]).await;
    operator.does(&["snapshot", "save", "troupe.snapshot"]).await;
    let (_, inspected, _) = operator.site.run(&["snapshot", "inspect", "troupe.snapshot", "-o", "json"]).await;

    assert_eq!(status["role"], "leader", "{status}");
    assert_eq!((&members["items"][0]["leads"], &members["items"][0]["votes"]), (&true.into(), &true.into()));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected["keys"], &inspected["cluster"]), (&1.into(), &status["cluster"]));
    operator.fails(&["snapshot", "save", "troupe.snapshot"], 1, "troupe.snapshot").await;
    operator.site.fails(&["snapshot", "inspect", "spec.toml"], 1).await;
}
