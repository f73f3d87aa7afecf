//! `troupe route explain`, as operators run it.

use serde_json::Value;
use troupe_tests::ask::Dialect;
use troupe_tests::{Client, until};

use crate::cli::{Running, Site};

/// A model with a target where nobody listens and one that serves, and a fallback.
async fn site() -> (Site, Running) {
    let site = Site::new();
    let base_url = site.base_url();
    site.write(
        "spec.toml",
        &format!(
            "[providers.dead]\nwire = \"openai\"\nbase_url = \"http://127.0.0.1:1\"\n\
             [providers.o]\nwire = \"openai\"\nbase_url = \"{base_url}\"\n\
             [models.gpt-4o]\ntargets = [{{ provider = \"dead\" }}, {{ provider = \"o\", priority = 1 }}]\n\
             fallbacks = [\"spare\"]\n\
             [models.gone]\ntargets = [{{ provider = \"dead\" }}]\nretries = {{ attempts = 1 }}\n\
             [models.spare]\ntargets = [{{ provider = \"o\", model = \"gpt-4o\" }}]\n\
             [defaults]\nbreaker = {{ failures = 2, rest = \"1h\", rest_max = \"1h\" }}\n\
             [keys.app]\nmodels = [\"gpt-4o\", \"gone\"]\n[keys.pinner]\npin = true\n"
        ),
    );
    let node = site.serve(&["--limits-drain-delay", "0s"]).await;
    (site, node)
}

#[tokio::test]
async fn an_operator_learns_where_a_call_goes_and_why_not_elsewhere() {
    let (site, node) = site().await;
    let url = format!("http://{}", node.admin);
    let explain = async |more: &[&str]| site.run(&[&["route", "explain", "--admin-url", &url], more].concat()).await;

    let (code, before, err) = explain(&["gpt-4o", "-o", "json"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let before: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(before["serves"], "dead/-/gpt-4o", "{before}");
    assert_eq!(before["pools"][0]["targets"][1]["state"], "stands_by", "{before}");
    assert_eq!(before["pools"][0]["retries_left"], 100, "{before}");

    let client = Client::new(node.data, None).key(node.key.as_deref().unwrap());
    for _ in 0..4 {
        assert_eq!(client.post("/v1/chat/completions", Dialect::OpenAi.ask("gpt-4o")).await.status, 200);
    }
    until("the dead one rests", || node.process.err().contains("rests")).await;

    let (code, table, _) = explain(&["gpt-4o"]).await;
    assert_eq!(code, Some(0));
    assert!(table.starts_with("gpt-4o: served at o/-/gpt-4o\n"), "{table}");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("dead/-/gpt-4o").contains("it cannot be reached"), "{table}");
    assert!(row("o/-/gpt-4o").contains("serves") && row("o/-/gpt-4o").contains("100%"), "{table}");
    assert!(table.contains("\nfallback spare, 100 retries left\n"), "{table}");
    let (code, yaml, _) = explain(&["gpt-4o", "-o", "yaml"]).await;
    assert_eq!(code, Some(0));
    assert!(yaml.contains("\nserves: \"o/-/gpt-4o\"\n"), "{yaml}");
}

#[tokio::test]
async fn scripts_are_told_when_no_target_would_serve() {
    let (site, node) = site().await;
    let url = format!("http://{}", node.admin);
    let ask = ["route", "explain", "gone", "--admin-url", &url];
    assert_eq!(site.run(&ask).await.0, Some(0));

    let client = Client::new(node.data, None).key(node.key.as_deref().unwrap());
    for _ in 0..2 {
        assert_eq!(client.post("/v1/chat/completions", Dialect::OpenAi.ask("gone")).await.status, 502);
    }
    until("the dead one rests", || node.process.err().contains("rests")).await;

    let (code, out, _) = site.run(&ask).await;
    assert_eq!(code, Some(6), "{out}");
}

#[tokio::test]
async fn keys_and_pins_are_asked_about_without_a_call() {
    let (site, node) = site().await;
    let url = format!("http://{}", node.admin);
    let error = async |more: &[&str]| {
        let (code, out, err) =
            site.run(&[&["route", "explain", "-o", "json", "--admin-url", &url], more].concat()).await;
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["error"].clone()
    };

    assert_eq!(error(&["gpt-4o", "--key", "app"]).await, Value::Null);
    assert_eq!(error(&["spare", "--key", "app"]).await, "model_forbidden");
    assert_eq!(error(&["gpt-4o", "--key", "app", "--target", "o"]).await, "pin_forbidden");
    assert_eq!(error(&["gpt-4o", "--key", "pinner", "--target", "o/-"]).await, Value::Null);
    assert_eq!(error(&["gpt-4o", "--target", "nobody"]).await, "invalid_field");
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_what_to_do() {
    let (site, node) = site().await;
    let url = format!("http://{}", node.admin);
    site.write("wrong-token", "adm-wrong\n");
    let ask = ["route", "explain", "gpt-4o"];

    let said = site.fails(&["route", "explain", "gpt-4", "--admin-url", &url], 3).await;
    assert!(said.contains("did you mean \"gpt-4o\"?"), "{said}");
    let said = site.fails(&[&ask[..], &["--key", "ap", "--admin-url", &url]].concat(), 2).await;
    assert!(said.contains("no virtual key \"ap\"") && said.contains("\"app\""), "{said}");
    let said = site.fails(&[&ask[..], &["--admin-token-file", "wrong-token", "--admin-url", &url]].concat(), 1).await;
    assert!(said.contains("wrong-token") && !said.contains("adm-wrong"), "{said}");
    let said = site.fails(&[&ask[..], &["--admin-url", "http://127.0.0.1:1"]].concat(), 5).await;
    assert!(said.contains("is it running?") && said.contains("--admin-url"), "{said}");
    let said = site.fails(&[&ask[..], &["--admin-url", &format!("http://{}", node.data)]].concat(), 1).await;
    assert!(said.contains("no admin listener"), "{said}");
    let said = site.fails(&[&ask[..], &["--admin-url", "127.0.0.1:8081"]].concat(), 2).await;
    assert!(said.contains("http://"), "{said}");
    site.fails(&["route", "explain"], 2).await;
}
