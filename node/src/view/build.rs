use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use troupe_actors::{
    Concurrency, Fingerprint, HedgeRules, MemberLayout, PoolCell, PoolLayout, RetryRules, TargetRules,
};
use troupe_dialect::Dialect;
use troupe_proto::id::{ModelId, ProviderId, Revision, TargetId};
use troupe_proto::spec::{self, Affinity, Auth, OnBreak, Rules, Spec, Switch, Wire};
use troupe_proto::unit::Wait;

use super::keys::Keys;
use super::{CallLimits, Credential, Member, Pool, Pools, Provider, Retries, View};
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
    /// A secret is sealed: the spec was not opened before.
    #[error("provider {provider}: a secret is sealed")]
    Sealed {
        /// The provider.
        provider: ProviderId,
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

/// A view that lacks only what is learned.
pub struct Draft {
    revision: Revision,
    keys: Keys,
    spec: Spec,
    pools: PoolsDraft,
}

enum PoolsDraft {
    /// Nothing that they are made of has changed.
    Kept(Arc<Pools>),
    New {
        pools: Vec<PoolDraft>,
        endpoints: Vec<Arc<Endpoint>>,
    },
}

struct PoolDraft {
    id: ModelId,
    members: Vec<Member>,
    off: Vec<Member>,
    total: Duration,
    layout: PoolLayout,
    model: spec::Model,
}

impl Draft {
    /// Drafts the view of a spec, its secrets open. Endpoints that did not change are taken over from `old`, and so their connections.
    ///
    /// # Errors
    /// [`BuildError`]; the old view stays usable.
    pub fn of(spec: &Spec, revision: Revision, old: &View) -> Result<Self, BuildError> {
        let keys = old.keys.changed(&old.spec.keys, &spec.keys);
        let is_kept = spec.providers == old.spec.providers
            && spec.models == old.spec.models
            && spec.defaults == old.spec.defaults
            && spec.off == old.spec.off;
        let pools = if is_kept { PoolsDraft::Kept(old.pools.clone()) } else { PoolsDraft::of(spec, &old.pools)? };
        Ok(Self { revision, keys, spec: spec.clone(), pools })
    }

    /// Joins the draft with what is learned of each pool; `lay_out` gives a cell per pool, in the same order. It is not
    /// asked where the pools stay as they are.
    pub fn finish(self, lay_out: impl FnOnce(Vec<PoolLayout>) -> Vec<Arc<PoolCell>>) -> View {
        let Self { revision, keys, spec, pools } = self;
        let pools = match pools {
            PoolsDraft::Kept(pools) => pools,
            PoolsDraft::New { pools, endpoints } => Arc::new(finish_pools(pools, endpoints, lay_out)),
        };
        View { revision, keys, pools, spec }
    }
}

impl PoolsDraft {
    fn of(spec: &Spec, old: &Pools) -> Result<Self, BuildError> {
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
        let pools = spec.models.iter().map(|(id, model)| pool(spec, id, model, &providers)).collect();
        Ok(Self::New { pools, endpoints })
    }
}

fn finish_pools(
    drafts: Vec<PoolDraft>,
    endpoints: Vec<Arc<Endpoint>>,
    lay_out: impl FnOnce(Vec<PoolLayout>) -> Vec<Arc<PoolCell>>,
) -> Pools {
    let cells = lay_out(drafts.iter().map(|pool| pool.layout.clone()).collect());
    let (mut exact, mut open) = (HashMap::new(), Vec::new());
    for (draft, cell) in drafts.into_iter().zip(cells) {
        let PoolDraft { id, members, off, total, layout: _, model } = draft;
        let pool = Arc::new(Pool {
            id: id.clone(),
            members,
            off,
            fallbacks: model.fallbacks,
            total,
            cell,
            hedge_after: model.hedge.map(|hedge| hedge.after.0),
            is_sticky: model.affinity == Affinity::Prefix,
            continues: model.on_break == OnBreak::Continue,
        });
        match id.as_str().strip_suffix('*') {
            Some(prefix) => open.push((Box::from(prefix), pool)),
            None => {
                exact.insert(Box::from(id.as_str()), pool);
            }
        }
    }
    open.sort_by_key(|(prefix, _): &(Box<str>, _)| std::cmp::Reverse(prefix.len()));
    Pools { exact, open, endpoints }
}

fn pool(spec: &Spec, id: &ModelId, model: &spec::Model, providers: &BTreeMap<&ProviderId, Ready>) -> PoolDraft {
    let rules = model.rules.or(spec.defaults).settled();
    // A wildcard passes the asked name on; any other pool is asked for by its own.
    let own = (!id.as_str().ends_with('*')).then_some(id.as_str());
    let all = members(spec, model, own, providers);
    // A call may wait as long as ever for a model whose own targets are all switched off: its fallbacks serve it.
    let total = all.iter().map(|(member, _)| member.limits.total).max().unwrap_or(Duration::MAX);
    let is_off = |(member, _): &(Member, _)| spec.switch(&member.provider.id) == Switch::Off;
    let (off, on): (Vec<_>, Vec<_>) = all.into_iter().partition(is_off);
    let off = off.into_iter().map(|(member, _)| member).collect();
    let (members, layouts): (Vec<Member>, _) = on.into_iter().unzip();
    let layout = PoolLayout {
        id: id.clone(),
        members: layouts,
        has_fallbacks: !model.fallbacks.is_empty(),
        retries: RetryRules { budget: rules.retries.budget.unwrap_or_default() },
        hedge: model.hedge.map(|hedge| HedgeRules { budget: hedge.budget }),
    };
    PoolDraft { id: id.clone(), members, off, total, layout, model: model.clone() }
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
        let secret = credential.secret.exposed().ok_or_else(|| BuildError::Sealed { provider: id.clone() })?;
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
fn members(
    spec: &Spec,
    model: &spec::Model,
    own: Option<&str>,
    providers: &BTreeMap<&ProviderId, Ready>,
) -> Vec<(Member, MemberLayout)> {
    let mut members = Vec::new();
    for target in &model.targets {
        // `apply` refuses a target without its provider, so nothing is lost here.
        let (Some(ready), Some(provider)) = (providers.get(&target.provider), spec.providers.get(&target.provider))
        else {
            continue;
        };
        let rules = model.rules.or(provider.rules).or(spec.defaults).settled();
        let there = target.model.as_deref().or(own);
        let member = |credential: Option<&(Arc<Credential>, spec::Credential)>, weight: u64| {
            let id = TargetId {
                provider: target.provider.clone(),
                credential: credential.map(|(ready, _)| ready.id.clone()),
                model: there.unwrap_or(ASKED).into(),
            };
            let member = Member {
                provider: ready.provider.clone(),
                credential: credential.map(|(ready, _)| ready.clone()),
                credential_models: credential.and_then(|(_, spec)| spec.models.clone()),
                model: there.map(Arc::from),
                priority: target.priority,
                weight,
                limits: limits(&rules),
                retries: retries(&rules),
                label: there.and_then(|_| HeaderValue::try_from(id.to_string()).ok()),
            };
            let is_open = there.is_none();
            let (priority, rules) = (target.priority, target_rules(&rules));
            let fingerprint = fingerprint(provider, credential.map(|(_, spec)| spec));
            let layout = MemberLayout { id, is_open, weight, priority, rules, fingerprint };
            (member, layout)
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
    members.sort_by_key(|(member, _)| member.priority);
    members
}

/// What a target is reached with, in a form from which the secret cannot be read back: everything that decides whose
/// account answers, and where.
fn fingerprint(provider: &spec::Provider, credential: Option<&spec::Credential>) -> Fingerprint {
    let spec::Provider { wire, base_url, auth, credentials: _, azure_api_version, headers, ca_pem, proxy, rules: _ } =
        provider;
    let mut hash = Sha256::new();
    // With its length before it, no part can pass for the end of one and the beginning of the next.
    let mut part = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    part(match wire {
        Wire::OpenAi => "openai",
        Wire::Anthropic => "anthropic",
    });
    part(match auth {
        Auth::Bearer => "bearer",
        Auth::XApiKey => "x-api-key",
        Auth::ApiKey => "api-key",
    });
    part(&base_url.to_string());
    for optional in [azure_api_version, ca_pem, &proxy.as_ref().map(ToString::to_string)] {
        part(if optional.is_some() { "some" } else { "none" });
        part(optional.as_deref().unwrap_or_default());
    }
    // Before the headers, of which there can be any number.
    part(credential.and_then(|credential| credential.secret.exposed()).map_or("", String::as_str));
    for (name, value) in headers {
        part(name);
        part(value);
    }
    Fingerprint::of(hash.finalize().into())
}

/// Stands for the asked name in the id of a target that passes it on.
pub(super) const ASKED: &str = "*";

fn limits(rules: &Rules) -> CallLimits {
    let timeouts = rules.timeouts;
    CallLimits {
        connect: wait(timeouts.connect),
        first_byte: wait(timeouts.first_byte),
        idle: wait(timeouts.idle),
        total: wait(timeouts.total),
    }
}

fn retries(rules: &Rules) -> Retries {
    let retries = rules.retries;
    Retries {
        attempts: retries.attempts.unwrap_or(1),
        backoff: wait(retries.backoff),
        backoff_max: wait(retries.backoff_max),
        wait_max: wait(retries.wait_max),
    }
}

fn target_rules(rules: &Rules) -> TargetRules {
    let breaker = rules.breaker;
    TargetRules {
        failures: breaker.failures.unwrap_or(u32::MAX),
        window: wait(breaker.window),
        share: breaker.share.unwrap_or_default(),
        rest: wait(breaker.rest),
        rest_max: wait(breaker.rest_max),
        credential_rest: wait(breaker.credential_rest),
        slow_start: wait(breaker.slow_start),
        panic: breaker.panic.unwrap_or_default(),
        concurrency: rules
            .concurrency
            .map(|bounds| Concurrency { min: bounds.min.unwrap_or(1), max: bounds.max.unwrap_or(u32::MAX) }),
    }
}

/// The built-in rules leave nothing open, so a missing one means no bound.
fn wait(wait: Option<Wait>) -> Duration {
    wait.map_or(Duration::MAX, |wait| wait.0)
}
