//! Providers that operators switch off and on, for all nodes at once.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use troupe_loadtest::mock::Strike;
use troupe_proto::member;
use troupe_tests::Crew;
use troupe_tests::ask::Dialect;
use troupe_tests::crew::attempt;
use troupe_tests::eventually::LONG;

use crate::cluster::program;

/// `one` has the provider `o` alone, `two` has `spare` behind it, `fallen` falls back from `o` to a model of `spare`.
fn spec(crew: &Crew) -> Value {
    let provider = |secret: &str| {
        json!({ "wire": "openai", "base_url": format!("{}/v1", crew.mock.base_url),
                "keys": [{ "name": "main", "secret": secret }],
                "timeouts": { "first_byte": "500ms" }, "breaker": { "failures": 1, "rest": "10m", "rest_max": "10m" } })
    };
    json!({
        "providers": { "o": provider("secret-o"), "spare": provider("secret-spare") },
        "models": {
            "one": { "targets": [{ "provider": "o", "model": "o-x" }] },
            "two": { "targets": [{ "provider": "o", "model": "o-x" }, { "provider": "spare", "model": "o-x", "priority": 1 }] },
            "fallen": { "targets": [{ "provider": "o", "model": "o-x" }], "fallbacks": ["spared"] },
            "spared": { "targets": [{ "provider": "spare", "model": "o-x" }] },
        },
        "keys": { "team": { "secret": "sk-team" } },
    })
}

async fn furnished(crew: &Crew) {
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(spec(crew))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    settled(crew, "one", 200).await;
    // Switches wait until each node said that it knows them.
    let in_force = async {
        while ask(crew, "cluster").await["version"] != json!(member::VERSION) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, in_force).await.unwrap_or_else(|_| panic!("the version stays:\n{}", crew.log(0)));
    let features = crew.operate(0, &["cluster", "features"]).await.ok();
    let row = features.lines().find(|line| line.starts_with("provider_switch ")).unwrap_or_default();
    assert!(row.contains("in force"), "{features}");
}

/// The status of a call, and what it says.
async fn call(crew: &Crew, at: usize, model: &str) -> (u16, String) {
    let body = Dialect::OpenAi.ask(model).to_string();
    let reply = attempt(crew.nodes[at].data, Method::POST, Dialect::OpenAi.path(), "sk-team", body).await.unwrap();
    (reply.status, reply.text())
}

