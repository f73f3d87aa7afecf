//! What one process must know before it can talk to anyone: node.toml, variables and flags, checked once.

mod cluster;
mod flags;
mod layers;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use troupe_proto::secret::Secret;
use troupe_proto::unit::{Bytes, Wait};

pub use cluster::{CERTIFICATE_FILE, Cluster, PeerTls, Pem, seal_key};
pub use flags::Flags;
pub use settings::{SECTIONS, SETTINGS, Setting};

use super::env::Env;
use super::file::{Files, read_text};
use super::secrets::{Literals, Secrets};
use super::source::{ConfigError, Found, Problems, Section};
use super::spec_file::within;
use layers::Layers;
use settings::{LIMITS, LISTEN, LISTEN_ADMIN_TLS, LISTEN_TLS, LOG, NODE, RUNTIME};

/// Everything node.toml says, checked, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// What this process is.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// The nodes it agrees with.
    pub cluster: Cluster,
    /// What clients may take.
    pub limits: Limits,
    /// Threads that serve requests; `None` for one a core.
    pub data_threads: Option<u32>,
    /// What it writes about itself.
    pub log: Log,
    /// The spec file to read and watch, if one was named.
    pub spec_file: Option<PathBuf>,
}

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where it keeps what it must not forget; may not exist yet.
    pub data_dir: PathBuf,
    /// The failure zone it runs in.
    pub zone: Option<String>,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For clients.
    pub data: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// For other nodes.
    pub peer: SocketAddr,
    /// Whether a balancer says whose each connection of a client is.
    pub is_proxied: bool,
    /// TLS for clients.
    pub tls: Option<Tls>,
    /// TLS for operators.
    pub admin_tls: Option<Tls>,
    /// What operators show; `None`: see [`super::own_token`].
    pub admin_token: Option<Secret<String>>,
}

/// A certificate and its key, each checked to be PEM of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates, the server's own first.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: Secret<String>,
}

/// What clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request's head.
    pub header_bytes: Bytes,
    /// A request's body.
    pub body_bytes: Bytes,
    /// Requests at once.
    pub in_flight: u32,
    /// Open client connections.
    pub connections: u32,
    /// Requests at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// To send a request's head.
    pub header_timeout: Duration,
    /// Between two pieces of a body.
    pub body_timeout: Duration,
    /// When a connection is asked to go.
    pub connection_max_age: Duration,
    /// Unready, but still serving.
    pub drain_delay: Duration,
    /// Then, for streams to finish.
    pub drain_timeout: Duration,
}

/// What it writes about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where access lines go.
    pub access: AccessLog,
    /// The least severe event that is logged.
    pub level: tracing::Level,
}

/// Where access lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl Boot {
    /// Reads flags, variables and the file they name, in this order of precedence.
    ///
    /// # Errors
    /// Every problem found, each with the file, variable or flag that has it.
    pub fn load(flags: &Flags, env: Env<'_>) -> Result<Self, ConfigError> {
        let problems = Problems::default();
        let named = |flag: &str, variable: &str| flags.get(flag).map(str::to_owned).or_else(|| env(variable));
        let path = named("config", "TROUPE_CONFIG");
        let file = path.as_deref().map(|path| read_text(Path::new(path))).transpose()?;
        let layers = Layers::new(flags, env, file.as_ref(), &problems);
        let secrets = Secrets::new(env, Literals::Refused, Files::default());
        let boot = read(&layers, &secrets, named("spec", "TROUPE_SPEC").map(PathBuf::from));
        problems.into_result()?;
        // Each part that is missing has left a problem.
        boot.ok_or_else(|| ConfigError::whole(path.as_deref().unwrap_or("node.toml"), "cannot be read".to_owned()))
    }
}

/// Reads each part even where an earlier one is wrong, so that all problems are found at once.
fn read(layers: &Layers<'_>, secrets: &Secrets<'_>, spec_file: Option<PathBuf>) -> Option<Boot> {
    layers.refuse_unknown();
    let node = read_node(layers);
    let listen = read_listen(layers, secrets);
    let peer = listen.as_ref().map(|listen| listen.peer);
    let data_dir = node.as_ref().map(|node| node.data_dir.as_path());
    let cluster = cluster::read(layers, secrets, peer, spec_file.is_some(), data_dir);
    let limits = read_limits(layers);
    let data_threads = layers.get(&RUNTIME, "data_threads").and_then(|found| found.whole(0, 1024));
    let log = read_log(layers);
    let data_threads = Some(data_threads?).filter(|threads| *threads > 0);
    Some(Boot { node: node?, listen: listen?, cluster: cluster?, limits: limits?, data_threads, log: log?, spec_file })
}

