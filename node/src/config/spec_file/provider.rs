use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use troupe_proto::id::{CredentialId, ProviderId};
use troupe_proto::spec::{self, Auth, BaseUrl, Credential, Pattern, Provider, Scheme, Wire};

use super::rules;
use super::sections::{AZURE, CREDENTIAL, PROVIDER};
use crate::config::names::check_name;
use crate::config::secrets::Secrets;
use crate::config::source::{Found, Table};

/// More keys of one provider than this are a mistake.
const CREDENTIALS_MAX: usize = 256;

/// More headers of one provider than this are a mistake.
const HEADERS_MAX: usize = 64;

pub(super) fn read_all(found: &Found<'_>, secrets: &Secrets<'_>) -> spec::Table<ProviderId, Provider> {
    let mut providers = spec::Table::new();
    for (name, found) in found.entries() {
        if let Err(error) = check_name(name) {
            found.problem(error);
        }
        if let Some(provider) = found.table(&PROVIDER).and_then(|table| read(name, &table, secrets)) {
            providers.insert(ProviderId::new(name), provider);
        }
    }
    providers
}

/// Reads each part even where an earlier one is wrong, so that all problems are found at once.
fn read(name: &str, table: &Table<'_>, secrets: &Secrets<'_>) -> Option<Provider> {
    let wire = table
        .required("wire")
        .and_then(|found| found.word(&[("openai", Wire::OpenAi), ("anthropic", Wire::Anthropic)]));
    let azure = table.get("azure");
    let azure_api_version = azure.as_ref().and_then(|found| read_azure(found, wire));
    let base_url = read_base_url(table, wire, azure.is_some());
    let words = [("bearer", Auth::Bearer), ("x-api-key", Auth::XApiKey), ("api-key", Auth::ApiKey)];
    let auth = table.get("auth").and_then(|found| found.word(&words));
    let credentials = table.get("keys").map(|found| read_credentials(name, &found, secrets)).unwrap_or_default();
    let headers = table.get("headers").map(|found| read_headers(&found)).unwrap_or_default();
    let ca_pem = table.get("ca").and_then(|found| secrets.certificates(&found));
    let proxy = table.get("proxy").and_then(|found| read_proxy(&found));
    let rules = rules::read(table);
    let wire = wire?;
    let auth = auth.unwrap_or(match wire {
        _ if azure.is_some() => Auth::ApiKey,
        Wire::OpenAi => Auth::Bearer,
        Wire::Anthropic => Auth::XApiKey,
    });
    Some(Provider { wire, base_url: base_url?, auth, credentials, azure_api_version, headers, ca_pem, proxy, rules })
}

fn read_azure(found: &Found<'_>, wire: Option<Wire>) -> Option<String> {
    if wire == Some(Wire::Anthropic) {
        found.problem("Azure's deployments speak the wire \"openai\"");
    }
    let version = found.table(&AZURE)?.required("api_version")?;
    let text = version.text()?;
    let is_version = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !is_version {
        version.problem("expected a version such as \"2025-04-01-preview\"");
    }
    is_version.then(|| text.to_owned())
}

fn read_base_url(table: &Table<'_>, wire: Option<Wire>, is_azure: bool) -> Option<BaseUrl> {
    if let Some(found) = table.get("base_url") {
        return found.parsed();
    }
    if is_azure {
        table.at.problem("`base_url` is missing: with `azure` it is your resource's, https://NAME.openai.azure.com");
        return None;
    }
    match wire? {
        Wire::OpenAi => "https://api.openai.com/v1",
        Wire::Anthropic => "https://api.anthropic.com",
    }
    .parse()
    .ok()
}

fn read_credentials(provider: &str, found: &Found<'_>, secrets: &Secrets<'_>) -> BTreeMap<CredentialId, Credential> {
    let mut credentials = BTreeMap::new();
    let items = found.items();
    if items.len() > CREDENTIALS_MAX {
        found.problem(format_args!("a provider has at most {CREDENTIALS_MAX} keys"));
        return credentials;
    }
    for item in items {
        let Some(table) = item.table(&CREDENTIAL) else { continue };
        let name = table.required("name").and_then(|found| {
            let name = found.text()?;
            check_name(name).map_err(|error| found.problem(error)).ok()?;
            Some(name)
        });
        let secret = secrets.credential(&table, provider, name);
        let weight = table.get("weight").map_or(Some(1), |found| found.whole(1, 1_000_000));
        let models = table.get("models").map(|found| patterns(&found));
        let (Some(name), Some(secret), Some(weight)) = (name, secret, weight) else { continue };
        if credentials.insert(CredentialId::new(name), Credential { secret, weight, models }).is_some() {
            item.problem(format_args!("two keys of this provider are named {name:?}"));
        }
    }
    credentials
}

/// Patterns of model names, those of a vendor included.
pub(super) fn patterns(found: &Found<'_>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for item in found.items() {
        let Some(text) = item.text() else { continue };
        match Pattern::parse(text).filter(|_| text.bytes().all(|b| b.is_ascii_graphic())) {
            Some(pattern) => patterns.push(pattern),
            None => {
                item.problem(format_args!("{text:?} is not a model name; `*` may stand at the end only"));
            }
        }
    }
    patterns
}

/// Headers that an operator does not set: those that carry credentials, frame the message or steer the connection.
const RESERVED: [&str; 18] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

fn read_headers(found: &Found<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let entries = found.entries();
    if entries.len() > HEADERS_MAX {
        found.problem(format_args!("at most {HEADERS_MAX} headers"));
    }
    for (name, found) in entries {
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            found.problem(format_args!("{name:?} is not a header name"));
            continue;
        };
        if RESERVED.contains(&parsed.as_str()) {
            found.problem("this header is the gateway's own to set");
            continue;
        }
        let Some(value) = found.text() else { continue };
        if value.starts_with("env:") || value.starts_with("file:") {
            found.problem("headers hold no secrets: use `keys` and `auth`");
        } else if HeaderValue::from_str(value).is_err() || !value.is_ascii() {
            found.problem("this is not a header value: visible ASCII characters and spaces only");
        } else if headers.insert(parsed.as_str().to_owned(), value.to_owned()).is_some() {
            found.problem("the header is given twice; case does not tell headers apart");
        }
    }
    headers
}

fn read_proxy(found: &Found<'_>) -> Option<BaseUrl> {
    let url: BaseUrl = found.parsed()?;
    let is_proxy = url.scheme == Scheme::Http && url.path.is_empty();
    if !is_proxy {
        found.problem("expected a proxy such as \"http://proxy:3128\": plain HTTP, and no path");
    }
    is_proxy.then_some(url)
}
