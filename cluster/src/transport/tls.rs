//! Who is trusted: certificates of nodes, signed by the cluster's authority, shown by both sides.
//!
//! Connections are made with the certificates in force at that moment; a reload changes them for the next ones, and
//! those that are open stay open.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use troupe_proto::id::{ClusterId, NodeId};

use super::ca::{self, CaError};
use super::{BoxedIo, Rejected};

/// Where a node's certificates are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The authority's certificate; several while authorities change.
    pub ca: PathBuf,
    /// The node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why certificates cannot be used. Those that were in force stay in force.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate cannot be used")]
    Ca(#[source] CaError),
    /// The node's certificate cannot be used.
    #[error("the node's certificate cannot be used")]
    Certificate(#[source] CaError),
    /// It has no name of a node.
    #[error("the certificate is not that of a node: it lacks the name node.any.troupe")]
    NotNode,
    /// It is signed by somebody else.
    #[error("the node's certificate is not signed by this authority")]
    Untrusted,
    /// The private key cannot be read.
    #[error("the private key cannot be read")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// TLS takes them for another reason not, such as a private key of another certificate.
    #[error("the certificates cannot be used")]
    Tls(#[source] rustls::Error),
    /// It has ended, at this second since 1970: nobody would talk to the node any more.
    #[error("the node's certificate has ended, at second {0} since 1970")]
    Ended(i64),
    /// There are no files to read again.
    #[error("the certificates do not come from files")]
    NoFiles,
}

/// A node's certificates, those of its authority, and what is made of them.
pub struct Certificates {
    files: Option<Files>,
    current: RwLock<Arc<Current>>,
}

struct Current {
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
    expires_at: i64,
    node_expires_at: i64,
    fingerprint: [u8; 32],
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads them from files.
    ///
    /// # Errors
    /// [`TlsError`] says which of them is wrong, and how.
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let current = Current::read(&files)?;
        Ok(Self { files: Some(files), current: RwLock::new(Arc::new(current)) })
    }

    /// Takes them as PEM.
    ///
    /// # Errors
    /// [`TlsError`] says which of them is wrong, and how.
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Result<Self, TlsError> {
        let current = Current::parse(ca, cert, key)?;
        Ok(Self { files: None, current: RwLock::new(Arc::new(current)) })
    }

    /// For a node that has none yet and wants to join: it shows no certificate, and trusts nodes whose authority's
    /// certificate has this SHA-256.
    ///
    /// # Errors
    /// [`TlsError::Tls`] if the library refuses.
    pub fn joining(fingerprint: [u8; 32]) -> Result<Self, TlsError> {
        let verifier = Arc::new(Authority { trust: Trust::Fingerprint(fingerprint), provider: provider() });
        let client = client_builder(verifier)?.with_no_client_auth();
        let client = Arc::new(without_memory(client));
        let current = Current { server: None, client, expires_at: i64::MAX, node_expires_at: i64::MAX, fingerprint };
        Ok(Self { files: None, current: RwLock::new(Arc::new(current)) })
    }

    /// Reads the files again. Connections that are open keep what they began with. `now` is the second since 1970.
    ///
    /// # Errors
    /// [`TlsError`]; what was in force stays in force then.
    pub fn reload(&self, now: i64) -> Result<(), TlsError> {
        let files = self.files.as_ref().ok_or(TlsError::NoFiles)?;
        self.replace(Current::read(files)?, now)
    }

    /// Puts others in their place, as PEM. `now` is the second since 1970.
    ///
    /// # Errors
    /// [`TlsError`]; what was in force stays in force then.
    pub fn reload_pem(&self, ca: &str, cert: &str, key: &str, now: i64) -> Result<(), TlsError> {
        self.replace(Current::parse(ca, cert, key)?, now)
    }

    fn replace(&self, current: Current, now: i64) -> Result<(), TlsError> {
        // An older file that was put back by mistake must not take the place of one that still counts.
        if current.node_expires_at < now {
            return Err(TlsError::Ended(current.node_expires_at));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        Ok(())
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the first of the certificates in force ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.current().expires_at
    }

    /// When the node's own certificate ends, in seconds since 1970.
    pub fn node_expires_at(&self) -> i64 {
        self.current().node_expires_at
    }

    /// The SHA-256 of the authority's certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.current().fingerprint
    }

    /// Encrypts a connection that was dialled; also gives whom the other side's certificate is for.
    pub(super) async fn dial(&self, io: BoxedIo) -> Result<(BoxedIo, Shown), Rejected> {
        let connector = TlsConnector::from(Arc::clone(&self.current().client));
        // Nodes go by their identity, not by the host they run on: the name is checked by `Authority`.
        let name = ServerName::try_from("node.any.troupe").map_err(|_| Rejected::Tls)?;
        let stream = connector.connect(name, io).await.map_err(|error| reason(&error))?;
        let shown = shown(stream.get_ref().1.peer_certificates())?.ok_or(Rejected::NoCertificate)?;
        Ok((Box::new(stream), shown))
    }

    /// Encrypts a connection that was accepted; also gives whom the other side's certificate is for, if it showed one.
    pub(super) async fn accept(&self, io: BoxedIo) -> Result<(BoxedIo, Option<Shown>), Rejected> {
        let server = self.current().server.clone().ok_or(Rejected::Tls)?;
        let stream = TlsAcceptor::from(server).accept(io).await.map_err(|error| reason(&error))?;
        let shown = shown(stream.get_ref().1.peer_certificates())?;
        Ok((Box::new(stream), shown))
    }
}

impl Current {
    fn read(files: &Files) -> Result<Self, TlsError> {
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.clone(), source })
        };
        Self::parse(&text(&files.ca)?, &text(&files.cert)?, &text(&files.key)?)
    }

    fn parse(ca: &str, cert: &str, key: &str) -> Result<Self, TlsError> {
        let authorities = ca::describe(ca).map_err(TlsError::Ca)?;
        if !authorities.iter().all(|authority| authority.is_authority) {
            return Err(TlsError::Ca(CaError::NotAuthority));
        }
        let described = ca::describe(cert).map_err(TlsError::Certificate)?;
        let node = described.first().ok_or(TlsError::NotNode)?;
        if node.node_of().is_none() {
            return Err(TlsError::NotNode);
        }
        let roots = roots(&certs(ca, TlsError::Ca)?)?;
        let mut chain = certs(cert, TlsError::Certificate)?;
        let provider = provider();
        let leaf = chain.first().ok_or(TlsError::NotNode)?;
        let parsed = ParsedCertificate::try_from(leaf).map_err(TlsError::Tls)?;
        // Whether it has ended is for those it is shown to; who signed it is plain at any time of its life.
        let alive = u64::try_from(node.validity.from.saturating_add(1)).unwrap_or(0);
        let alive = UnixTime::since_unix_epoch(Duration::from_secs(alive));
        let algorithms = provider.signature_verification_algorithms;
        let rest = chain.get(1..).unwrap_or_default();
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, rest, alive, algorithms.all)
            .map_err(|_| TlsError::Untrusted)?;
        // Nodes that join know the authority by its fingerprint only, so it must be shown.
        for authority in certs(ca, TlsError::Ca)? {
            if !chain.contains(&authority) {
                chain.push(authority);
            }
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::Key)?;
        let server = server(Arc::clone(&roots), chain.clone(), key.clone_key())?;
        let client = client_builder(Arc::new(Authority { trust: Trust::Roots(roots), provider }))?;
        let client = client.with_client_auth_cert(chain, key).map_err(TlsError::Tls)?;
        let expires_at = described.iter().chain(&authorities).map(|cert| cert.validity.until).min();
        Ok(Self {
            server: Some(Arc::new(server)),
            client: Arc::new(without_memory(client)),
            expires_at: expires_at.unwrap_or(i64::MAX),
            node_expires_at: node.validity.until,
            fingerprint: authorities.first().map_or([0; 32], |authority| authority.fingerprint),
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certs(pem: &str, wrong: fn(CaError) -> TlsError) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    certs.map_err(|error| wrong(CaError::Certificate(error.to_string())))
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TlsError::Tls)?;
    }
    Ok(Arc::new(roots))
}

