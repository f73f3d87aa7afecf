//! One node with a mock provider behind it, each on a free port, and clients in front.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use troupe_loadtest::mock::{Mock, MockHandle, MockOptions, MockTls};
use troupe_node::clock;
use troupe_node::config::{Boot, Flags, Literals, Sources};
use troupe_node::house::{OnCall, Seams};
use troupe_node::node::{Node, Setup};

use crate::client::Client;

/// The token that operators of a world's node show.
pub const ADMIN: &str = "world-admin-token";

/// The key that may do everything.
pub const KEY: &str = "sk-test";
/// The key that may only ask for `o-*`.
pub const KEY_LIMITED: &str = "sk-limited";
/// The key whose time is over.
pub const KEY_EXPIRED: &str = "sk-expired";
/// What the gateway shows to the OpenAI provider.
pub const SECRET_O: &str = "provider-secret-o";
/// What the gateway shows to the Anthropic provider.
pub const SECRET_A: &str = "provider-secret-a";

/// `o` speaks OpenAI's wire and `a` Anthropic's, both to the mock. `{mock}` is its base URL, `{ca}` the line that trusts
/// its certificate, if it has one; `{mock2}` and `{mock3}` are further mocks, started where the spec names them.
const SPEC: &str = r#"
[providers.o]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "main", secret = "provider-secret-o" }]
{ca}
[providers.a]
wire = "anthropic"
base_url = "{mock}"
keys = [{ name = "main", secret = "provider-secret-a" }]
{ca}
[models."o-*"]
targets = [{ provider = "o" }]
[models."a-*"]
targets = [{ provider = "a" }]
[models.gpt-4o]
targets = [{ provider = "o" }]
[models.gpt-4o-mini]
targets = [{ provider = "o" }]
[models.claude-sonnet]
targets = [{ provider = "a" }]
[keys.full]
secret = "sk-test"
[keys.limited]
secret = "sk-limited"
models = ["o-*"]
[keys.expired]
secret = "sk-expired"
expires = 2020-01-01T00:00:00Z
"#;

/// A node, its provider, and what they keep on disk.
pub struct World {
    /// The provider.
    pub mock: MockHandle,
    others: Vec<MockHandle>,
    /// The node. Dropped with the world, it ends once its connections did.
    pub node: Node,
    dir: TempDir,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// How a world differs from the ordinary one.
pub struct Builder {
    flags: Vec<(String, String)>,
    spec: String,
    seams: Seams,
    is_tls: bool,
    mock_alpn: Option<Vec<String>>,
}

impl World {
    /// Begins a world: see the methods of [`Builder`], then [`Builder::start`].
    #[expect(clippy::new_ret_no_self, reason = "a world is only had by starting one")]
    pub fn new() -> Builder {
        Builder { flags: Vec::new(), spec: SPEC.to_owned(), seams: Seams::default(), is_tls: false, mock_alpn: None }
    }

    /// A client with the key that may do everything.
    pub fn client(&self) -> Client {
        Client::new(self.node.data, self.tls.clone()).key(KEY)
    }

    /// A socket to the node, for bytes that no client would send.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.node.data).await.unwrap()
    }

