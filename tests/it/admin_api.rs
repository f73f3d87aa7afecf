//! The spec as operators change it while a node runs: by the command line, which speaks the admin API only.

use serde_json::Value;
use troupe_node::clock;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, until};

use crate::cli::{Running, Site};

/// Commands against a node that follows no file.
struct Operator {
    site: Site,
    node: Running,
}

impl Operator {
    async fn new() -> Self {
        let site = Site::new();
        let node = site.serve_agreed().await;
        Self { site, node }
    }

    /// The exit code, the standard output and the standard error.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let url = format!("http://{}", self.node.admin);
        self.site.run(&[arguments, &["--admin-url", &url]].concat()).await
    }

    /// Runs well, and gives the standard output.
    async fn does(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        out
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(&[arguments, &["-o", "json"]].concat()).await).unwrap()
    }

    /// Fails with this code, saying this.
    async fn fails(&self, arguments: &[&str], code: i32, told: &str) {
        let (ended, out, err) = self.run(arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {out}{err}");
        assert!(err.contains(told), "{told:?} is not in {err:?}");
    }

    async fn admits(&self, secret: &str) -> u16 {
        let client = Client::new(self.node.data, None).key(secret);
        client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await.status
    }

    /// Waits until a key is answered so.
    async fn until_admitted_as(&self, secret: &str, status: u16) {
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

    operator.fails(&["apply", "-f", "less.toml", "--prune"], 2, "- key app").await;
    operator.fails(&["apply", "-f", "less.toml", "--prune"], 2, "say --yes").await;
    let done = operator.does(&["apply", "-f", "less.toml", "--prune", "--yes"]).await;

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
        .fails(&["apply", "-f", "wrong.toml"], 1, "wrong.toml:2:10: keys.a.secret: a secret is never written down")
        .await;
    operator.fails(&["apply", "-f", "wrong.toml"], 1, "did you mean `models`?").await;
    operator.site.write("provider.toml", "wire = \"openai\"\nkeys = [{ name = \"main\" }]\n");
    operator
        .fails(&["provider", "put", "p", "-f", "provider.toml"], 1, "providers.p.keys[0]: `secret` is missing")
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

    let (code, _, said) = operator.run(&["apply", "-f", "large.toml", "--yes"]).await;

    let took = clock::now() - began;
    assert_eq!(code, Some(0), "{said}");
    println!("100,000 keys, in this build: {took:?}");
    assert!(said.contains("100003 to add"), "{said}");
    assert!(took.as_secs() < 60, "{took:?}");
    let listed = operator.json(&["key", "list"]).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 100_001);
}
