//! Where secrets come from: `env:NAME` and `file:PATH`, never the file itself.

use std::cell::RefCell;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use troupe_proto::secret::{CredentialSecret, Secret};
use troupe_proto::spec::Spec;

use super::env::Env;
use super::file::{self, Files};
use super::source::{Found, Table};

/// The longest secret or PEM file.
const SECRET_BYTES: u64 = 1 << 20;

/// Whether a secret may stand in the configuration itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literals {
    /// Never: the configuration may be shown and committed.
    Refused,
    /// In `troupe dev`.
    Allowed,
    /// Nothing else: this process reads none of its variables and files for a caller of the admin API.
    Only,
}

/// What it means when a secret is not given, or given as [`SET`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsaid<'a> {
    /// It is missing: the document is all there is.
    Missing,
    /// The one in force under the same name stays.
    Kept(&'a Spec),
    /// Whoever takes the document knows whether there is one.
    Later,
}

/// What stands in documents in place of a secret that is there.
pub const SET: &str = "(set)";

/// Resolves secrets.
pub(super) struct Secrets<'a> {
    env: Env<'a>,
    literals: Literals,
    unsaid: Unsaid<'a>,
    files: RefCell<Files>,
}

impl<'a> Secrets<'a> {
    /// Resolves `env:` by these variables, and notes the files that are read behind those in `files`.
    pub(super) const fn new(env: Env<'a>, literals: Literals, files: Files) -> Self {
        Self { env, literals, unsaid: Unsaid::Missing, files: RefCell::new(files) }
    }

    /// The same, with another meaning of what is not given.
    pub(super) const fn unsaid(mut self, unsaid: Unsaid<'a>) -> Self {
        self.unsaid = unsaid;
        self
    }

    /// A provider's secret that a table gives, or keeps.
    pub(super) fn credential(&self, table: &Table<'_>, provider: &str, name: Option<&str>) -> Option<CredentialSecret> {
        let found = table.get("secret");
        if found.as_ref().is_some_and(|found| !matches!(self.unsaid, Unsaid::Missing) && found.is_text(SET))
            || found.is_none()
        {
            match self.unsaid {
                Unsaid::Missing => {}
                Unsaid::Later => return Some(CredentialSecret::open(SET)),
                Unsaid::Kept(spec) => {
                    let kept = spec.providers.get(provider).zip(name).and_then(|(p, name)| p.credentials.get(name));
                    if kept.is_none() {
                        table.at.problem("`secret` is missing, and none is in force under this name");
                    }
                    return kept.map(|credential| credential.secret.clone());
                }
            }
        }
        table.required("secret").and_then(|found| self.header_value(&found)).map(CredentialSecret::Open)
    }

    /// The files that were noted, whether they could be read or not.
    pub(super) fn into_files(self) -> Files {
        self.files.into_inner()
    }

    /// The text behind `env:NAME` or `file:PATH`, without line ends behind it. A literal's text is never shown.
    pub(super) fn resolve(&self, found: &Found<'_>) -> Option<Secret<String>> {
        let text = found.text()?;
        let (secret, from) = if self.literals == Literals::Only {
            if text.starts_with("env:") || text.starts_with("file:") {
                found.problem(
                    "a node reads no variables or files for a caller: send the secret itself, as the CLI does",
                );
                return None;
            }
            (text.to_owned(), "the value".to_owned())
        } else if let Some(name) = text.strip_prefix("env:") {
            let Some(value) = (self.env)(name) else {
                found.problem(format_args!("variable {name} is not set"));
                return None;
            };
            (value, format!("variable {name}"))
        } else if let Some(path) = text.strip_prefix("file:") {
            self.files.borrow_mut().note(Path::new(path));
            match file::read(Path::new(path), SECRET_BYTES) {
                Ok(value) => (value, format!("file {path}")),
                Err(error) => {
                    found.problem(format_args!("file {path} {error}"));
                    return None;
                }
            }
        } else if self.literals == Literals::Allowed {
            (text.to_owned(), "the value".to_owned())
        } else {
            found.problem("a secret is never written down: use \"env:NAME\" or \"file:PATH\"");
            return None;
        };
        let mut secret = Secret::new(secret);
        let kept = secret.expose().trim_end_matches(['\r', '\n']).len();
        if kept < secret.expose().len() {
            secret = Secret::new(secret.expose().get(..kept).unwrap_or_default().to_owned());
        }
        if secret.expose().is_empty() {
            found.problem(format_args!("{from} is empty"));
            return None;
        }
        Some(secret)
    }

    /// A secret that travels in a header: visible ASCII characters.
    pub(super) fn header_value(&self, found: &Found<'_>) -> Option<Secret<String>> {
        let secret = self.resolve(found)?;
        let is_visible = secret.expose().bytes().all(|b| b.is_ascii_graphic());
        if !is_visible {
            found.problem("the secret has spaces or characters that a header cannot carry");
        }
        is_visible.then_some(secret)
    }

    /// PEM with at least one certificate.
    pub(super) fn certificates(&self, found: &Found<'_>) -> Option<String> {
        // Certificates are no secret: they may stand in the document.
        let pem = match found.text()? {
            text if text.contains("-----BEGIN CERTIFICATE-----") => Secret::new(text.to_owned()),
            _ => self.resolve(found)?,
        };
        let mut count = 0_u32;
        for certificate in CertificateDer::pem_slice_iter(pem.expose().as_bytes()) {
            if let Err(error) = certificate {
                found.problem(format_args!("it is not PEM: {error}"));
                return None;
            }
            count = count.saturating_add(1);
        }
        if count == 0 {
            found.problem("it holds no PEM certificate");
            return None;
        }
        Some(pem.expose().clone())
    }

    /// PEM with a private key.
    pub(super) fn private_key(&self, found: &Found<'_>) -> Option<Secret<String>> {
        let pem = self.resolve(found)?;
        if PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).is_err() {
            found.problem("it holds no PEM private key");
            return None;
        }
        Some(pem)
    }
}