/// Waits until calls of a model at each node have this status.
async fn settled(crew: &Crew, model: &str, status: u16) {
    for at in 0..crew.nodes.len() {
        let reached = async {
            while call(crew, at, model).await.0 != status {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{model} never answers {status}:\n{}", crew.log(at)));
    }
}

async fn ask(crew: &Crew, path: &str) -> Value {
    let reply = crew.ask(0, Method::GET, &format!("/admin/v1/{path}"), None).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// With which secrets the provider was called since it was called so often.
fn shown(crew: &Crew, since: usize) -> Vec<String> {
    let received = crew.mock.received();
    let secrets = received[since..].iter().filter_map(|call| call.header("authorization").map(str::to_owned));
    secrets.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_switched_off_is_called_by_no_node_until_it_is_switched_on() {
    let crew = Crew::start(program(), 3).await;
    furnished(&crew).await;

    let said = crew.operate(1, &["provider", "disable", "o", "--reason", "it answers nonsense"]).await.ok();
    assert!(said.starts_with("o is disabled at revision 2"), "{said}");
    settled(&crew, "one", 503).await;

    let before = crew.mock.received().len();
    for at in 0..3 {
        let (status, told) = call(&crew, at, "one").await;
        assert!(status == 503 && told.contains("switched off by an operator"), "{status} {told}");
        for model in ["two", "fallen"] {
            assert_eq!(call(&crew, at, model).await.0, 200, "{model}");
        }
    }
    let secrets = shown(&crew, before);
    assert!(secrets.len() == 6 && secrets.iter().all(|secret| secret == "Bearer secret-spare"), "{secrets:?}");

    let told = crew.operate(0, &["route", "explain", "one"]).await;
    let told = format!("{}{}", told.out, told.err);
    assert!(told.contains("an operator switched its provider off"), "{told}");
    let list = crew.operate(2, &["provider", "list"]).await.ok();
    assert!(list.lines().any(|line| line.starts_with("o ") && line.ends_with("disabled")), "{list}");
    assert!(list.lines().any(|line| line.starts_with("spare ") && line.ends_with("enabled")), "{list}");
    let page = crew.ask(2, Method::GET, "/metrics", None).await.unwrap().text();
    assert!(page.contains("troupe_provider_switched_off{provider=\"o\"} 1\n"), "{page}");
    let audit = ask(&crew, "audit?limit=1000").await;
    let line = audit["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&line["reason"], &line["changes"][0]["what"]),
        (&json!("it answers nonsense"), &json!("provider switch"))
    );
    assert_eq!(line["changes"][0]["after"]["state"], "off", "{line}");

    let audit = crew.operate(0, &["audit", "--limit", "1"]).await.ok();
    assert!(audit.contains("provider switch o to disabled"), "{audit}");
    let breakers = crew.operate(1, &["breaker", "list"]).await.ok();
    let row = breakers.lines().find(|line| line.starts_with("o/main/o-x ")).unwrap_or_default();
    assert!(row.contains(" disabled ") && row.ends_with("its provider is switched off"), "{breakers}");
    // Whether to switch it on again is what one wants to find out.
    let tested = crew.operate(2, &["provider", "test", "o"]).await;
    assert!(tested.code == Some(0) && tested.out.contains("alive"), "{}{}", tested.out, tested.err);
    assert!(tested.err.contains("o is switched off, and was asked all the same"), "{}", tested.err);

    // What is declared has no word in it.
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply?prune", Some(spec(&crew))).await.unwrap();
    assert_eq!(reply.json()["changed"], json!(0), "{}", reply.text());
    assert_eq!(call(&crew, 0, "one").await.0, 503);
    crew.operate(0, &["provider", "disable", "nobody"]).await.fails(3);

    let said = crew.operate(0, &["provider", "enable", "o"]).await.ok();
    assert!(said.starts_with("o is enabled"), "{said}");
    settled(&crew, "one", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_switched_off_is_not_probed_and_a_stream_that_it_serves_goes_on() {
    let crew = Crew::start(program(), 1).await;
    furnished(&crew).await;
    let slow = Dialect::OpenAi.ask_stream("o-x+words=40+drip=50ms");
    let client = crew.client(0).key("sk-team");
    let open = json!({ "targets": [{ "provider": "o" }] });
    assert!(crew.ask(0, Method::PUT, "/admin/v1/models/o-*", Some(open)).await.unwrap().status < 300);
    settled(&crew, "o-y", 200).await;
    let mut stream = client.stream(Dialect::OpenAi.path(), slow).await;
    assert!(stream.next().await.is_some());

    // It rests, and is asked again and again whether it is back.
    crew.mock.fail(Strike::new("hang").credential("secret-o")).unwrap();
    assert_eq!(call(&crew, 0, "two").await.0, 200);
    let probes = || crew.mock.counts().probes;
    troupe_tests::until("it is probed", || probes() > 1).await;
    crew.operate(0, &["provider", "disable", "o"]).await.ok();
    let off = async {
        while !call(&crew, 0, "one").await.1.contains("switched off") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, off).await.expect("the switch is in force");

    let before = probes();
    sleep(Duration::from_millis(1500)).await;
    // One may have been on its way.
    assert!(probes() <= before + 1, "{} probes", probes() - before);

    stream.rest().await;
    assert!(!stream.is_cut, "the switch cut a stream");
}