fn read_node(layers: &Layers<'_>) -> Option<Node> {
    let name = layers.get(&NODE, "name").map_or_else(|| Some(host_name()), |found| word(&found));
    let zone = layers.get(&NODE, "zone").map(|found| word(&found));
    let data_dir = layers.get(&NODE, "data_dir").and_then(|found| path(&found));
    Some(Node { name: name?, data_dir: data_dir?, zone: zone.map_or(Some(None), |zone| zone.map(Some))? })
}

/// The host's name as far as it is a name here: lower case, and a dash for what is none of our letters.
fn host_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name: String = host.chars().map(|c| if super::names::is_name_char(c) { c } else { '-' }).collect();
    if name.is_empty() { "troupe".to_owned() } else { name }
}

fn word(found: &Found<'_>) -> Option<String> {
    let text = found.text()?;
    super::names::check_name(text).map_err(|error| found.problem(error)).ok()?;
    Some(text.to_owned())
}

fn path(found: &Found<'_>) -> Option<PathBuf> {
    let text = found.text()?;
    if text.is_empty() {
        found.problem("expected a path");
        return None;
    }
    Some(PathBuf::from(text))
}

fn read_listen(layers: &Layers<'_>, secrets: &Secrets<'_>) -> Option<Listen> {
    let data = layers.get(&LISTEN, "data").and_then(|found| address(&found));
    let admin = layers.get(&LISTEN, "admin").and_then(|found| address(&found));
    let peer = layers.get(&LISTEN, "peer").and_then(|found| address(&found));
    let is_proxied = layers.get(&LISTEN, "proxy_protocol").map_or(Some(false), |found| found.yes_or_no());
    let token = layers.get(&LISTEN, "admin_token").map(|found| secrets.header_value(&found));
    let tls = read_tls(layers, &LISTEN_TLS, secrets);
    let admin_tls = read_tls(layers, &LISTEN_ADMIN_TLS, secrets);
    Some(Listen {
        data: data?,
        admin: admin?,
        peer: peer?,
        is_proxied: is_proxied?,
        tls: tls?,
        admin_tls: admin_tls?,
        admin_token: optional(token)?,
    })
}

/// What was absent stays absent, what was wrong is nothing at all.
fn optional<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

fn address(found: &Found<'_>) -> Option<SocketAddr> {
    let text = found.text()?;
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address = numeric.parse().ok();
    if address.is_none() {
        found.problem(format_args!("{text:?} is not an address such as \"0.0.0.0:8080\" or \"[::]:8080\""));
    }
    address
}

fn read_tls(layers: &Layers<'_>, section: &'static Section, secrets: &Secrets<'_>) -> Option<Option<Tls>> {
    match (layers.get(section, "cert"), layers.get(section, "key")) {
        (None, None) => Some(None),
        (Some(cert), Some(key)) => {
            let cert_pem = secrets.certificates(&cert);
            let key_pem = secrets.private_key(&key);
            Some(Some(Tls { cert_pem: cert_pem?, key_pem: key_pem? }))
        }
        (Some(only), None) | (None, Some(only)) => {
            only.problem(format_args!("[{}] needs both `cert` and `key`", section.name));
            None
        }
    }
}

fn read_limits(layers: &Layers<'_>) -> Option<Limits> {
    let size =
        |name: &'static str, min: &str, max: &str| layers.get(&LIMITS, name).and_then(|found| within(&found, min, max));
    let count = |name: &'static str, max: u32| layers.get(&LIMITS, name).and_then(|found| found.whole(1, max));
    let wait = |name: &'static str, min: &str| {
        layers.get(&LIMITS, name).and_then(|found| within::<Wait>(&found, min, "24h")).map(|wait| wait.0)
    };
    let (header_bytes, body_bytes) = (size("header_bytes", "8KiB", "1MiB"), size("body_bytes", "1KiB", "1GiB"));
    let (in_flight, connections) = (count("in_flight", 10_000_000), count("connections", 10_000_000));
    let h2_streams = count("h2_streams", 100_000);
    let (header_timeout, body_timeout) = (wait("header_timeout", "1ms"), wait("body_timeout", "1ms"));
    let connection_max_age = wait("connection_max_age", "1s");
    let (drain_delay, drain_timeout) = (wait("drain_delay", "0s"), wait("drain_timeout", "0s"));
    Some(Limits {
        header_bytes: header_bytes?,
        body_bytes: body_bytes?,
        in_flight: in_flight?,
        connections: connections?,
        h2_streams: h2_streams?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        connection_max_age: connection_max_age?,
        drain_delay: drain_delay?,
        drain_timeout: drain_timeout?,
    })
}

fn read_log(layers: &Layers<'_>) -> Option<Log> {
    let access = layers.get(&LOG, "access").and_then(|found| {
        Some(match found.text()? {
            "off" => AccessLog::Off,
            "stdout" => AccessLog::Stdout,
            _ => AccessLog::File(path(&found)?),
        })
    });
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    let level = layers.get(&LOG, "level").and_then(|found| found.word(&levels));
    Some(Log { access: access?, level: level? })
}

#[cfg(test)]
mod tests;
