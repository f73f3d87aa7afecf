mod rollback;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use troupe_cluster::{Cluster, Keyring};
use troupe_proto::health::Scope;
use troupe_proto::id::ProviderId;
use troupe_proto::secret::KeyHash;

use super::*;
use crate::troubles::Trouble;

const TOKEN: &str = "adm-0123456789";
const DEADLINE: Duration = Duration::from_secs(10);

struct Admin {
    address: std::net::SocketAddr,
    health: Arc<Health>,
    shutdown: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

async fn start(token: Option<&str>) -> Admin {
    start_with(token, None).await
}

async fn start_with(token: Option<&str>, follows: Option<PathBuf>) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::new(Arc::new(crate::freshness::Freshness::new(crate::clock::now(), None)), 1));
    let state = Arc::new(AdminState {
        turn: tokio::sync::Mutex::default(),
        learned: Box::new(Learned::default),
        metrics: Metrics::new(),
        health: Arc::clone(&health),
        token: token.map(|token| KeyHash::of(token.as_bytes())),
        node: "gw-1".to_owned(),
        explain: Box::new(explain_one),
        targets: Box::new(OneTarget::default()),
        cluster: Cluster::start_local(Keyring::ephemeral(crate::wiring::random()).unwrap()),
        follows,
        authority: None,
        heard: Box::new(|| None),
        hand_over: Box::new(|| Box::pin(async {})),
        leave: Arc::default(),
        rotation: Rotation::new(health.clone(), Arc::default(), (Duration::ZERO, Duration::from_secs(60))),
        tls: None,
    });
    let (shutdown, receiver) = watch::channel(false);
    let served = tokio::spawn(serve(listener, state, receiver));
    Admin { address, health, shutdown, served }
}

/// A node with one target that rests until it is reset.
#[derive(Default)]
struct OneTarget(std::sync::atomic::AtomicBool);

impl Targets for OneTarget {
    fn breakers(&self) -> Vec<BreakerReport> {
        let is_reset = self.0.load(std::sync::atomic::Ordering::Relaxed);
        vec![BreakerReport {
            target: "openai/main/gpt-4o".to_owned(),
            state: if is_reset { "closed" } else { "rests" }.to_owned(),
            rests_for: None,
            rest_ends_in_ms: None,
            is_told: false,
            failures: 0,
            streak: 0,
            nodes: Vec::new(),
        }]
    }

    fn reset(&self, scope: &Scope) -> usize {
        let is_meant = scope.provider.as_ref().is_none_or(|provider| provider.as_str() == "openai");
        self.0.fetch_or(is_meant, std::sync::atomic::Ordering::Relaxed);
        usize::from(is_meant)
    }

    fn test(&self, provider: &ProviderId) -> BoxFuture<'static, Option<Vec<TestReport>>> {
        let is_known = provider.as_str() == "openai";
        let report = TestReport {
            key: Some("main".to_owned()),
            finding: "alive".to_owned(),
            status: Some(200),
            problem: None,
            url: "https://api.openai.com/v1/models".to_owned(),
            took_ms: 12,
        };
        Box::pin(async move { is_known.then(|| vec![report]) })
    }
}

#[tokio::test]
async fn breakers_are_listed_and_reset_and_a_provider_is_tested() {
    let admin = start(Some(TOKEN)).await;

    assert_eq!(admin.get("/admin/v1/breakers").await.body["items"][0]["state"], "rests");
    let refused = admin.refused("POST", "/admin/v1/breakers/reset", json!({ "key": "main" })).await;
    assert_eq!(refused, (400, "invalid_field".to_owned()));
    let refused = admin.refused("POST", "/admin/v1/breakers/reset", json!({ "provider": "other" })).await;
    assert_eq!(refused.0, 404);
    assert_eq!(admin.get("/admin/v1/breakers").await.body["items"][0]["state"], "rests");
    let told = admin.call("POST", "/admin/v1/breakers/reset", "", json!({ "provider": "openai" })).await;
    assert_eq!((told.status, &told.body["reset"]), (200, &json!(1)));
    assert_eq!(admin.get("/admin/v1/breakers").await.body["items"][0]["state"], "closed");
    assert!(
        admin.get("/admin/v1/breakers?after=openai/main/gpt-4o").await.body["items"].as_array().unwrap().is_empty()
    );

    let told = admin.call("POST", "/admin/v1/providers/openai/test", "", Value::Null).await;
    assert_eq!((told.status, &told.body["items"][0]["finding"]), (200, &json!("alive")));
    assert_eq!(admin.refused("POST", "/admin/v1/providers/none/test", Value::Null).await.0, 404);
}

