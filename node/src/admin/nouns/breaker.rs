//! Breakers: which targets rest, why, and an end to it.

use serde::Deserialize;
use serde_json::{Value, json};
use troupe_proto::failure::ErrorCode;
use troupe_proto::health::Scope;
use troupe_proto::id::{CredentialId, ProviderId};

use super::provider;
use crate::admin::call::Call;
use crate::admin::failure::Failure;
use crate::admin::reply::{self, Reply};

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    let (limit, after) = (call.limit()?, call.query("after"));
    let all = call.state.targets.breakers();
    let mut rest = all.iter().filter(|breaker| after.is_none_or(|after| *breaker.target > *after));
    let items: Vec<_> = rest.by_ref().take(limit).collect();
    let next = items.last().filter(|_| rest.next().is_some()).map(|last| last.target.clone());
    let mut page = json!({ "items": items });
    if let Some(next) = next {
        page["next"] = next.into();
    }
    Ok(reply::json(&page))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    provider: Option<String>,
    key: Option<String>,
    model: Option<String>,
}

pub(in crate::admin) async fn reset(call: &Call<'_>) -> Result<Reply, Failure> {
    let Meant { provider, key, model } = call.read()?;
    if provider.is_none() && (key.is_some() || model.is_some()) {
        return Err(Failure::new(ErrorCode::InvalidField, "a key or a model is named with its provider"));
    }
    let scope = Scope {
        provider: provider.as_deref().map(ProviderId::new),
        credential: key.as_deref().map(CredentialId::new),
        model,
    };
    let meant = call.state.targets.reset(&scope);
    if meant == 0 {
        return Err(Failure::not_found("target", provider.as_deref().unwrap_or("*")));
    }
    tracing::info!(asker = %call.asker.name, provider, key, model = scope.model, meant, "breakers were reset");
    Ok(reply::json(&json!({ "reset": meant })))
}

pub(in crate::admin) async fn test(call: &Call<'_>) -> Result<Reply, Failure> {
    let tested = call.state.targets.test(&ProviderId::new(call.name())).await;
    let tested = tested.ok_or_else(|| Failure::not_found("provider that a model uses", call.name()))?;
    let state = provider::word(call.state.cluster.state().spec().switch(&ProviderId::new(call.name())));
    let items: Value = json!(tested);
    Ok(reply::json(&json!({ "name": call.name(), "state": state, "items": items })))
}
