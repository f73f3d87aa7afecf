//! The way back through the audit, as operators go it.

use http::Method;
use serde_json::{Value, json};
use troupe_tests::Crew;

use crate::admin_api::Operator;
use crate::cluster::program;

impl Operator {
    /// The entry of the last line of the audit.
    async fn newest(&self) -> String {
        self.json(&["audit", "--limit", "1"]).await["items"][0]["index"].to_string()
    }
}

#[tokio::test]
async fn an_audit_whose_files_were_altered_is_found() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml"]).await;
    operator.does(&["key", "create", "team"]).await;
    let newest = operator.json(&["audit", "--limit", "1"]).await["items"][0].clone();
    let verify = ["audit", "verify", "-o", "json"];
    // A moment after the change: the files follow the state.
    let is_written = async || {
        let (_, out, _) = operator.site.run(&verify).await;
        serde_json::from_str(&out).ok().filter(|seen: &serde_json::Value| seen["last"] == newest["index"])
    };
    let deadline = troupe_node::clock::now() + troupe_tests::eventually::LONG;
    let seen = loop {
        assert!(troupe_node::clock::now() < deadline, "the files never have the last change");
        if let Some(seen) = is_written().await {
            break seen;
        }
    };
    assert_eq!((&seen["head"], &seen["gaps"]), (&newest["hash"], &serde_json::json!(0)), "{seen}");

    let file = operator.site.path("troupe-data/audit/audit-00000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("team", "mate", 1)).unwrap();

    let said = operator.site.fails(&["audit", "verify"], 1).await;
    assert!(said.contains("audit-00000001.jsonl") && said.contains("line "), "{said}");
    let said = operator.site.fails(&["audit", "verify", "--data-dir", "elsewhere"], 1).await;
    assert!(said.contains("elsewhere"), "{said}");
}

#[tokio::test]
async fn a_spec_is_compared_shown_and_put_in_force_again_as_it_was() {
    let operator = Operator::new().await;
    let applied = operator.json(&["apply", "-f", "spec.toml"]).await;
    let secret = applied["made"][0]["secret"].as_str().unwrap().to_owned();
    let (first, exported_first) = (operator.newest().await, operator.does(&["export"]).await);
    operator.does(&["key", "create", "team", "--model", "gpt-*", "--metadata", "owner=search"]).await;
    let more = exported_first.replace("[[models.gpt-4o.targets]]", "[models.gpt-4o.timeouts]\nidle = \"9s\"\n\n$&");
    let more = more.replace("$&", "[[models.gpt-4o.targets]]");
    assert!(more.contains("9s"), "{more}");
    operator.site.write("more.toml", &(more + "\n[policies]\nfreshness = \"never\"\n"));
    operator.does(&["apply", "-f", "more.toml"]).await;
    let (second, exported_second) = (operator.newest().await, operator.does(&["export"]).await);
    operator.does(&["key", "revoke", "team"]).await;

    let diff = operator.does(&["audit", "diff", &first, &second]).await;
    assert!(diff.contains("+ key team\n") && diff.contains("timeouts: (absent) -> "), "{diff}");
    assert!(diff.ends_with("1 to add, 2 to change, 0 to remove\n"), "{diff}");
    let since = operator.json(&["audit", "diff", &second]).await;
    assert_eq!(since["changes"][0]["fields"][0]["field"], "expires", "{since}");
    assert_eq!(operator.does(&["audit", "as-of", &first]).await, exported_first);
    assert_eq!(operator.does(&["audit", "as-of", &second]).await, exported_second);

    let rollback = ["rollback", "--to", &first, "--reason", "all wrong"];
    let planned = operator.does(&[&rollback[..], &["--dry-run"]].concat()).await;
    assert!(planned.contains("- key team\n") && planned.ends_with("0 to add, 2 to change, 1 to remove\n"), "{planned}");
    operator.fails(&rollback, 2, "say --yes").await;
    assert_ne!(operator.does(&["export"]).await, exported_first, "nothing was changed");
    let done = operator.does(&[&rollback[..], &["--yes"]].concat()).await;
    assert!(done.starts_with("0 added, 2 changed, 1 removed\n"), "{done}");
    assert_eq!(operator.does(&["export"]).await, exported_first);
    operator.until_admitted_as(&secret, 200).await;
    let audit = operator.does(&["audit", "--limit", "1"]).await;
    assert!(audit.contains(&format!("rollback to entry {first}: all wrong")), "{audit}");
    assert!(operator.does(&rollback).await.contains("nothing changes"));

    let to_second = ["rollback", "--to", &second, "--yes"];
    operator.fails(&to_second, 4, "the secret of key team is gone").await;
    assert_eq!(operator.does(&["export"]).await, exported_first, "all of it or nothing");
    let (_, _, talk) = operator.run(&[&to_second[..], &["--leave-gone"]].concat()).await;
    assert!(talk.contains("note: key team: its secret is gone: it stays as it is now"), "{talk}");
    let exported: Value = operator.json(&["export"]).await;
    assert_eq!(exported["policies"]["freshness"], "never");
    assert!(exported["keys"].get("team").is_none(), "{exported}");
}