/// A node that knows the model `gpt-4o` and nothing of its targets.
fn explain_one(question: &explain::Question) -> Result<explain::Report, (ErrorCode, String)> {
    match question.model.as_str() {
        "gpt-4o" => Ok(explain::explain(question, &explain::Facts { key: None, pools: Vec::new() }, |_, _| false)),
        other => Err((ErrorCode::ModelNotFound, format!("no model serves the name {other:?}"))),
    }
}

impl Admin {
    /// Sends one request on a connection of its own and reads all that comes back.
    async fn ask(&self, method: &str, path: &str, header: &str) -> String {
        self.send(method, path, header, "").await
    }

    async fn send(&self, method: &str, path: &str, header: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{length}{header}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
        reply
    }
}

/// What came back: the status, the ETag and the document.
struct Told {
    status: u16,
    etag: Option<String>,
    body: Value,
}

impl Admin {
    /// A call with the node's own token.
    async fn call(&self, method: &str, path: &str, headers: &str, body: Value) -> Told {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.send(method, path, &format!("{}{headers}", bearer(TOKEN)), &body).await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).map(str::to_owned);
        Told { status, etag, body: serde_json::from_str(body).unwrap_or_else(|_| panic!("{reply}")) }
    }

    async fn get(&self, path: &str) -> Told {
        self.call("GET", path, "", Value::Null).await
    }

    /// A call that is refused: its status and code.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let told = self.call(method, path, "", body).await;
        (told.status, told.body["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn probes_answer_without_a_token_and_follow_the_phase() {
    let admin = start(Some(TOKEN)).await;

    assert!(admin.ask("GET", "/healthz", "").await.starts_with("HTTP/1.1 200"));
    let starting = admin.ask("GET", "/readyz", "").await;
    assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"), "{starting}");

    admin.health.set(Phase::Serving);
    let verbose = admin.ask("GET", "/readyz?verbose", "").await;
    assert!(verbose.starts_with("HTTP/1.1 200") && verbose.contains("[+] not draining"), "{verbose}");
    let head = admin.ask("HEAD", "/readyz", "").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(admin.ask("OPTIONS", "/readyz", "").await.starts_with("HTTP/1.1 204"));

    admin.health.set(Phase::Draining);
    assert!(admin.ask("GET", "/readyz", "").await.ends_with("draining\n"));
}

#[tokio::test]
async fn an_operator_takes_a_node_out_of_rotation_and_puts_it_back_unless_it_ends() {
    let admin = start(Some(TOKEN)).await;
    admin.health.set(Phase::Serving);

    let drained = admin.call("POST", "/admin/v1/node/drain", "", Value::Null).await;
    assert_eq!(
        (drained.status, &drained.body["phase"], &drained.body["ready"]),
        (200, &json!("draining"), &json!("draining"))
    );
    assert!(admin.ask("GET", "/readyz", "").await.starts_with("HTTP/1.1 503"));

    let back = admin.call("POST", "/admin/v1/node/undrain", "", Value::Null).await;
    assert_eq!((back.status, &back.body["phase"], &back.body["ready"]), (200, &json!("serving"), &json!("ready")));
    assert!(admin.ask("GET", "/readyz", "").await.starts_with("HTTP/1.1 200"));

    admin.health.set(Phase::Draining);
    assert_eq!(admin.refused("POST", "/admin/v1/node/undrain", Value::Null).await, (409, "conflict".to_owned()));
}

#[tokio::test]
async fn metrics_need_the_token() {
    let admin = start(Some(TOKEN)).await;

    for (header, code) in [
        (String::new(), "key_missing"),
        (bearer("adm-012345678"), "key_unknown"),
        (bearer("adm-9999999999"), "key_unknown"),
        ("authorization: Basic YTpi\r\n".to_owned(), "key_missing"),
    ] {
        let reply = admin.ask("GET", "/metrics", &header).await;
        assert!(reply.starts_with("HTTP/1.1 401"), "{reply}");
        assert!(reply.contains("www-authenticate: Bearer") && reply.contains("application/problem+json"), "{reply}");
        assert!(reply.contains(&format!("\"code\":\"{code}\"")), "{reply}");
    }

    let page = admin.ask("GET", "/metrics", &bearer(TOKEN)).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.contains("troupe_requests_in_flight 0\n"));
}

