//! What requests read: the agreed spec in the form that serves a call fastest.
//!
//! A view is built on the control plane whenever the agreed state changes, and never changes afterwards.

mod build;
mod keys;
mod near;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use troupe_actors::PoolCell;
use troupe_dialect::{Dialect, Operation};
use troupe_proto::id::{CredentialId, KeyId, ModelId, ProviderId, Revision, TargetId};
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{Pattern, Spec};

pub use build::{BuildError, Draft};

use crate::telemetry::quiet::Quiet;
use crate::upstream::Endpoint;

/// One consistent look at what the cluster agreed on.
#[derive(Default)]
pub struct View {
    /// The revision it was built from.
    pub revision: Revision,
    keys: keys::Keys,
    /// Shared with the next view where no provider, model or default changed.
    pools: Arc<Pools>,
    /// What it was built of, to see what the next one changes.
    spec: Spec,
}

/// The models that clients can ask for.
#[derive(Default)]
struct Pools {
    exact: HashMap<Box<str>, Arc<Pool>>,
    /// Wildcards, the longest beginning first.
    open: Vec<(Box<str>, Arc<Pool>)>,
    endpoints: Vec<Arc<Endpoint>>,
}

/// A virtual key.
pub struct Key {
    /// Its name.
    pub id: KeyId,
    /// Whether it may choose its target by a header.
    pub may_pin: bool,
    models: Option<Vec<Pattern>>,
    expires: Option<i64>,
}

/// A model that clients can ask for.
pub struct Pool {
    /// Its configured name, perhaps with `*` at its end.
    pub id: ModelId,
    /// Its targets, the best priority first.
    pub members: Vec<Member>,
    /// Those whose providers are switched off: nobody calls them.
    pub off: Vec<Member>,
    /// Models to try when no member can serve.
    pub fallbacks: Vec<ModelId>,
    /// How long a call may take in all, wherever it goes.
    pub total: Duration,
    /// What was learned of its members; the same indexes.
    pub cell: Arc<PoolCell>,
    /// When a stream that has not begun is asked for a second time elsewhere.
    pub hedge_after: Option<Duration>,
    /// Whether calls with the same beginning go to the same member, whose prompt cache is warm then.
    pub is_sticky: bool,
    /// Whether a stream that broke goes on at another target.
    pub continues: bool,
}

/// A target of a pool: a provider, one of its credentials, and a model there.
pub struct Member {
    /// Whom to call.
    pub provider: Arc<Provider>,
    /// With what.
    pub credential: Option<Arc<Credential>>,
    /// The models the credential is good for.
    credential_models: Option<Vec<Pattern>>,
    /// The model's name there; `None` passes on the name that was asked for, as only members of a wildcard do.
    pub model: Option<Arc<str>>,
    /// Lower goes first.
    pub priority: u32,
    /// Its share within its priority; never 0.
    pub weight: u64,
    /// How long each step may take.
    pub limits: CallLimits,
    /// How a call that failed here is tried again.
    pub retries: Retries,
    /// What clients read of it; `None` where that depends on the asked name.
    pub label: Option<HeaderValue>,
}

/// How a call that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The wait before the same target is called again, doubled each time.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// The longest wait inside a call for a provider that said when to come again.
    pub wait_max: Duration,
}

/// A provider's credential, ready to send.
pub struct Credential {
    /// Its name.
    pub id: CredentialId,
    /// The header it travels in.
    pub header: HeaderName,
    /// That header's value, marked sensitive.
    pub value: HeaderValue,
}

/// A provider, ready to call.
pub struct Provider {
    /// Its name.
    pub id: ProviderId,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where its connections go.
    pub endpoint: Arc<Endpoint>,
    /// Headers that go with each call.
    pub headers: HeaderMap,
    /// Keeps its failures from filling the log.
    pub quiet: Quiet,
    base_path: String,
    azure_api_version: Option<String>,
}

/// How long each step of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// To open a connection.
    pub connect: Duration,
    /// To the reply's head.
    pub first_byte: Duration,
    /// Between two pieces of a reply.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

impl View {
    /// The key with this secret's hash.
    pub fn key(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        self.keys.get(hash)
    }

    /// The pool that serves a model by this name: the one of exactly this name, else the longest wildcard that fits.
    pub fn pool(&self, asked: &str) -> Option<&Arc<Pool>> {
        self.pools
            .exact
            .get(asked)
            .or_else(|| self.pools.open.iter().find(|(prefix, _)| asked.starts_with(&**prefix)).map(|(_, pool)| pool))
    }

