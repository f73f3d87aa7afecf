use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use troupe_dialect::Dialect;
use troupe_proto::id::{ProviderId, Revision};
use troupe_proto::spec::{self, Auth, Rules, Spec, Wire};

use super::{CallLimits, Credential, Key, Member, Pool, Provider, View};
use crate::telemetry::quiet::Quiet;
use crate::upstream::{Endpoint, TlsError};

/// Why an agreed spec cannot be served by this node.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS to a provider cannot be set up.
    #[error("provider {provider}: {source}")]
    Tls {
        /// The provider.
        provider: ProviderId,
        /// What is wrong.
        source: TlsError,
    },
    /// A header or a secret has characters that no header may have.
    #[error("provider {provider}: {what} cannot be sent in a header")]
    Header {
        /// The provider.
        provider: ProviderId,
        /// Which one.
        what: String,
    },
}

impl View {
    /// Builds the view of a spec. Endpoints that did not change are taken over from `old`, and so their connections.
    ///
    /// # Errors
    /// [`BuildError`]; the old view stays usable.
    pub fn build(spec: &Spec, revision: Revision, old: &Self) -> Result<Self, BuildError> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        let mut providers = BTreeMap::new();
        for (id, provider) in &spec.providers {
            let known = endpoints.iter().chain(&old.endpoints).find(|endpoint| endpoint.serves(provider)).cloned();
            let endpoint = match known {
                Some(endpoint) => endpoint,
                None => {
                    Arc::new(Endpoint::of(provider).map_err(|source| BuildError::Tls { provider: id.clone(), source })?)
                }
            };
            if !endpoints.iter().any(|seen| Arc::ptr_eq(seen, &endpoint)) {
                endpoints.push(endpoint.clone());
            }
            providers.insert(id, ready_provider(id, provider, endpoint)?);
        }
        let mut exact = HashMap::new();
        let mut open = Vec::new();
        for (id, model) in &spec.models {
            let pool = Arc::new(Pool {
                id: id.clone(),
                members: members(spec, model, &providers),
                fallbacks: model.fallbacks.clone(),
            });
            match id.as_str().strip_suffix('*') {
                Some(prefix) => open.push((Box::from(prefix), pool)),
                None => {
                    exact.insert(Box::from(id.as_str()), pool);
                }
            }
        }
        open.sort_by_key(|(prefix, _): &(Box<str>, _)| std::cmp::Reverse(prefix.len()));
        let keys = spec.keys.iter().map(|(id, key)| (key.hash, Arc::new(ready_key(id, key)))).collect();
        Ok(Self { revision, keys, exact, open, endpoints })
    }
}

fn ready_key(id: &troupe_proto::id::KeyId, key: &spec::Key) -> Key {
    Key { id: id.clone(), models: key.models.clone(), expires: key.expires }
}

/// A provider with its credentials.
struct Ready {
    provider: Arc<Provider>,
    credentials: Vec<(Arc<Credential>, spec::Credential)>,
}

fn ready_provider(id: &ProviderId, spec: &spec::Provider, endpoint: Arc<Endpoint>) -> Result<Ready, BuildError> {
    let malformed = |what: String| BuildError::Header { provider: id.clone(), what };
    let mut headers = HeaderMap::new();
    for (name, value) in &spec.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed(format!("header {name:?}")))?;
        let value = HeaderValue::from_str(value).map_err(|_| malformed(format!("the value of header {name:?}")))?;
        headers.insert(header, value);
    }
    let mut credentials = Vec::new();
    for (name, credential) in &spec.credentials {
        let secret = credential.secret.expose();
        let (header, text) = match spec.auth {
            Auth::Bearer => (header::AUTHORIZATION, format!("Bearer {secret}")),
            Auth::XApiKey => (HeaderName::from_static("x-api-key"), secret.clone()),
            Auth::ApiKey => (HeaderName::from_static("api-key"), secret.clone()),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| malformed(format!("the secret of key {name:?}")))?;
        value.set_sensitive(true);
        credentials.push((Arc::new(Credential { id: name.clone(), header, value }), credential.clone()));
    }
    let provider = Provider {
        id: id.clone(),
        dialect: match spec.wire {
            Wire::OpenAi => Dialect::OpenAi,
            Wire::Anthropic => Dialect::Anthropic,
        },
        endpoint,
        headers,
        quiet: Quiet::default(),
        base_path: spec.base_url.path.clone(),
        azure_api_version: spec.azure_api_version.clone(),
    };
    Ok(Ready { provider: Arc::new(provider), credentials })
}

/// The members of a pool: each target with each key of its provider, the best priority first.
fn members(spec: &Spec, model: &spec::Model, providers: &BTreeMap<&ProviderId, Ready>) -> Vec<Member> {
    let mut members = Vec::new();
    for target in &model.targets {
        // `apply` refuses a target without its provider, so nothing is lost here.
        let (Some(ready), Some(provider)) = (providers.get(&target.provider), spec.providers.get(&target.provider))
        else {
            continue;
        };
        let rules = model.rules.or(provider.rules).or(spec.defaults).or(Rules::built_in());
        let member = |credential: Option<&(Arc<Credential>, spec::Credential)>, weight: u64| Member {
            provider: ready.provider.clone(),
            credential: credential.map(|(ready, _)| ready.clone()),
            credential_models: credential.and_then(|(_, spec)| spec.models.clone()),
            model: target.model.as_deref().map(Arc::from),
            priority: target.priority,
            weight,
            limits: limits(&rules),
        };
        // A target's share is its weight, split among the keys by theirs: scaled, so that nothing is rounded away.
        let scale = 1_000_000u64;
        let share = u64::from(target.weight.max(1)).saturating_mul(scale);
        let keys: u64 = ready.credentials.iter().map(|(_, spec)| u64::from(spec.weight.max(1))).sum();
        if ready.credentials.is_empty() {
            members.push(member(None, share));
        }
        for credential in &ready.credentials {
            let weight = share.saturating_mul(u64::from(credential.1.weight.max(1))) / keys.max(1);
            members.push(member(Some(credential), weight.max(1)));
        }
    }
    members.sort_by_key(|member| member.priority);
    members
}

fn limits(rules: &Rules) -> CallLimits {
    let built_in = Rules::built_in().timeouts;
    let pick = |ours: Option<troupe_proto::unit::Wait>, last: Option<troupe_proto::unit::Wait>| {
        ours.or(last).map_or(Duration::MAX, |wait| wait.0)
    };
    CallLimits {
        connect: pick(rules.timeouts.connect, built_in.connect),
        first_byte: pick(rules.timeouts.first_byte, built_in.first_byte),
        idle: pick(rules.timeouts.idle, built_in.idle),
        total: pick(rules.timeouts.total, built_in.total),
    }
}
