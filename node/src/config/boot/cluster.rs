//! `[cluster]`: the nodes this one agrees with.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use troupe_proto::secret::Secret;

use super::layers::Layers;
use super::optional;
use super::settings::{CLUSTER, CLUSTER_TLS};
use crate::config::file;
use crate::config::secrets::Secrets;
use crate::config::source::Found;

/// The nodes it agrees with. The default is a cluster of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// How many nodes form a new one; `None` joins what there is, or is alone.
    pub bootstrap_expect: Option<u32>,
    /// Where other nodes listen for nodes.
    pub join: Vec<String>,
    /// Where other nodes reach this one.
    pub advertise: Option<String>,
    /// Lets it into a cluster that exists.
    pub join_token: Option<Secret<String>>,
    /// Under what secrets are kept.
    pub seal_key: Option<Secret<[u8; 32]>>,
    /// The key before.
    pub seal_key_old: Option<Secret<[u8; 32]>>,
    /// Whether it speaks to the others without TLS.
    pub is_plain: bool,
    /// Who it is to the others.
    pub tls: Option<PeerTls>,
}

/// The certificates of a node, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// The CA's certificate.
    pub ca: Pem,
    /// The node's own.
    pub cert: Pem,
    /// The key to it.
    pub key: Pem,
    /// The CA's own key, where this node signs for newcomers.
    pub ca_key: Option<Pem>,
}

/// A PEM text, which may be read again where it came from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// What was read.
    pub text: Secret<String>,
    file: Option<PathBuf>,
}

/// Where a node keeps the certificate that it was given for a join token, in its data directory.
pub const CERTIFICATE_FILE: &str = "peer.crt";

/// The most that a PEM file may hold.
const PEM_BYTES: u64 = 1 << 20;

impl Pem {
    /// Where it came from; `None` where it was given as it stands.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What its file says now.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn again(&self) -> Result<Secret<String>, String> {
        match &self.file {
            None => Ok(self.text.clone()),
            Some(path) => {
                let read = file::read(path, PEM_BYTES).map(Secret::new);
                read.map_err(|error| format!("file {} {error}", path.display()))
            }
        }
    }
}

impl Cluster {
    /// Whether there are others, or will be.
    pub fn has_others(&self) -> bool {
        self.bootstrap_expect.is_some_and(|count| count > 1) || !self.join.is_empty()
    }
}

pub(super) fn read(
    layers: &Layers<'_>,
    secrets: &Secrets<'_>,
    peer: Option<SocketAddr>,
    spec: bool,
    data_dir: Option<&Path>,
) -> Option<Cluster> {
    let get = |name: &'static str| layers.get(&CLUSTER, name);
    let expect = get("bootstrap_expect").map(|found| expect(&found));
    let join = get("join").map_or_else(|| Some(Vec::new()), |found| addresses(&found));
    let advertise = get("advertise").map(|found| host_and_port(&found));
    let join_token = get("join_token").map(|found| secrets.header_value(&found));
    let seal_key = get("seal_key").map(|found| key_bytes(&found, secrets));
    let seal_key_old = get("seal_key_old").map(|found| key_bytes(&found, secrets));
    let is_plain = get("plain").map_or(Some(false), |found| found.yes_or_no());
    let tls = read_tls(layers, secrets);
    let cluster = Cluster {
        bootstrap_expect: optional(expect)?,
        join: join?,
        advertise: optional(advertise)?,
        join_token: optional(join_token)?,
        seal_key: optional(seal_key)?,
        seal_key_old: optional(seal_key_old)?,
        is_plain: is_plain?,
        tls: tls?,
    };
    // One that joined by a token has kept what it was given.
    let is_known = data_dir.is_some_and(|dir| dir.join(CERTIFICATE_FILE).exists());
    check(&cluster, layers, peer, spec, is_known).then_some(cluster)
}

