//! The cluster's own certificate authority: one key that signs the certificates of nodes.
//!
//! Everything here is text in and text out; where it is kept, and what time it is, is the caller's business.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest, Sha256};
use troupe_proto::id::{ClusterId, NodeId};
use x509_parser::prelude::{FromDer, GeneralName, Pem, X509Certificate};

/// Clocks of nodes may differ by this much before a new certificate is refused for being too young.
const SKEW_SECONDS: i64 = 3600;
const DAY_SECONDS: i64 = 86_400;
/// What every name that makes a certificate one of a node ends in.
const NODE_DOMAIN: &str = ".troupe";
/// What the name of one node's id begins with.
const ID_PREFIX: &str = "id.";
const NAME_BYTES_MAX: usize = 64;
const HOSTS_MAX: usize = 32;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No name for a certificate.
    #[error("name {0:?} must have 1 to 64 letters, digits, `.`, `_` or `-`")]
    Name(String),
    /// No address or name of a host.
    #[error("host {0:?} is neither an IP address nor a DNS name outside `.troupe`")]
    Host(String),
    /// Too many hosts.
    #[error("{0} hosts, at most 32 are allowed")]
    Hosts(usize),
    /// A validity that has ended before it begins, or lasts too long to write down.
    #[error("the validity must begin before it ends, and within the authority's own")]
    Validity,
    /// No readable certificate.
    #[error("no certificate can be read: {0}")]
    Certificate(String),
    /// A certificate that signs nothing.
    #[error("the certificate is not that of an authority")]
    NotAuthority,
    /// No readable private key.
    #[error("no private key can be read")]
    Key(#[source] rcgen::Error),
    /// Key and certificate are strangers.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A request that is none, or that was altered.
    #[error("the request for a certificate cannot be read")]
    Request(#[source] rcgen::Error),
    /// The library failed.
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
}

/// From when until when a certificate counts, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub until: i64,
}

impl Validity {
    /// The next `days` days, and the hour before `now` for nodes whose clocks are behind.
    pub const fn days(now: i64, days: u32) -> Self {
        Self { from: now.saturating_sub(SKEW_SECONDS), until: now.saturating_add(DAY_SECONDS * days as i64) }
    }

    fn enter(self, params: &mut CertificateParams) -> Result<(), CaError> {
        // The year 9999 is the last that a certificate can name.
        let last = 253_402_300_799;
        let seconds = |at: i64| u64::try_from(at).ok().filter(|_| at <= last).ok_or(CaError::Validity);
        if self.from >= self.until {
            return Err(CaError::Validity);
        }
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(seconds(self.from)?);
        params.not_after = epoch + Duration::from_secs(seconds(self.until)?);
        Ok(())
    }
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate; behind that of a node stands its authority's.
    pub cert: String,
    /// The private key.
    pub key: String,
}

