//! What must be known to few is written nowhere in clear, and stays of use when its key changes.

use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};
use troupe_tests::Crew;
use troupe_tests::crew::ADMIN;

use crate::cli::Site;
use crate::cluster::{all_answer, program};
use crate::gossip;
use crate::joining::counts;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_in_clear_anywhere() {
    const PROVIDER: &str = "sk-provider-Vb7Qm2xTz9";
    const ROTATED: &str = "sk-provider-Lw4Ks8dRy1";
    const TEAM: &str = "sk-team-Hj3Np6cWq5";
    let mut crew = Crew::prepare(program(), 3);
    for at in 0..3 {
        let mut flags = crew.founding(at);
        flags.extend(["--cluster-plain=true".to_owned(), "--log-level=trace".to_owned()]);
        flags.push(format!("--log-access={}", crew.path(&format!("access.{at}")).display()));
        crew.nodes[at].flags = Some(flags);
        crew.run(at);
    }
    crew.all_ready().await;
    // Made where nobody has one yet, so before this test makes others.
    let is_shown = || (0..3).any(|at| crew.log(at).contains("admin token of this cluster: "));
    troupe_tests::until("the first token is shown", is_shown).await;

    // By every road a secret can take.
    let spec = json!({
        "providers": { "o": { "wire": "openai", "base_url": format!("{}/v1", crew.mock.base_url),
                              "keys": [{ "name": "main", "secret": PROVIDER }] } },
        "models": { "gpt-4o": { "targets": [{ "provider": "o" }] } },
        "keys": { "team": { "secret": TEAM } },
    });
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(spec.clone())).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut wrong = spec.clone();
    wrong["models"]["gpt-4o"]["targets"][0]["provider"] = json!("absent");
    assert_ne!(crew.ask(1, Method::POST, "/admin/v1/apply", Some(wrong)).await.unwrap().status, 200);
    let provider = json!({ "wire": "openai", "base_url": format!("{}/v1", crew.mock.base_url),
                           "keys": [{ "name": "main", "secret": ROTATED }] });
    let reply = crew.ask(1, Method::PUT, "/admin/v1/providers/o", Some(provider)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let made = crew.operate(2, &["key", "create", "made", "-o", "json"]).await.ok();
    let rotated = crew.operate(0, &["key", "rotate", "made", "-o", "json"]).await.ok();
    let secret = |text: &str| -> String {
        let document: Value = serde_json::from_str(text).unwrap();
        document["secret"].as_str().unwrap_or_else(|| panic!("no secret in {text}")).to_owned()
    };
    let (made, rotated) = (secret(&made), secret(&rotated));
    let operator = crew.operate(1, &["token", "create", "ann", "--role", "viewer", "-o", "json"]).await.ok();
    let operator: Value = serde_json::from_str(&operator).unwrap();
    let operator = operator["secret"].as_str().unwrap().to_owned();
    let join = crew.operate(1, &["cluster", "token"]).await.ok();
    let join = join.trim().split('.').next().unwrap().to_owned();
    for at in 0..3 {
        assert_eq!(crew.chat(at, TEAM).await, 200);
        assert_eq!(crew.chat(at, &rotated).await, 200);
        assert_eq!(crew.chat(at, "sk-wrong-Ab1Cd2Ef3").await, 401);
    }
    let file = crew.path("state.snapshot").display().to_string();
    crew.operate(0, &["snapshot", "save", &file]).await.ok();
    let mut pages = Vec::new();
    let paths = ["/metrics", "/admin/v1/export", "/admin/v1/cluster", "/admin/v1/providers", "/admin/v1/keys"];
    for path in paths.iter().chain(&["/admin/v1/audit", "/admin/v1/cluster/members", "/admin/v1/join-tokens"]) {
        if let Some(reply) = crew.ask(2, Method::GET, path, None).await {
            pages.push(((*path).to_owned(), reply.body.to_vec()));
        }
    }
    crew.kill(2);
    crew.run(2);
    crew.ready(2).await;
    for at in 0..3 {
        crew.signal(at, "TERM");
        assert_eq!(crew.ends(at).await, Some(0));
    }

    // The operator's own files are where the secrets come from.
    let given = ["seal-key", "admin-token"].map(|name| crew.path(name));
    let written = files(crew.dir()).into_iter().filter(|path| !given.contains(path));
    pages.extend(written.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    assert!(pages.len() > 20, "{pages:?}");
    let seal = "5e".repeat(32);
    let all = [PROVIDER, ROTATED, TEAM, &made, &rotated, &operator, &join, ADMIN, "sk-wrong-Ab1Cd2Ef3", &seal];
    for (place, bytes) in &pages {
        for secret in all {
            assert_eq!(holds(bytes, secret), 0, "{secret} is in {place}");
        }
    }
    // What is shown once is shown once.
    let mark = "admin token of this cluster: ";
    let logs = pages.iter().filter(|(place, _)| place.ends_with(".err"));
    let said: String = logs.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    let first =
        said.split(mark).nth(1).unwrap_or_else(|| panic!("no token was shown")).split_whitespace().next().unwrap();
    assert_eq!(pages.iter().map(|(_, bytes)| holds(bytes, first)).sum::<usize>(), 1);
}

/// A node alone shows the token that it makes, once, and has it nowhere on disk.
#[tokio::test]
async fn a_node_that_follows_a_file_keeps_only_the_hash_of_the_token_it_made() {
    const MARK: &str = "admin token of this node: ";
    let site = Site::new();
    let serve = ["serve", "--spec", "spec.toml", "--listen-data", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"];
    let mut shown = None;
    for _ in 0..2 {
        let node = site.follow(&serve).await;
        let said = node.process.err();
        let made = said.split(MARK).nth(1).and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
        assert_eq!(made.is_some(), shown.is_none(), "shown the first time, and then no more: {said}");
        let token = shown.get_or_insert_with(|| made.unwrap()).clone();
        let client = troupe_tests::Client::new(node.admin, None);
        assert_eq!(client.clone().key(&token).get("/metrics").await.status, 200, "{said}");
        assert_eq!(client.key("troupe-admin-another").get("/metrics").await.status, 401);
        let data = files(&site.path("troupe-data"));
        assert!(!data.is_empty());
        for path in data {
            assert_eq!(holds(&std::fs::read(&path).unwrap(), &token), 0, "it is in {}", path.display());
        }
    }
}

fn seal(crew: &Crew, key: &str, old: Option<&str>) -> Vec<String> {
    let file = |name: &str| format!("file:{}", crew.path(name).display());
    let old = old.map(|old| format!("--cluster-seal-key-old={}", file(old)));
    std::iter::once(format!("--cluster-seal-key={}", file(key))).chain(old).collect()
}

/// Starts each node again, one after the other, with these keys.
async fn roll(crew: &mut Crew, key: &str, old: Option<&str>) {
    for at in 0..3 {
        let mut flags = crew.founding(at);
        flags.push("--cluster-plain=true".to_owned());
        flags.extend(seal(crew, key, old));
        crew.nodes[at].flags = Some(flags);
        crew.signal(at, "TERM");
        assert_eq!(crew.ends(at).await, Some(0));
        crew.run(at);
        crew.ready(at).await;
        all_answer(crew, "sk-team", 200).await;
        // Gossip's key is made of this one: it rotates without anybody noticing.
        for at in 0..3 {
            gossip::alive(crew, at, 2.0).await;
            let unknown = gossip::metric(crew, at, r#"troupe_gossip_refused_total{reason="unknown_key"}"#).await;
            assert!(unknown < 1.0, "{}", crew.log(at));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seal_key_is_changed_node_by_node_and_a_wrong_one_is_refused() {
    let mut crew = Crew::start(program(), 3).await;
    crew.furnish().await;
    std::fs::write(crew.path("seal-new"), "a7".repeat(32)).unwrap();
    std::fs::write(crew.path("seal-wrong"), "11".repeat(32)).unwrap();

    roll(&mut crew, "seal-key", Some("seal-new")).await;
    roll(&mut crew, "seal-new", Some("seal-key")).await;
    let told = crew.operate(1, &["cluster", "reseal"]).await.ok();
    assert!(told.starts_with("1 secrets"), "{told}");
    assert!(crew.operate(2, &["cluster", "reseal"]).await.ok().starts_with("0 secrets"));
    roll(&mut crew, "seal-new", None).await;

    // The whole log is read again, and what was sealed under the old key is past.
    for at in 0..3 {
        crew.kill(at);
    }
    for at in 0..3 {
        crew.run(at);
    }
    crew.all_ready().await;
    all_answer(&crew, "sk-team", 200).await;
    let file = crew.path("state.snapshot").display().to_string();
    crew.operate(0, &["snapshot", "save", &file]).await.ok();
    let told = crew.troupe(&["snapshot", "inspect", &file, "-o", "json"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["seal_keys"].as_array().unwrap().len(), 1, "{told}");

    let mut flags = crew.founding(2);
    flags.push("--cluster-plain=true".to_owned());
    flags.extend(seal(&crew, "seal-wrong", None));
    crew.nodes[2].flags = Some(flags);
    crew.kill(2);
    crew.run(2);
    counts(&crew, 0, "in", "foreign_seal_key").await;
    gossip::reaches(&crew, 0, r#"troupe_gossip_refused_total{reason="unknown_key"}"#, |count| count >= 1.0).await;
    assert_eq!(crew.chat(2, "sk-team").await, 503, "{}", crew.log(2));
    assert_eq!(crew.chat(0, "sk-team").await, 200);
}