#[tokio::test]
async fn a_node_without_a_token_answers_probes_only() {
    let admin = start(None).await;

    assert!(admin.ask("GET", "/healthz", "").await.starts_with("HTTP/1.1 200"));
    assert!(admin.ask("GET", "/metrics", &bearer("")).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn a_route_is_explained_to_operators() {
    let admin = start(Some(TOKEN)).await;
    let ask = async |query: &str| admin.ask("GET", &format!("/admin/v1/route/explain{query}"), &bearer(TOKEN)).await;

    let known = ask("?model=gpt-4o&target=a").await;
    assert!(known.starts_with("HTTP/1.1 200"), "{known}");
    let report: serde_json::Value = serde_json::from_str(known.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&report["asked"], &report["pin"]), (&"gpt-4o".into(), &"a".into()));
    let unknown = ask("?model=gpt-5").await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("model_not_found"), "{unknown}");
    let malformed = ask("?modell=gpt-5").await;
    assert!(malformed.starts_with("HTTP/1.1 400") && malformed.contains("none of model, key, target"), "{malformed}");
    assert!(admin.ask("GET", "/admin/v1/route/explain?model=gpt-4o", "").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let admin = start(Some(TOKEN)).await;

    let unknown = admin.ask("GET", "/nowhere", &bearer(TOKEN)).await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("urn:troupe:error:route_not_found"), "{unknown}");
    assert!(admin.ask("GET", "/nowhere", "").await.starts_with("HTTP/1.1 401"));
    assert!(admin.ask("POST", "/admin/v1/defaults", &bearer(TOKEN)).await.contains("allow: GET, PUT, HEAD"));
    for path in ["/metrics", "/readyz"] {
        let reply = admin.ask("POST", path, &format!("{}content-length: 0\r\n", bearer(TOKEN))).await;
        assert!(reply.starts_with("HTTP/1.1 405") && reply.contains("allow: GET, HEAD"), "{reply}");
    }
}