/// Makes a new authority.
///
/// # Errors
/// [`CaError::Name`] and [`CaError::Validity`] for what was asked, [`CaError::Make`] otherwise.
pub fn found(name: &str, validity: Validity) -> Result<Issued, CaError> {
    let key = KeyPair::generate().map_err(CaError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    validity.enter(&mut params)?;
    let cert = params.self_signed(&key).map_err(CaError::Make)?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
}

/// An authority at work.
pub struct Issuer {
    inner: rcgen::Issuer<'static, KeyPair>,
    pem: String,
    validity: Validity,
    fingerprint: [u8; 32],
}

impl Issuer {
    /// Takes up the authority's certificate and private key, both PEM.
    ///
    /// # Errors
    /// [`CaError`] says which of the two is wrong, and how.
    pub fn read(cert: &str, key: &str) -> Result<Self, CaError> {
        let der = first(cert)?;
        let key = KeyPair::from_pem(key).map_err(CaError::Key)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| CaError::Certificate(e.to_string()))?;
        if !parsed.is_ca() {
            return Err(CaError::NotAuthority);
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(CaError::Mismatch);
        }
        let validity =
            Validity { from: parsed.validity().not_before.timestamp(), until: parsed.validity().not_after.timestamp() };
        let inner = rcgen::Issuer::from_ca_cert_der(&der.as_slice().into(), key).map_err(CaError::Make)?;
        Ok(Self { inner, pem: cert.to_owned(), validity, fingerprint: Sha256::digest(&der).into() })
    }

    /// The SHA-256 of the authority's certificate: what a join token says to trust.
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a key and signs a certificate for a node: of any cluster under this authority, or of one only. It ends with
    /// the authority's at the latest. It names no id: a node draws that when it first starts.
    ///
    /// # Errors
    /// [`CaError`] says what of the asked is impossible.
    pub fn issue(
        &self,
        name: &str,
        hosts: &[String],
        cluster: Option<ClusterId>,
        validity: Validity,
    ) -> Result<Issued, CaError> {
        let key = KeyPair::generate().map_err(CaError::Make)?;
        let params = self.node(name, parse_hosts(hosts)?, (cluster, None), validity)?;
        let cert = params.signed_by(&key, &self.inner).map_err(CaError::Make)?;
        Ok(Issued { cert: cert.pem() + &self.pem, key: key.serialize_pem() })
    }

    /// Signs what [`request`] asks for. Of the request only the key, the name and the hosts count: what the certificate
    /// may be used for is decided here. Where it names a node's id, nobody can speak with it as another node.
    ///
    /// # Errors
    /// [`CaError::Request`] for one that is none, else as [`Self::issue`].
    pub fn sign(
        &self,
        request: &str,
        cluster: Option<ClusterId>,
        node: Option<NodeId>,
        validity: Validity,
    ) -> Result<String, CaError> {
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(CaError::Request)?;
        let name = match request.params.distinguished_name.get(&DnType::CommonName) {
            Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
            _ => return Err(CaError::Name(String::new())),
        };
        let hosts = request.params.subject_alt_names.iter().map(|name| match name {
            SanType::DnsName(name) => Ok(name.as_str().to_owned()),
            SanType::IpAddress(address) => Ok(address.to_string()),
            other => Err(CaError::Host(format!("{other:?}"))),
        });
        let hosts = parse_hosts(&hosts.collect::<Result<Vec<_>, _>>()?)?;
        request.params = self.node(&name, hosts, (cluster, node), validity)?;
        let cert = request.signed_by(&self.inner).map_err(CaError::Make)?;
        Ok(cert.pem() + &self.pem)
    }

    fn node(
        &self,
        name: &str,
        hosts: Vec<SanType>,
        (cluster, id): (Option<ClusterId>, Option<NodeId>),
        validity: Validity,
    ) -> Result<CertificateParams, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name)?;
        let of = cluster.map_or_else(|| "any".to_owned(), |cluster| cluster.to_string());
        let node = format!("node.{of}{NODE_DOMAIN}").try_into().map_err(CaError::Make)?;
        params.subject_alt_names = vec![SanType::DnsName(node)];
        if let Some(id) = id {
            let id = format!("{ID_PREFIX}{id}{NODE_DOMAIN}").try_into().map_err(CaError::Make)?;
            params.subject_alt_names.push(SanType::DnsName(id));
        }
        params.subject_alt_names.extend(hosts);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let until = validity.until.min(self.validity.until);
        Validity { from: validity.from.max(self.validity.from), until }.enter(&mut params)?;
        Ok(params)
    }
}

/// Makes a key and a request for a certificate, for [`Issuer::sign`]: the request and the private key, both PEM.
///
/// # Errors
/// [`CaError`] says what of the asked is impossible.
pub fn request(name: &str, hosts: &[String]) -> Result<(String, String), CaError> {
    let key = KeyPair::generate().map_err(CaError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name)?;
    params.subject_alt_names = parse_hosts(hosts)?;
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(CaError::Make)?;
    Ok((request, key.serialize_pem()))
}

fn named(name: &str) -> Result<DistinguishedName, CaError> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.trim() != name || !name.chars().all(is_fit) {
        return Err(CaError::Name(name.to_owned()));
    }
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    Ok(named)
}

fn parse_hosts(hosts: &[String]) -> Result<Vec<SanType>, CaError> {
    if hosts.len() > HOSTS_MAX {
        return Err(CaError::Hosts(hosts.len()));
    }
    hosts.iter().map(|host| parse_host(host).ok_or_else(|| CaError::Host(host.clone()))).collect()
}

