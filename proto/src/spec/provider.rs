use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};

use super::{Pattern, Rules};
use crate::id::CredentialId;
use crate::secret::CredentialSecret;

/// The dialect a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Wire {
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
}

/// A model provider.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Provider {
    /// Which dialect it speaks.
    pub wire: Wire,
    /// What that vendor's own SDK takes as its base URL.
    pub base_url: BaseUrl,
    /// How a credential is shown to it.
    pub auth: Auth,
    /// Its keys; empty for a provider that takes none.
    pub credentials: BTreeMap<CredentialId, Credential>,
    /// Azure's `api-version`. When it is set, `{base}/openai/deployments/{model}/...?api-version=` is called.
    pub azure_api_version: Option<String>,
    /// Headers that go with each call.
    pub headers: BTreeMap<String, String>,
    /// PEM certificates trusted for it, in place of the system's.
    pub ca_pem: Option<String>,
    /// An HTTP proxy that calls go through.
    pub proxy: Option<BaseUrl>,
    /// Rules of its own.
    pub rules: Rules,
}

/// Whether a provider is called at all. It is an operator's, and no part of what is declared: what is declared anew leaves
/// it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Switch {
    /// Nobody calls it, be it for a client or to see how it is.
    Off,
    /// It is called.
    #[default]
    On,
}

/// One key of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Credential {
    /// What is shown to the provider.
    pub secret: CredentialSecret,
    /// Its share among the provider's keys.
    pub weight: u32,
    /// The models (by the provider's names) it is good for; `None` for all.
    pub models: Option<Vec<Pattern>>,
}

/// The header a credential travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Auth {
    /// `authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    XApiKey,
    /// `api-key: KEY`, as Azure wants it.
    ApiKey,
}

/// Whether a URL is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The port used where a URL names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The part of a URL that does not change from call to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct BaseUrl {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The host's name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path, without a slash at its end; may be empty.
    pub path: String,
}

/// Says why a text is not a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins with neither `http://` nor `https://`.
    #[error("a URL begins with http:// or https://")]
    Scheme,
    /// It names no host.
    #[error("the URL names no host")]
    Host,
    /// What stands behind the host is no port.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
    /// It carries a user name, a query or a fragment.
    #[error("a base URL has no user name, query or fragment")]
    Extra,
}

impl std::str::FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(UrlError::Scheme);
        };
        if rest.contains(['?', '#', '@', ' ']) || !rest.is_ascii() || rest.bytes().any(|b| b.is_ascii_control()) {
            return Err(UrlError::Extra);
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        let (host, port) = split_authority(authority)?;
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let port = match port {
            None => scheme.default_port(),
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?,
        };
        Ok(Self { scheme, host: host.to_owned(), port, path: path.trim_end_matches('/').to_owned() })
    }
}

/// Splits `host:port`, `[v6]:port` or either without a port.
fn split_authority(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(UrlError::Host)?;
        return match rest {
            "" => Ok((host, None)),
            _ => rest.strip_prefix(':').map(|port| (host, Some(port))).ok_or(UrlError::Port),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(UrlError::Host),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

impl BaseUrl {
    /// Host and port as a `Host` header has them: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_what_it_read_without_its_last_slash() {
        for (text, printed) in [
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://[::1]:80/x", "http://[::1]/x"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_by_what_is_wrong() {
        for (text, error) in [
            ("api.openai.com", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://:80", UrlError::Host),
            ("http://::1", UrlError::Host),
            ("http://h:0", UrlError::Port),
            ("http://h:99999", UrlError::Port),
            ("http://u:p@h", UrlError::Extra),
            ("http://h/?a=1", UrlError::Extra),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
    }
}
