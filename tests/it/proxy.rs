//! Providers behind an egress proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use troupe_tests::World;
use troupe_tests::ask::{Dialect, words};

use crate::told::assert_told;

/// A proxy as companies have it: it opens tunnels, and forwards requests that name the whole URL.
struct Proxy {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy)]
enum Mood {
    Willing,
    Refusing,
    /// It takes the connection and closes it without a word.
    Silent,
}

impl Proxy {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = heads.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(relay(socket, mood, seen.clone()));
            }
        });
        Self { addr, heads, task }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The spec of a provider behind it.
    fn spec(&self, ca: &str) -> String {
        let proxy = format!("proxy = \"http://{}\"", self.addr);
        let keys = "keys = [{ name = \"main\", secret = \"behind-the-proxy\" }]";
        format!(
            "[providers.p]\nwire = \"openai\"\nbase_url = \"{{mock}}/v1\"\n{proxy}\n{keys}\n{ca}\n[models.\"p-*\"]\ntargets = [{{ provider = \"p\" }}]"
        )
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, mood: Mood, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    let (method, target) = head.split_once(' ').map(|(m, rest)| (m, rest.split(' ').next().unwrap())).unwrap();
    match mood {
        Mood::Silent => {}
        Mood::Refusing => {
            let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
            client.write_all(refusal.as_bytes()).await.unwrap();
        }
        Mood::Willing if method == "CONNECT" => {
            let mut provider = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n").await.unwrap();
            // Either side may reset; the gateway's side of it is what the tests look at.
            drop(copy_bidirectional(&mut client, &mut provider).await);
        }
        Mood::Willing => {
            let (authority, path) = target.strip_prefix("http://").unwrap().split_once('/').unwrap();
            let mut provider = TcpStream::connect(authority).await.unwrap();
            let own = head.replacen(target, &format!("/{path}"), 1).replacen("\r\n", "\r\nconnection: close\r\n", 1);
            provider.write_all(own.as_bytes()).await.unwrap();
            drop(copy_bidirectional(&mut client, &mut provider).await);
        }
    }
}

async fn assert_serves(world: &World) {
    for dialect in Dialect::ALL {
        let whole = world.client().post(dialect.path(), dialect.ask("p-x+words=3")).await;
        assert_eq!((whole.status, dialect.text(&whole.json())), (200, words(3)), "{}", whole.text());
        let mut stream = world.client().stream(dialect.path(), dialect.ask_stream("p-x+words=3")).await;
        let text: String = stream.rest().await.iter().filter_map(|event| dialect.piece(&event.json())).collect();
        assert_eq!((text, stream.is_cut), (words(3), false));
    }
}

#[tokio::test]
async fn a_plain_provider_is_asked_through_the_proxy_by_its_whole_url() {
    let proxy = Proxy::start(Mood::Willing).await;
    let world = World::new().spec(&proxy.spec("")).once().start().await;

    assert_serves(&world).await;

    let (heads, url) = (proxy.heads(), format!("POST {}/v1/chat/completions HTTP/1.1\r\n", world.mock.base_url));
    assert!(!heads.is_empty() && heads.iter().all(|head| head.starts_with(&url)), "{heads:?}");
    let host = format!("host: {}\r\n", world.mock.addr);
    assert!(heads.iter().all(|head| head.to_lowercase().contains(&host)), "{heads:?}");
}

#[tokio::test]
async fn a_provider_over_tls_is_reached_through_a_tunnel_that_hides_everything() {
    for alpn in ["h2", "http/1.1"] {
        let proxy = Proxy::start(Mood::Willing).await;
        let world = World::new().mock_tls(&[alpn]).spec(&proxy.spec("{ca}")).once().start().await;

        assert_serves(&world).await;

        let (heads, tunnel) = (proxy.heads(), format!("CONNECT {} HTTP/1.1\r\n", world.mock.addr));
        assert!(!heads.is_empty() && heads.iter().all(|head| head.starts_with(&tunnel)), "{heads:?}");
        assert!(!heads.concat().contains("behind-the-proxy"), "{heads:?}");
        assert_eq!(world.mock.received().len(), 4);
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_a_502_and_tried_once() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let proxy = Proxy::start(mood).await;
        let world = World::new().mock_tls(&["h2"]).spec(&proxy.spec("{ca}")).once().start().await;
        for dialect in Dialect::ALL {
            let reply = world.client().post(dialect.path(), dialect.ask("p-x")).await;
            assert_told(dialect, &reply, 502, "provider_unreachable", "provider");
        }
        assert_eq!((proxy.heads().len(), world.mock.counts().connections), (2, 0));
    }
}

#[tokio::test]
async fn a_plain_providers_proxy_that_says_403_is_no_fault_of_the_client() {
    for dialect in Dialect::ALL {
        let proxy = Proxy::start(Mood::Refusing).await;
        let world = World::new().spec(&proxy.spec("")).once().start().await;

        let reply = world.client().post(dialect.path(), dialect.ask("p-x")).await;

        assert!(reply.status >= 500, "KEY-2: {} {}", reply.status, reply.text());
        assert_eq!((proxy.heads().len(), world.mock.counts().requests), (1, 0));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_a_502() {
    let proxy = Proxy::start(Mood::Silent).await;
    let spec = proxy.spec("");
    proxy.task.abort();
    let world = World::new().spec(&spec).start().await;

    troupe_tests::until("the proxy is gone", || std::net::TcpStream::connect(proxy.addr).is_err()).await;
    let reply = world.client().post("/v1/messages", Dialect::Anthropic.ask("p-x")).await;

    assert_told(Dialect::Anthropic, &reply, 502, "provider_unreachable", "provider");
}
