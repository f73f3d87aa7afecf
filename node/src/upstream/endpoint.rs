use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use troupe_proto::spec::{BaseUrl, Provider, Scheme};

use super::tls::{self, TlsError};

/// Where connections of a provider go. Two calls may share a connection exactly if they share the endpoint.
pub struct Endpoint {
    url: BaseUrl,
    proxy: Option<BaseUrl>,
    ca_pem: Option<String>,
    /// The `host` header of every call.
    pub authority: HeaderValue,
    pub(super) tls: Option<Tls>,
}

/// What a TLS connection needs to begin.
pub(super) struct Tls {
    pub(super) config: Arc<rustls::ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Endpoint {
    /// The endpoint of a provider; reads the system's certificates when it needs them.
    ///
    /// # Errors
    /// [`TlsError`] when its host is no TLS name or no certificate can be trusted.
    pub fn of(provider: &Provider) -> Result<Self, TlsError> {
        let url = provider.base_url.clone();
        let tls = match url.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(Tls {
                config: tls::client_config(provider.ca_pem.as_deref())?,
                name: ServerName::try_from(url.host.clone()).map_err(|_| TlsError::Name(url.host.clone()))?,
            }),
        };
        let authority = HeaderValue::from_str(&url.authority()).map_err(|_| TlsError::Name(url.host.clone()))?;
        Ok(Self { url, proxy: provider.proxy.clone(), ca_pem: provider.ca_pem.clone(), authority, tls })
    }

    /// Whether connections to this endpoint serve `provider` too: a reload then keeps them.
    pub fn serves(&self, provider: &Provider) -> bool {
        let (ours, theirs) = (&self.url, &provider.base_url);
        (ours.scheme, &ours.host, ours.port) == (theirs.scheme, &theirs.host, theirs.port)
            && self.proxy == provider.proxy
            && self.ca_pem == provider.ca_pem
    }

    /// The whole address of a path there, as people read it.
    pub fn address_of(&self, path: &str) -> String {
        format!("{}://{}{path}", self.url.scheme.as_str(), self.url.authority())
    }

    pub(super) fn url(&self) -> &BaseUrl {
        &self.url
    }

    pub(super) fn proxy(&self) -> Option<&BaseUrl> {
        self.proxy.as_ref()
    }

    /// Whether requests name the whole URL, because a proxy reads them in the clear.
    pub(super) fn wants_absolute_form(&self) -> bool {
        self.proxy.is_some() && self.tls.is_none()
    }
}