#[tokio::test]
async fn a_head_beyond_the_bound_is_refused() {
    let admin = start(Some(TOKEN)).await;

    let reply = admin.ask("GET", "/healthz", &format!("x-bomb: {}\r\n", "a".repeat(200_000))).await;

    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn shutdown_ends_idle_connections_at_once() {
    let admin = start(Some(TOKEN)).await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    idle.read_exact(&mut byte).await.unwrap();

    admin.shutdown.send(true).unwrap();

    timeout(DEADLINE, admin.served).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_is_made_shown_once_rotated_revoked_and_deleted() {
    let admin = start(Some(TOKEN)).await;

    let made = admin.call("POST", "/admin/v1/keys", "", json!({"name": "team", "metadata": {"owner": "search"}})).await;
    assert_eq!((made.status, made.etag.as_deref()), (201, Some("\"1\"")), "{}", made.body);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("sk-troupe-"), "{secret}");
    let shown = admin.get("/admin/v1/keys/team").await.body;
    assert_eq!((&shown["state"], &shown["metadata"]["owner"]), (&"active".into(), &"search".into()));
    assert!(shown.get("secret").is_none() && shown.get("hash").is_none(), "{shown}");
    let again = admin.call("POST", "/admin/v1/keys", "", json!({"name": "team"})).await;
    assert_eq!((again.status, &again.body["code"]), (409, &"conflict".into()));

    let put = admin.call("PUT", "/admin/v1/keys/team", "", shown.clone()).await;
    assert_eq!((put.status, &put.body), (200, &shown), "what was read can be sent back");
    let rotated = admin.call("POST", "/admin/v1/keys/team/rotate", "", Value::Null).await.body;
    assert_ne!(rotated["secret"].as_str().unwrap(), secret);
    assert_ne!(rotated["hash_prefix"], shown["hash_prefix"]);

    let revoked = admin.call("POST", "/admin/v1/keys/team/revoke", "", Value::Null).await.body;
    assert_eq!((&revoked["state"], &revoked["expires"]), (&"revoked".into(), &"1970-01-01T00:00:00Z".into()));
    assert!(revoked.get("secret").is_none());
    assert_eq!(admin.get("/admin/v1/keys").await.body["items"][0]["state"], "revoked");
    assert_eq!(admin.call("DELETE", "/admin/v1/keys/team", "", Value::Null).await.status, 200);
    assert_eq!(admin.refused("GET", "/admin/v1/keys/team", Value::Null).await, (404, "not_found".to_owned()));
    assert_eq!(admin.refused("DELETE", "/admin/v1/keys/team", Value::Null).await, (404, "not_found".to_owned()));
}

fn a_spec() -> Value {
    json!({
        "providers": {"o": {"wire": "openai", "base_url": "http://127.0.0.1:1", "keys": [{"name": "main", "secret": "sk-o"}]}},
        "models": {"Qwen/Qwen3": {"targets": [{"provider": "o"}]}},
        "keys": {"a": {"secret": "sk-a"}, "b": {}},
    })
}

#[tokio::test]
async fn a_spec_is_applied_all_or_nothing_and_told_thing_by_thing() {
    let admin = start(Some(TOKEN)).await;

    let dry = admin.call("POST", "/admin/v1/apply?dry_run", "", a_spec()).await.body;
    assert_eq!((&dry["added"], &dry["revision"], &dry["dry_run"]), (&4.into(), &0.into(), &true.into()), "{dry}");
    assert!(dry["made"][0].get("secret").is_none(), "{dry}");
    let applied = admin.call("POST", "/admin/v1/apply", "", a_spec()).await.body;
    assert_eq!((&applied["added"], &applied["revision"]), (&4.into(), &1.into()), "{applied}");
    assert!(applied["made"][0]["secret"].as_str().unwrap().starts_with("sk-troupe-"));
    let again = admin.call("POST", "/admin/v1/apply?prune", "", a_spec()).await.body;
    assert_eq!((&again["changes"], &again["revision"]), (&json!([]), &1.into()), "the same again changes nothing");

    let mut other = a_spec();
    other["providers"]["o"]["keys"][0]["secret"] = "sk-other".into();
    other["providers"]["o"]["keys"][0]["weight"] = 3.into();
    other["keys"].as_object_mut().unwrap().remove("b");
    let stays = admin.call("POST", "/admin/v1/apply?dry_run=true", "", other.clone()).await.body;
    assert_eq!((&stays["removed"], &stays["changed"]), (&0.into(), &1.into()), "{stays}");
    let goes = admin.call("POST", "/admin/v1/apply?prune=true", "", other).await.body;
    assert_eq!(goes["changes"][0], json!({"op": "remove", "kind": "key", "name": "b"}));
    let fields = &goes["changes"][1]["fields"];
    assert_eq!(fields[0], json!({"field": "keys[0].weight", "before": null, "after": 3}));
    assert_eq!(fields[1], json!({"field": "keys.main.secret", "before": "(set)", "after": "(changed)"}));
    assert!(!goes.to_string().contains("sk-o"), "{goes}");

    let wrong = json!({"keys": {"c": {}}, "models": {"m": {"targets": [{"provider": "p"}]}}});
    let refused = admin.call("POST", "/admin/v1/apply", "", wrong).await.body;
    assert_eq!(
        (&refused["code"], &refused["problems"][0]["field"]),
        (&"invalid_field".into(), &"models.m.targets[0].provider".into())
    );
    let export = admin.get("/admin/v1/export").await.body;
    assert_eq!(export["keys"], json!({"a": {}}));
    assert_eq!(admin.call("POST", "/admin/v1/apply?prune", "", export).await.body["changes"], json!([]));
    assert!(
        admin.get("/admin/v1/export?hashes").await.body["keys"]["a"]["hash"].as_str().unwrap().starts_with("sha256:")
    );
}

#[tokio::test]
async fn names_with_slashes_are_found_and_what_others_need_cannot_go() {
    let admin = start(Some(TOKEN)).await;
    admin.call("POST", "/admin/v1/apply", "", a_spec()).await;

    let model = admin.get("/admin/v1/models/Qwen%2FQwen3").await.body;
    assert_eq!((&model["name"], &model["targets"][0]["provider"]), (&"Qwen/Qwen3".into(), &"o".into()));
    let kept = admin.call("DELETE", "/admin/v1/providers/o", "", Value::Null).await;
    assert_eq!((kept.status, &kept.body["code"]), (409, &"conflict".into()));
    assert_eq!(
        kept.body["detail"],
        r#"provider "o" is used by model "Qwen/Qwen3": take it out of their targets first"#
    );
    let shared = json!({"name": "c", "secret": "sk-a"});
    assert_eq!(admin.refused("POST", "/admin/v1/keys", shared).await, (409, "conflict".to_owned()));
    assert_eq!(admin.call("DELETE", "/admin/v1/models/Qwen%2FQwen3", "", Value::Null).await.status, 200);
    assert_eq!(admin.call("DELETE", "/admin/v1/providers/o", "", Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_change_made_for_another_revision_is_refused() {
    let admin = start(Some(TOKEN)).await;
    let first = admin.call("PUT", "/admin/v1/keys/a", "", json!({})).await;
    let etag = first.etag.unwrap();
    admin.call("PUT", "/admin/v1/keys/b", "", json!({})).await;

    let late = admin.call("PUT", "/admin/v1/keys/a", &format!("if-match: {etag}\r\n"), json!({"pin": true})).await;
    let timely = admin.call("PUT", "/admin/v1/keys/a", "if-match: \"2\"\r\n", json!({"pin": true})).await;
    let wrong = admin.call("PUT", "/admin/v1/keys/a", "if-match: new\r\n", json!({})).await;

    assert_eq!((late.status, &late.body["code"]), (412, &"revision_changed".into()));
    assert_eq!((timely.status, timely.etag.as_deref()), (200, Some("\"3\"")));
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn a_star_makes_a_change_depend_on_whether_the_thing_is_there() {
    let admin = start(Some(TOKEN)).await;
    let (exists, absent) = ("if-match: *\r\n", "if-none-match: *\r\n");
    let call = async |method: &str, path: &str, headers: &str, body: Value| {
        let told = admin.call(method, path, headers, body).await;
        (told.status, told.body["code"].as_str().unwrap_or_default().to_owned())
    };
    let done = |status: u16| (status, String::new());
    let failed = (412, "condition_failed".to_owned());
    let provider = json!({"wire": "openai", "base_url": "http://127.0.0.1:1", "keys": [{"name": "k", "secret": "s"}]});
    let model = json!({"targets": [{"provider": "p"}]});

    for (path, body) in [
        ("/admin/v1/providers/p", provider),
        ("/admin/v1/models/m", model),
        ("/admin/v1/keys/a", json!({"secret": "sk-a"})),
    ] {
        assert_eq!(call("PUT", path, exists, body.clone()).await, failed, "{path}");
        assert_eq!(
            call("DELETE", path, exists, Value::Null).await.0,
            404,
            "a condition counts where nothing else is wrong"
        );
        assert_eq!(call("PUT", path, absent, body.clone()).await, done(201), "{path}");
        assert_eq!(call("PUT", path, absent, body.clone()).await, failed, "{path}");
        assert_eq!(call("PUT", path, exists, body).await, done(200), "{path}");
    }
    for path in ["/admin/v1/keys/a", "/admin/v1/models/m", "/admin/v1/providers/p"] {
        assert_eq!(call("DELETE", path, absent, Value::Null).await, failed, "{path}");
        assert_eq!(call("DELETE", path, exists, Value::Null).await, done(200), "{path}");
    }
    for path in ["/admin/v1/defaults", "/admin/v1/policies"] {
        assert_eq!(call("PUT", path, absent, json!({})).await, failed, "{path}");
        assert_eq!(call("PUT", path, exists, json!({})).await, done(200), "{path}");
    }
    let token = json!({"name": "t", "role": "viewer"});
    assert_eq!(call("POST", "/admin/v1/tokens", exists, token.clone()).await, failed);
    assert_eq!(call("POST", "/admin/v1/tokens", absent, token).await, done(201));
    assert_eq!(call("DELETE", "/admin/v1/tokens/t", absent, Value::Null).await, failed);
    assert_eq!(call("DELETE", "/admin/v1/tokens/t", "if-match: \"1\"\r\n", Value::Null).await.0, 400);
    assert_eq!(call("DELETE", "/admin/v1/tokens/t", exists, Value::Null).await, done(200));
    for unknown in ["if-none-match: \"1\"\r\n", "if-match: W/\"1\"\r\n", "if-match: *\r\nif-none-match: *\r\n"] {
        let told = call("PUT", "/admin/v1/keys/a", unknown, json!({})).await;
        assert_eq!(told, (400, "invalid_field".to_owned()), "{unknown}");
    }
    let moved = call("POST", "/admin/v1/cluster/reseal", exists, Value::Null).await;
    assert_eq!(moved, (400, "invalid_field".to_owned()));
}

#[tokio::test]
async fn a_repeated_call_is_not_held_against_what_it_made_itself() {
    let admin = start(Some(TOKEN)).await;
    let headers = "if-none-match: *\r\nidempotency-key: 7\r\n";

    let first = admin.call("PUT", "/admin/v1/keys/a", headers, json!({})).await;
    let second = admin.call("PUT", "/admin/v1/keys/a", headers, json!({})).await;

    assert_eq!((first.status, first.etag.as_deref()), (201, Some("\"1\"")), "{}", first.body);
    assert_eq!((second.status, second.etag.as_deref()), (200, Some("\"1\"")), "{}", second.body);
}

#[tokio::test]
async fn a_spec_that_says_nothing_takes_everything_away_only_on_purpose() {
    let admin = start(Some(TOKEN)).await;
    admin.call("POST", "/admin/v1/apply", "", a_spec()).await;

    for body in [Value::Null, json!({}), json!({"providers": {}, "keys": {}}), json!({"defaults": {}})] {
        for path in ["/admin/v1/apply?prune=true", "/admin/v1/apply?prune=true&dry_run=true"] {
            let told = admin.call("POST", path, "", body.clone()).await;
            assert_eq!((told.status, &told.body["code"]), (409, &"would_empty".into()), "{body} {}", told.body);
            assert!(told.body["detail"].as_str().unwrap().contains("--prune --allow-empty"), "{}", told.body);
        }
    }
    assert_eq!(admin.call("POST", "/admin/v1/apply", "", json!({})).await.status, 200, "without prune nothing goes");
    assert_eq!(admin.get("/admin/v1/export").await.body["keys"], json!({"a": {}, "b": {}}));

    let done = admin.call("POST", "/admin/v1/apply?prune=true&allow_empty=true", "", json!({})).await;
    assert_eq!((done.status, &done.body["removed"]), (200, &4.into()), "{}", done.body);
    let again = admin.call("POST", "/admin/v1/apply?prune=true", "", json!({})).await;
    assert_eq!((again.status, &again.body["removed"]), (200, &0.into()), "where nothing is, nothing is lost");
}

#[tokio::test]
async fn a_join_token_is_made_as_its_body_says_and_once_by_its_name() {
    let admin = start(Some(TOKEN)).await;
    let path = "/admin/v1/join-tokens";
    let make = async |headers: &str, body: Value| admin.call("POST", path, headers, body).await;

    let dated = make("", json!({"expires": "2999-01-01T00:00:00Z"})).await.body;
    assert_eq!(dated["expires"], "2999-01-01T00:00:00Z", "{dated}");
    let until = |told: &Value| told["expires"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let short = make("", json!({"expires_in": "10m"})).await.body;
    assert!((until(&short) - crate::clock::unix_seconds() - 600).abs() < 60, "{short}");
    for wrong in [
        json!({"uses": 3}),
        json!({"expires": "tomorrow"}),
        json!({"expires": "2020-01-01T00:00:00Z"}),
        json!({"expires_in": "soon"}),
        json!({"expires_in": "0s"}),
        json!({"expires": "2999-01-01T00:00:00Z", "expires_in": "10m"}),
        json!([]),
    ] {
        assert_eq!(make("", wrong.clone()).await.status, 400, "{wrong}");
    }

    let named = "idempotency-key: 7\r\n";
    let (first, second) = (make(named, json!({})).await, make(named, json!({})).await);
    assert!(first.body["token"].is_string() && second.body.get("token").is_none(), "{}", second.body);
    assert_eq!((&first.body["name"], &first.body["expires"]), (&second.body["name"], &second.body["expires"]));
    assert_eq!(admin.get(path).await.body["items"].as_array().unwrap().len(), 3);
    let one = format!("{path}/{}", first.body["name"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(admin.call("DELETE", &one, "idempotency-key: 8\r\n", Value::Null).await.status, 200);
    }
    assert_eq!(admin.call("DELETE", &one, "", Value::Null).await.status, 404);
}

#[tokio::test]
async fn an_empty_name_of_a_change_is_refused() {
    let admin = start(Some(TOKEN)).await;

    for empty in ["idempotency-key:\r\n", "idempotency-key:   \r\n"] {
        let told = admin.call("PUT", "/admin/v1/keys/k", empty, json!({})).await;
        assert_eq!((told.status, &told.body["code"]), (400, &"invalid_field".into()), "{}", told.body);
        assert!(told.body["detail"].as_str().unwrap().contains("Idempotency-Key is empty"), "{}", told.body);
    }

    assert_eq!(admin.call("PUT", "/admin/v1/keys/k", "idempotency-key: 1\r\n", json!({})).await.status, 201);
}

#[tokio::test]
async fn a_node_whose_consensus_stopped_takes_no_change_and_says_why() {
    let admin = start(Some(TOKEN)).await;

    admin.health.troubles().set(Trouble::Stopped, Some("no space left".to_owned()), crate::clock::now());

    let told = admin.call("PUT", "/admin/v1/keys/k", "", json!({})).await;
    assert_eq!((told.status, &told.body["code"]), (503, &"consensus_stopped".into()), "{}", told.body);
    assert!(told.body["detail"].as_str().unwrap().contains("no space left"), "{}", told.body);
    for path in ["/admin/v1/cluster", "/admin/v1/node"] {
        assert_eq!(admin.get(path).await.body["problems"][0], "no space left", "{path}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_that_hold_each_name_once() {
    let admin = start(Some(TOKEN)).await;
    let keys: serde_json::Map<String, Value> = (0..25).map(|n| (format!("k{n:02}"), json!({}))).collect();
    admin.call("POST", "/admin/v1/apply", "", json!({ "keys": keys })).await;

    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = admin.get(&format!("/admin/v1/keys?limit=10{after}")).await.body;
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }

    assert_eq!(names, keys.keys().cloned().collect::<Vec<_>>());
    assert_eq!(admin.refused("GET", "/admin/v1/keys?limit=0", Value::Null).await, (400, "invalid_field".to_owned()));
}

#[tokio::test]
async fn defaults_are_put_and_read() {
    let admin = start(Some(TOKEN)).await;

    let put = admin.call("PUT", "/admin/v1/defaults", "", json!({"retries": {"attempts": 2}})).await;

    assert_eq!((put.status, &put.body["retries"]["attempts"]), (200, &2.into()));
    assert_eq!(admin.get("/admin/v1/defaults").await.body, put.body);
    let wrong = admin.refused("PUT", "/admin/v1/defaults", json!({"retries": {"attempts": 99}})).await;
    assert_eq!(wrong, (400, "invalid_field".to_owned()));
}

#[tokio::test]
async fn a_node_that_follows_a_file_refuses_changes_and_names_the_file() {
    let admin = start_with(Some(TOKEN), Some(PathBuf::from("spec.toml"))).await;

    for (method, path) in [
        ("POST", "/admin/v1/keys"),
        ("PUT", "/admin/v1/defaults"),
        ("DELETE", "/admin/v1/keys/a"),
        ("POST", "/admin/v1/apply"),
    ] {
        let told = admin.call(method, path, "", json!({"name": "a"})).await;
        let is_told = told.body["detail"].as_str().unwrap().contains("spec.toml");
        // A body that is wrong may be told first.
        assert!(
            told.status == 409 && told.body["code"] == "read_only" && is_told || told.status == 400,
            "{}",
            told.body
        );
    }
    assert_eq!(admin.call("POST", "/admin/v1/apply", "", json!({})).await.body["code"], "read_only");
    assert_eq!(admin.get("/admin/v1/keys").await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_large_are_refused() {
    let admin = start(Some(TOKEN)).await;
    let send = async |body: &str| admin.send("PUT", "/admin/v1/keys/a", &bearer(TOKEN), body).await;

    assert!(send("{").await.starts_with("HTTP/1.1 400"));
    assert!(send("[]").await.starts_with("HTTP/1.1 400"));
    assert!(send("{\"pin\": true, \"pin\": true}").await.contains("given twice"));
    assert!(send("{\"modles\": []}").await.contains("keys.a.modles: unknown field `modles`, did you mean `models`?"));
    let large = format!("{{\"metadata\": {{\"a\": \"{}\"}}}}", "a".repeat(1 << 20));
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    let head =
        format!("PUT /admin/v1/keys/a HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{}\r\n", large.len(), bearer(TOKEN));
    // The node may hang up before it has read all of it.
    drop(stream.write_all(format!("{head}{large}").as_bytes()).await);
    let mut reply = vec![0; 12];
    timeout(DEADLINE, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_token_opens_what_its_role_may_until_it_is_taken_away() {
    let admin = start(Some(TOKEN)).await;
    let make = async |name: &str, role: &str| {
        let made = admin.call("POST", "/admin/v1/tokens", "", json!({"name": name, "role": role})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.body["secret"].as_str().unwrap().to_owned()
    };
    let (viewer, operator) = (make("eve", "viewer").await, make("olga", "operator").await);
    let status = async |method: &str, path: &str, token: &str, body: &str| {
        let reply = admin.send(method, path, &bearer(token), body).await;
        reply.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };

    assert_eq!(status("GET", "/admin/v1/keys", &viewer, "").await, 200);
    assert_eq!(status("PUT", "/admin/v1/keys/a", &viewer, "{}").await, 403);
    assert_eq!(status("PUT", "/admin/v1/keys/a", &operator, "{}").await, 201);
    assert_eq!(status("GET", "/admin/v1/tokens", &operator, "").await, 403);
    let listed = admin.get("/admin/v1/tokens").await.body;
    assert_eq!((&listed["items"][0]["name"], &listed["items"][1]["role"]), (&"eve".into(), &"operator".into()));
    assert!(!listed.to_string().contains("troupe-admin-"), "{listed}");
    assert_eq!(admin.refused("POST", "/admin/v1/tokens", json!({"name": "eve", "role": "admin"})).await.0, 409);
    assert_eq!(admin.refused("POST", "/admin/v1/tokens", json!({"name": "x", "role": "root"})).await.0, 400);
    assert_eq!(admin.call("DELETE", "/admin/v1/tokens/olga", "", Value::Null).await.status, 200);
    assert_eq!(status("PUT", "/admin/v1/keys/b", &operator, "{}").await, 401);
}

#[tokio::test]
async fn a_token_past_its_time_opens_nothing() {
    let admin = start(Some(TOKEN)).await;
    let body = json!({"name": "old", "role": "viewer", "expires": "2020-01-01T00:00:00Z"});
    let made = admin.call("POST", "/admin/v1/tokens", "", body).await.body;

    let reply = admin.send("GET", "/admin/v1/keys", &bearer(made["secret"].as_str().unwrap()), "").await;

    assert!(reply.starts_with("HTTP/1.1 401") && reply.contains("key_expired"), "{reply}");
}

#[tokio::test]
async fn the_audit_says_who_changed_what_and_why_without_secrets() {
    let admin = start(Some(TOKEN)).await;
    admin.call("POST", "/admin/v1/apply", "x-troupe-reason: the first\r\n", a_spec()).await;
    admin.call("POST", "/admin/v1/keys/a/revoke", "x-troupe-reason: leaked\r\n", Value::Null).await;

    let audit = admin.get("/admin/v1/audit").await.body;

    let [first, second] = audit["items"].as_array().unwrap().as_slice() else { panic!("{audit}") };
    assert_eq!((&first["actor"], &first["reason"]), (&"node:gw-1".into(), &"the first".into()));
    assert_eq!((&second["reason"], &second["changes"][0]["did"]), (&"leaked".into(), &"changed".into()));
    assert_eq!(second["changes"][0]["after"], json!({"expires": "1970-01-01T00:00:00Z"}));
    assert!(!audit.to_string().contains("sk-o"), "{audit}");
    let from = format!("/admin/v1/audit?from={}&limit=1", second["index"]);
    assert_eq!(admin.get(&from).await.body["items"], json!([second]));
    assert_eq!(admin.get("/admin/v1/audit?from=2000-01-01T00:00:00Z").await.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(admin.refused("GET", "/admin/v1/audit?from=yesterday", Value::Null).await.0, 400);
}

#[tokio::test]
async fn a_change_that_is_named_takes_effect_once() {
    let admin = start(Some(TOKEN)).await;
    let named = "idempotency-key: 7\r\n";
    let create = async || admin.call("POST", "/admin/v1/keys", named, json!({"name": "team"})).await;

    let (first, second) = (create().await, create().await);
    let rotate = async || admin.call("POST", "/admin/v1/keys/team/rotate", named, Value::Null).await;
    let (third, fourth) = (rotate().await, rotate().await);

    assert_eq!((first.status, first.etag.as_deref()), (201, Some("\"1\"")));
    assert_eq!((second.status < 300, second.etag.as_deref()), (true, Some("\"1\"")), "{}", second.body);
    assert!(first.body["secret"].is_string() && second.body.get("secret").is_none(), "{}", second.body);
    assert_eq!((third.etag.as_deref(), fourth.etag.as_deref()), (Some("\"2\""), Some("\"2\"")));
    assert!(third.body["secret"].is_string() && fourth.body.get("secret").is_none(), "{}", fourth.body);
    assert_eq!(fourth.body["hash_prefix"], third.body["hash_prefix"], "the answer shows what is in force");
    assert_eq!(admin.get("/admin/v1/audit").await.body["items"].as_array().unwrap().len(), 2);
}