#[tokio::test]
async fn values_that_are_none_are_usage_errors_and_entries_that_are_none_are_not_found() {
    let operator = Operator::new().await;
    operator.does(&["apply", "-f", "spec.toml"]).await;

    for wrong in [
        &["audit", "--from", "abc"][..],
        &["audit", "--to", "yesterday"],
        &["audit", "--since", "soon"],
        &["audit", "--limit", "0"],
        &["audit", "as-of", "first"],
        &["audit", "as-of"],
        &["audit", "diff", "1", "x"],
        &["rollback", "--to", "-1"],
        &["rollback"],
    ] {
        let (code, out, err) = operator.run(wrong).await;
        assert_eq!(code, Some(2), "{wrong:?}: {out}{err}");
    }
    operator.fails(&["audit", "as-of", "99999"], 3, "there is no entry 99999 yet").await;
    operator.fails(&["rollback", "--to", "99999", "--yes"], 3, "there is no entry 99999 yet").await;
}

/// More than the lines that a snapshot brings along.
const CHANGES: usize = 1_050;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_given_a_snapshot_says_what_its_audit_lacks() {
    let mut crew = Crew::start(program(), 1).await;
    crew.furnish().await;
    for at in 0..CHANGES {
        let body = json!({ "metadata": { "n": at.to_string() } });
        let reply = crew.ask(0, Method::PUT, "/admin/v1/keys/team", Some(body)).await.unwrap();
        assert!(reply.status < 300, "{}", reply.text());
    }
    let whole = crew.operate(0, &["audit", "--from", "1", "--limit", "3"]).await.ok();
    assert!(!whole.contains("gap:"), "{whole}");
    let file = crew.path("state.snapshot").display().to_string();
    crew.operate(0, &["snapshot", "save", &file]).await.ok();
    let new = crew.seat();
    let dir = crew.nodes[new].dir.display().to_string();

    crew.troupe(&["snapshot", "restore", &file, "--data-dir", &dir]).await.ok();
    crew.nodes[new].flags = Some(vec!["--cluster-plain=true".to_owned(), "--cluster-bootstrap-expect=1".to_owned()]);
    crew.run(new);
    crew.ready(new).await;

    let audit = crew.operate(new, &["audit", "--from", "1", "-o", "json", "--limit", "1"]).await.ok();
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let oldest = audit["items"][0]["index"].as_u64().unwrap();
    assert_eq!(audit["gaps"], json!([{ "before": oldest }]));
    let told = crew.operate(new, &["audit", "--from", "1", "--limit", "3"]).await.ok();
    assert!(told.ends_with(&format!("gap: this node does not have what changed before {oldest}\n")), "{told}");
    let newest = crew.operate(new, &["audit", "--limit", "3"]).await.ok();
    assert!(!newest.contains("gap:"), "{newest}");
    for command in [&["audit", "as-of", "1"][..], &["audit", "diff", "1"], &["rollback", "--to", "1", "--yes"]] {
        let told = crew.operate(new, command).await.fails(3);
        assert!(told.contains(&format!("only from entry {} on", oldest - 1)), "{told}");
    }
    let first_told = (oldest - 1).to_string();
    crew.operate(new, &["rollback", "--to", &first_told, "--yes"]).await.ok();
    assert!(crew.operate(0, &["audit", "as-of", "1"]).await.code == Some(0), "the node that has it all tells it");
}