    /// The node's address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.node.data
    }

    /// A directory of this world's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The spec file; writing it reloads.
    pub fn spec_path(&self) -> std::path::PathBuf {
        self.dir.path().join("spec.toml")
    }

    /// The second provider.
    ///
    /// # Panics
    /// When the spec does not name it.
    pub fn mock2(&self) -> &MockHandle {
        self.others.first().unwrap()
    }

    /// The third provider.
    ///
    /// # Panics
    /// When the spec does not name it.
    pub fn mock3(&self) -> &MockHandle {
        self.others.get(1).unwrap()
    }

    /// Ends the mock, and every connection to it, and starts it anew at the same address, with nothing counted.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn restart_mock(&self) {
        self.mock.kill();
        self.mock.reset();
        self.mock.revive().unwrap();
    }

    /// The page of metrics.
    pub async fn metrics(&self) -> String {
        let token = ADMIN;
        Client::new(self.node.admin, None).key(token).get("/metrics").await.text()
    }

    /// The value of the one series whose line begins so, up to its value; 0 when there is none yet.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0.0)
    }

    /// The sum of a metric's series that have all these labels, each written as `name="value"`.
    pub async fn metric_sum(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics().await;
        let values = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_named = series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
            let is_meant = is_named && labels.iter().all(|label| series.contains(label));
            is_meant.then(|| value.parse::<f64>().unwrap_or(0.0))
        });
        values.sum()
    }

    /// What the gateway thinks of every target, for the message of a test that failed.
    pub fn standings(&self) -> String {
        let (view, now) = (self.node.house.view.read(), clock::now());
        let mut text = String::new();
        for pool in view.pools() {
            for at in 0..pool.members.len() {
                let Some(target) = pool.cell.target(at, pool.id.as_str()) else { continue };
                writeln!(text, "{} {}: {:?}", pool.id, target.id, target.report(now)).unwrap();
            }
        }
        text
    }

    /// The access lines written so far, as JSON. They are written behind the reply: look [`crate::eventually`].
    ///
    /// # Panics
    /// When a complete line is no JSON.
    pub fn access_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        complete.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Builder {
    /// Adds to the spec; `{mock}` stands for the mock's base URL.
    #[must_use]
    pub fn spec(mut self, more: &str) -> Self {
        writeln!(self.spec, "{more}").unwrap();
        self
    }

    /// Tries each call once and rests no target: what a single failure comes to, and nothing else.
    #[must_use]
    pub fn once(self) -> Self {
        self.spec("[defaults]\nretries = { attempts = 1 }\nbreaker = { failures = 1000 }")
    }

    /// Replaces the spec.
    #[must_use]
    pub fn only_spec(mut self, all: &str) -> Self {
        all.clone_into(&mut self.spec);
        self
    }

    /// Sets a flag of `troupe serve`, such as `limits-body-bytes`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does something inside each call, given its model.
    #[must_use]
    pub fn on_call(mut self, act: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let act: OnCall = Arc::new(act);
        self.seams.on_call = Some(act);
        self
    }

    /// Serves clients over TLS.
    #[must_use]
    pub const fn tls(mut self) -> Self {
        self.is_tls = true;
        self
    }

    /// Serves the gateway over TLS, with these protocols by ALPN.
    #[must_use]
    pub fn mock_tls(mut self, alpn: &[&str]) -> Self {
        self.mock_alpn = Some(alpn.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Starts the mock, then the node.
    ///
    /// # Panics
    /// When either does not start.
    pub async fn start(self) -> World {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let (cert_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert, key) = (file("tls.crt", &cert_pem), file("tls.key", &key_pem));

        let ca = if self.mock_alpn.is_some() { format!("ca = \"file:{cert}\"") } else { String::new() };
        let mock_tls =
            self.mock_alpn.map(|alpn| MockTls { cert_pem: cert_pem.clone(), key_pem: key_pem.clone(), alpn });
        let start = || Mock::start(MockOptions { tls: mock_tls.clone(), ..MockOptions::default() }).unwrap();
        let mock = start();
        let mut text = self.spec.replace("{mock}", &mock.base_url).replace("{ca}", &ca);
        let mut others = Vec::new();
        for name in ["{mock2}", "{mock3}"] {
            if text.contains(name) {
                others.push(start());
                text = text.replace(name, &others.last().unwrap().base_url);
            }
        }
        let spec = file("spec.toml", &text);

        let given = self.flags.iter().fold(Flags::default(), |flags, (name, value)| {
            let flags = flags.or(name, value);
            assert_eq!(flags.get(name), Some(value.as_str()), "no such flag, or given twice: {name}");
            flags
        });
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut flags = given
            .or("listen-data", "127.0.0.1:0")
            .or("listen-admin", "127.0.0.1:0")
            .or("data-dir", &path("data"))
            .or("listen-admin-token", &format!("file:{}", file("admin-token", ADMIN)))
            .or("data-threads", "2")
            .or("log-access", &path("access.log"))
            .or("spec", &spec);
        if self.is_tls {
            flags = flags.or("listen-tls-cert", &format!("file:{cert}")).or("listen-tls-key", &format!("file:{key}"));
        }
        let boot = Boot::load(&flags, &|_| None).unwrap();
        let sources = Sources {
            env: Arc::new(|_| None),
            literals: Literals::Allowed,
            data_dir: Some(boot.node.data_dir.clone()),
        };
        let setup = Setup { sources, show: Arc::new(|_, _| {}), seams: self.seams };
        let node = Node::start(&boot, setup).await.unwrap_or_else(|error| panic!("the node did not start: {error}"));
        let tls = self.is_tls.then(|| Arc::new(trusting(&cert_pem)));
        World { mock, others, node, dir, tls }
    }
}

fn trusting(cert_pem: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}