/// What only shows when all is known.
fn check(cluster: &Cluster, layers: &Layers<'_>, peer: Option<SocketAddr>, has_spec: bool, is_known: bool) -> bool {
    let Some(asked) = ["join", "bootstrap_expect"].iter().find_map(|name| layers.get(&CLUSTER, name)) else {
        return true;
    };
    if has_spec {
        asked.problem("a node that follows a file is alone: start it without --spec, and `troupe apply -f` the file");
        return false;
    }
    if !cluster.has_others() {
        return true;
    }
    if cluster.is_plain {
        let outside = peer.filter(|peer| !peer.ip().is_loopback()).map(|peer| peer.to_string());
        let outside = outside.or_else(|| cluster.join.iter().find(|address| !is_loopback(address)).cloned());
        if let Some(address) = outside {
            asked.problem(format_args!("cluster.plain is for loopback addresses only, and {address} is none"));
            return false;
        }
    } else if cluster.tls.is_none() && cluster.join_token.is_none() && !is_known {
        asked.problem(
            "nodes know each other by certificates: set [cluster.tls] (`troupe ca init` makes a CA), or a join_token",
        );
        return false;
    }
    true
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn expect(found: &Found<'_>) -> Option<u32> {
    let count = found.whole(1, 5)?;
    if count % 2 == 0 {
        found.problem("expected 1, 3 or 5: an even number of voters survives no more than the odd one below it");
        return None;
    }
    Some(count)
}

fn addresses(found: &Found<'_>) -> Option<Vec<String>> {
    found.texts()?.into_iter().map(|text| check_host_and_port(text, found)).collect()
}

fn host_and_port(found: &Found<'_>) -> Option<String> {
    check_host_and_port(found.text()?, found)
}

fn check_host_and_port(text: &str, found: &Found<'_>) -> Option<String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_good = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(['/', ' ', '@']) && is_port(port));
    if !is_good {
        found.problem(format_args!("{text:?} is not a host and a port such as \"gw-1:8082\""));
    }
    is_good.then(|| text.to_owned())
}

/// 32 bytes in base64 or as hexadecimal digits.
fn key_bytes(found: &Found<'_>, secrets: &Secrets<'_>) -> Option<Secret<[u8; 32]>> {
    let text = secrets.resolve(found)?;
    let bytes = seal_key(text.expose());
    if bytes.is_none() {
        found.problem("expected 32 bytes in base64 or 64 hexadecimal digits, as `openssl rand -base64 32` prints them");
    }
    bytes
}

/// Reads 32 bytes in base64 or as hexadecimal digits.
pub fn seal_key(text: &str) -> Option<Secret<[u8; 32]>> {
    let text = text.trim();
    if text.len() == 64 {
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        return Some(Secret::new(bytes));
    }
    BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Secret::new)
}

fn read_tls(layers: &Layers<'_>, secrets: &Secrets<'_>) -> Option<Option<PeerTls>> {
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| layers.get(&CLUSTER_TLS, name));
    match (ca, cert, key) {
        (None, None, None) => Some(None),
        (Some(ca), Some(cert), Some(key)) => {
            let ca = pem(&ca, secrets.certificates(&ca).map(Secret::new));
            let cert = pem(&cert, secrets.certificates(&cert).map(Secret::new));
            let key = pem(&key, secrets.private_key(&key));
            let ca_key = layers.get(&CLUSTER_TLS, "ca_key").map(|found| pem(&found, secrets.private_key(&found)));
            Some(Some(PeerTls { ca: ca?, cert: cert?, key: key?, ca_key: optional(ca_key)? }))
        }
        (ca, cert, key) => {
            for given in [ca, cert, key].iter().flatten() {
                given.problem("[cluster.tls] needs `ca`, `cert` and `key`");
            }
            None
        }
    }
}

fn pem(found: &Found<'_>, text: Option<Secret<String>>) -> Option<Pem> {
    let file = found.text()?.strip_prefix("file:").map(PathBuf::from);
    text.map(|text| Pem { text, file })
}
