use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why TLS to a provider cannot be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The host is neither a DNS name nor an address.
    #[error("{0:?} is not a host name that TLS can check")]
    Name(String),
    /// The provider's own certificates cannot be read.
    #[error("the provider's ca holds no usable certificate: {0}")]
    Ca(String),
    /// The system trusts nobody.
    #[error("no trusted certificates found on this system; install ca-certificates, or set ca on the provider")]
    NoRoots,
    /// The library refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// The TLS settings for providers that trust `ca_pem`, or the system's certificates.
///
/// The system's are read once for the process: it takes milliseconds, and only nodes that call over TLS pay it.
pub(super) fn client_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, TlsError>> = OnceLock::new();
    match ca_pem {
        None => SYSTEM.get_or_init(|| build(system_roots()?)).clone(),
        Some(pem) => build(pem_roots(pem)?),
    }
}

fn build(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Library(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn pem_roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| TlsError::Ca(e.to_string()))?;
        roots.add(certificate).map_err(|e| TlsError::Ca(e.to_string()))?;
    }
    if roots.is_empty() { Err(TlsError::Ca("no certificate in it".to_owned())) } else { Ok(roots) }
}