fn parse_host(host: &str) -> Option<SanType> {
    if let Ok(address) = host.parse() {
        return Some(SanType::IpAddress(address));
    }
    let is_label = |label: &str| {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_fit)
    };
    // Names that make a node are given by the authority, never asked for.
    let is_taken = host.to_ascii_lowercase().ends_with(NODE_DOMAIN);
    let is_fit = host.len() <= 253 && host.split('.').all(is_label) && !is_taken;
    host.try_into().ok().filter(|_| is_fit).map(SanType::DnsName)
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses it counts for.
    pub names: Vec<String>,
    /// When.
    pub validity: Validity,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// The SHA-256 of it.
    pub fingerprint: [u8; 32],
}

/// Reads every certificate of a PEM file.
///
/// # Errors
/// [`CaError::Certificate`] if there is none, or one that cannot be read.
pub fn describe(pem: &str) -> Result<Vec<Described>, CaError> {
    all(pem)?.iter().map(|der| describe_one(der)).collect()
}

/// Reads one certificate.
///
/// # Errors
/// [`CaError::Certificate`] if it cannot be read.
pub fn describe_one(der: &[u8]) -> Result<Described, CaError> {
    let unreadable = |e: &dyn std::fmt::Display| CaError::Certificate(e.to_string());
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| unreadable(&e))?;
    let names = match cert.subject_alternative_name().map_err(|e| unreadable(&e))? {
        Some(names) => names.value.general_names.iter().map(name_of).collect(),
        None => Vec::new(),
    };
    let validity =
        Validity { from: cert.validity().not_before.timestamp(), until: cert.validity().not_after.timestamp() };
    Ok(Described {
        subject: common_name(cert.subject()),
        issuer: common_name(cert.issuer()),
        names,
        validity,
        is_authority: cert.is_ca(),
        fingerprint: Sha256::digest(der).into(),
    })
}

impl Described {
    /// The cluster it is a node of: `Some(None)` for any under its authority, `None` if it is not a node's at all.
    pub fn node_of(&self) -> Option<Option<ClusterId>> {
        self.names.iter().find_map(|name| {
            let of = name.strip_prefix("node.")?.strip_suffix(NODE_DOMAIN)?;
            if of == "any" { Some(None) } else { of.parse().ok().map(Some) }
        })
    }

    /// The one node that may show it, where it names one.
    pub fn node_id(&self) -> Option<NodeId> {
        self.names.iter().find_map(|name| name.strip_prefix(ID_PREFIX)?.strip_suffix(NODE_DOMAIN)?.parse().ok())
    }
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

fn name_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            v4.or(v6).unwrap_or_else(|_| format!("{bytes:?}"))
        }
        other => other.to_string(),
    }
}

fn all(pem: &str) -> Result<Vec<Vec<u8>>, CaError> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|e| CaError::Certificate(e.to_string()))?;
        if block.label == "CERTIFICATE" {
            found.push(block.contents);
        }
    }
    if found.is_empty() {
        return Err(CaError::Certificate("there is none in it".to_owned()));
    }
    Ok(found)
}