fn server(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    // Without a certificate one may only ask to join; that is for the handshake to see.
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated().build();
    let verifier = verifier.map_err(|error| TlsError::Tls(rustls::Error::General(error.to_string())))?;
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Tls)?;
    // A resumed session does not look at certificates again; one that ended meanwhile would still open doors.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}

type WantsClientCert = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(verifier: Arc<Authority>) -> Result<WantsClientCert, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Tls)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn without_memory(mut client: ClientConfig) -> ClientConfig {
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    client
}

/// Checks what a dialled node shows: a chain to the authority, by rustls's own words, and the name of a node. What it
/// leaves out is the name of the host, because addresses of nodes change and prove nothing.
#[derive(Debug)]
struct Authority {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    Roots(Arc<RootCertStore>),
    Fingerprint([u8; 32]),
}

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let roots = match &self.trust {
            Trust::Roots(roots) => Arc::clone(roots),
            Trust::Fingerprint(fingerprint) => {
                let is_it = |cert: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(cert)) == *fingerprint;
                let authority = intermediates.iter().find(is_it).ok_or(unknown)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                Arc::new(roots)
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms.all)?;
        match ca::describe_one(end_entity) {
            Ok(described) if described.node_of().is_some() => Ok(ServerCertVerified::assertion()),
            Ok(_) | Err(_) => Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken between nodes".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whom a certificate is for. Where it says nothing, everybody under the authority is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// The cluster.
    pub(super) cluster: Option<ClusterId>,
    /// The node.
    pub(super) node: Option<NodeId>,
}

impl Shown {
    /// Whether `node`, in `cluster` as far as that is known, may show it.
    pub(super) fn check(self, cluster: Option<ClusterId>, node: NodeId) -> Result<(), Rejected> {
        let is_elsewhere = self.cluster.zip(cluster).is_some_and(|(signed_for, cluster)| signed_for != cluster);
        if is_elsewhere || self.node.is_some_and(|signed_for| signed_for != node) {
            return Err(Rejected::CertificateForeign);
        }
        Ok(())
    }
}

/// Whom a shown certificate is for: `None` if none was shown.
fn shown(certs: Option<&[CertificateDer<'_>]>) -> Result<Option<Shown>, Rejected> {
    let Some(cert) = certs.and_then(<[_]>::first) else { return Ok(None) };
    let described = ca::describe_one(cert).map_err(|_| Rejected::CertificateUntrusted)?;
    let cluster = described.node_of().ok_or(Rejected::CertificateForeign)?;
    Ok(Some(Shown { cluster, node: described.node_id() }))
}

/// Why a connection did not become, or did not stay, a TLS connection.
pub(super) fn reason(error: &io::Error) -> Rejected {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Rejected::Tls;
    };
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )
        | rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => Rejected::CertificateExpired,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Rejected::CertificateForeign,
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError,
        ) => Rejected::CertificateUntrusted,
        rustls::Error::NoCertificatesPresented
        | rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Rejected::NoCertificate,
        _ => Rejected::Tls,
    }
}