    /// A provider and one of its credentials, as some pool has them.
    pub fn member(&self, provider: &ProviderId, credential: Option<&CredentialId>) -> Option<&Member> {
        let mut members = self.pools().flat_map(|pool| &pool.members);
        members.find(|member| {
            let own = member.credential.as_ref().map(|credential| &credential.id);
            member.provider.id == *provider && own == credential
        })
    }

    /// A provider's members, one for each of its credentials that some pool has, in order of these; also where the provider is
    /// switched off.
    pub fn members_of(&self, provider: &ProviderId) -> Vec<&Member> {
        let members = self.pools().flat_map(|pool| pool.members.iter().chain(&pool.off));
        let own = |member: &&Member| member.provider.id == *provider;
        let id = |member: &Member| member.credential.as_ref().map(|credential| credential.id.clone());
        let by_credential: BTreeMap<_, _> = members.filter(own).map(|member| (id(member), member)).collect();
        by_credential.into_values().collect()
    }

    /// The targets that nobody calls because their providers are switched off, in order, each once.
    pub fn off(&self) -> BTreeSet<TargetId> {
        let members = self.pools().flat_map(|pool| &pool.off);
        let id = |member: &Member| TargetId {
            provider: member.provider.id.clone(),
            credential: member.credential.as_ref().map(|credential| credential.id.clone()),
            model: member.model.clone().unwrap_or_else(|| build::ASKED.into()),
        };
        members.map(id).collect()
    }

    /// Every pool, by its configured name.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.exact.values().chain(self.pools.open.iter().map(|(_, pool)| pool))
    }

    /// The configured names, wildcards left out, in order.
    pub fn model_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.pools.exact.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Names of models that this key may use and that look like `asked`, the nearest first.
    pub fn near_names(&self, asked: &str, key: &Key) -> Vec<String> {
        let allowed = self.pools.exact.keys().map(|name| &**name).filter(|name| key.may_use(name));
        near::nearest(asked, allowed)
    }

    /// Counts of keys, models and endpoints, for status pages.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.keys.len(), self.pools.exact.len() + self.pools.open.len(), self.pools.endpoints.len())
    }
}

impl Key {
    /// Whether its time has run out at `now` (seconds since 1970).
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether it may use the model a client asks for by this name.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(model)))
    }
}

impl Member {
    /// What it is called in logs and headers, for a model of this name there.
    pub fn target(&self, model: &Arc<str>) -> TargetId {
        let credential = self.credential.as_ref().map(|credential| credential.id.clone());
        TargetId { provider: self.provider.id.clone(), credential, model: model.clone() }
    }

    /// Whether this member can be called for a model that a client asks for by this name.
    pub fn takes(&self, asked: &str) -> bool {
        let there = self.model.as_deref().unwrap_or(asked);
        self.credential_models.as_ref().is_none_or(|good_for| good_for.iter().any(|pattern| pattern.matches(there)))
    }
}

impl Provider {
    /// Path and query of the list of models: what is asked to learn whether it answers, because that costs nothing.
    pub fn models_path(&self) -> String {
        let base = &self.base_path;
        match (self.dialect, &self.azure_api_version) {
            (Dialect::Anthropic, _) => format!("{base}/v1/models"),
            (Dialect::OpenAi, None) => format!("{base}/models"),
            (Dialect::OpenAi, Some(version)) => {
                let version = percent_encoding::utf8_percent_encode(version, QUERY_VALUE);
                let base = base.strip_suffix("/openai").unwrap_or(base);
                format!("{base}/openai/models?api-version={version}")
            }
        }
    }

    /// Path and query of a call.
    ///
    /// Azure has the deployment in the path: `/openai/deployments/{model}/chat/completions?api-version=...`.
    pub fn path(&self, operation: Operation, model: &str, query: Option<&str>) -> String {
        let base = &self.base_path;
        let path = operation.path();
        match (&self.azure_api_version, query) {
            (Some(version), _) if self.dialect == Dialect::OpenAi => {
                let deployment = percent_encoding::utf8_percent_encode(model, percent_encoding::NON_ALPHANUMERIC);
                let version = percent_encoding::utf8_percent_encode(version, QUERY_VALUE);
                // A base URL may already end in `/openai`, as Azure's own SDK takes it.
                let base = base.strip_suffix("/openai").unwrap_or(base);
                format!("{base}/openai/deployments/{deployment}{path}?api-version={version}")
            }
            (Some(_) | None, Some(query)) => format!("{base}{path}?{query}"),
            (Some(_) | None, None) => format!("{base}{path}"),
        }
    }
}

/// What is escaped in the value of a query parameter.
const QUERY_VALUE: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
impl Key {
    /// A key for tests.
    pub(crate) fn sample(may_pin: bool) -> Self {
        Self { id: KeyId::new("sample"), may_pin, models: None, expires: None }
    }
}

#[cfg(test)]
mod tests;