fn first(pem: &str) -> Result<Vec<u8>, CaError> {
    all(pem)?.into_iter().next().ok_or_else(|| CaError::Certificate("there is none in it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn issuer() -> Issuer {
        let made = found("Troupe CA", Validity::days(NOW, 3650)).unwrap();
        Issuer::read(&made.cert, &made.key).unwrap()
    }

    #[test]
    fn a_certificate_says_what_was_asked_for() {
        let issuer = issuer();
        let hosts = ["gw-1.example.org".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()];

        let made = issuer.issue("gw-1", &hosts, None, Validity::days(NOW, 30)).unwrap();

        let described = describe(&made.cert).unwrap();
        assert_eq!(described.len(), 2, "the authority's stands behind it");
        assert_eq!(described[0].subject, "gw-1");
        assert_eq!(described[0].issuer, "Troupe CA");
        assert_eq!(described[0].names, ["node.any.troupe", "gw-1.example.org", "10.0.0.1", "::1"]);
        assert_eq!(described[0].validity, Validity { from: NOW - 3600, until: NOW + 30 * 86_400 });
        assert_eq!((described[0].is_authority, described[1].is_authority), (false, true));
        assert_eq!((described[0].node_of(), described[1].node_of()), (Some(None), None));
        assert_eq!(described[1].fingerprint, issuer.fingerprint());
    }

    #[test]
    fn a_certificate_for_one_cluster_names_it() {
        let made = issuer().issue("gw-1", &[], Some(ClusterId(0xabc)), Validity::days(NOW, 30)).unwrap();

        assert_eq!(describe(&made.cert).unwrap()[0].node_of(), Some(Some(ClusterId(0xabc))));
    }

    #[test]
    fn a_certificate_ends_with_its_authority() {
        let issuer = issuer();

        let made = issuer.issue("gw-1", &[], None, Validity::days(NOW, 36_500)).unwrap();

        assert_eq!(describe(&made.cert).unwrap()[0].validity.until, NOW + 3650 * 86_400);
        let too_late = Validity::days(NOW + 3651 * 86_400, 1);
        assert!(matches!(issuer.issue("gw-1", &[], None, too_late), Err(CaError::Validity)));
    }

    #[test]
    fn a_request_gets_its_key_signed_and_nothing_else_it_may_ask_for() {
        let issuer = issuer();
        let (asked, _key) = request("gw-2", &["gw-2.example.org".to_owned()]).unwrap();

        let cert = issuer.sign(&asked, Some(ClusterId(1)), Some(NodeId(9)), Validity::days(NOW, 30)).unwrap();

        let described = &describe(&cert).unwrap()[0];
        assert_eq!((described.subject.as_str(), described.node_id()), ("gw-2", Some(NodeId(9))));
        let (of, id) = (format!("node.{}.troupe", ClusterId(1)), format!("id.{}.troupe", NodeId(9)));
        assert_eq!(described.names, [of, id, "gw-2.example.org".to_owned()]);

        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["h".to_owned()]).unwrap();
        greedy.distinguished_name = named("evil").unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let greedy = greedy.serialize_request(&key).unwrap().pem().unwrap();
        let cert = issuer.sign(&greedy, None, None, Validity::days(NOW, 30)).unwrap();
        assert_eq!(describe(&cert).unwrap()[0].node_id(), None);
        assert!(!describe(&cert).unwrap()[0].is_authority);
    }

    #[test]
    fn a_request_for_a_nodes_name_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["node.00ff.troupe".to_owned()]).unwrap();
        params.distinguished_name = named("evil").unwrap();
        let asked = params.serialize_request(&key).unwrap().pem().unwrap();

        assert!(matches!(issuer().sign(&asked, None, None, Validity::days(NOW, 30)), Err(CaError::Host(_))));
        assert!(matches!(issuer().sign("nonsense", None, None, Validity::days(NOW, 30)), Err(CaError::Request(_))));
    }

    #[test]
    fn names_and_hosts_that_cannot_be_are_refused() {
        for name in ["", "a/b", " a", "a\nb", &"x".repeat(65)] {
            assert!(matches!(found(name, Validity::days(NOW, 1)), Err(CaError::Name(_))), "{name:?}");
        }
        for host in ["", "a b", "a..b", "node.any.troupe", "x.TROUPE", "*.example.org"] {
            let issued = issuer().issue("n", &[host.to_owned()], None, Validity::days(NOW, 1));
            assert!(matches!(issued, Err(CaError::Host(_))), "{host:?}");
        }
        assert!(matches!(found("ca", Validity { from: 5, until: 5 }), Err(CaError::Validity)));
        assert!(matches!(found("ca", Validity { from: 5, until: i64::MAX }), Err(CaError::Validity)));
    }

    #[test]
    fn an_authority_is_read_with_its_own_key_only() {
        let one = found("one", Validity::days(NOW, 10)).unwrap();
        let other = found("other", Validity::days(NOW, 10)).unwrap();
        let node = issuer().issue("gw", &[], None, Validity::days(NOW, 10)).unwrap();

        assert!(matches!(Issuer::read(&one.cert, &other.key), Err(CaError::Mismatch)));
        assert!(matches!(Issuer::read(&node.cert, &node.key), Err(CaError::NotAuthority)));
        assert!(matches!(Issuer::read("", &one.key), Err(CaError::Certificate(_))));
        assert!(matches!(Issuer::read(&one.cert, ""), Err(CaError::Key(_))));
    }
}
