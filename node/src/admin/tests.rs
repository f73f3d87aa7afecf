use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;

const TOKEN: &str = "adm-0123456789";
const DEADLINE: Duration = Duration::from_secs(10);

struct Admin {
    address: std::net::SocketAddr,
    health: Arc<Health>,
    shutdown: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

async fn start(token: Option<&str>) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::new(Arc::new(crate::freshness::Freshness::new(crate::clock::now(), None))));
    let counts = SpecCounts { revision: Revision(9), models: 3, providers: 2, keys: 1 };
    let state = Arc::new(AdminState {
        learned: Box::new(Learned::default),
        metrics: Metrics::new(),
        health: Arc::clone(&health),
        token: token.map(|token| Secret::new(token.to_owned())),
        node: "gw-1".to_owned(),
        spec: Box::new(move || counts),
        explain: Box::new(explain_one),
        tls: None,
    });
    let (shutdown, receiver) = watch::channel(false);
    let served = tokio::spawn(serve(listener, state, receiver));
    Admin { address, health, shutdown, served }
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
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut reply)).await.unwrap().unwrap();
        reply
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
async fn status_counts_the_spec_in_force() {
    let admin = start(Some(TOKEN)).await;
    admin.health.set(Phase::Serving);

    let reply = admin.ask("GET", "/admin/v1/status", &bearer(TOKEN)).await;

    let body: serde_json::Value = serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["revision"], 9);
    assert_eq!((&body["models"], &body["providers"], &body["keys"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!((&body["node"], &body["phase"]), (&"gw-1".into(), &"serving".into()));
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
