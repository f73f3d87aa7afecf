//! Providers, and their switches.

use http::StatusCode;
use serde_json::{Map, Value};
use troupe_proto::command::Change;
use troupe_proto::id::{ProviderId, Revision};
use troupe_proto::spec::{Provider, Spec, Switch};

use super::{body_for, described, page, read_one, removed, several, show as answer};
use crate::admin::call::{Call, Now, Plan};
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::Reply;
use crate::config::spec_file::{Rest, write_provider};

/// A provider, and whether it is switched off.
fn told(name: &str, revision: Revision, spec: &Spec, provider: &Provider) -> Map<String, Value> {
    let state = word(spec.switch(&ProviderId::new(name)));
    let mut document = described(name, revision, Value::Null);
    document.insert("state".to_owned(), state.into());
    if let Value::Object(mut section) = write_provider(provider) {
        document.append(&mut section);
    }
    document
}

pub(super) const fn word(switch: Switch) -> &'static str {
    match switch {
        Switch::Off => "disabled",
        Switch::On => "enabled",
    }
}

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    page(call, now.revision, &now.spec.providers, |name, thing| told(name, now.revision, &now.spec, thing))
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    let found = now.spec.providers.get(call.name()).ok_or_else(|| Failure::not_found("provider", call.name()))?;
    Ok(answer(StatusCode::OK, now.revision, told(call.name(), now.revision, &now.spec, found)))
}

pub(in crate::admin) async fn put(call: &Call<'_>) -> Result<Reply, Failure> {
    let (body, name) = (body_for(call)?, call.name().to_owned());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let parts = read_one(&body, &["providers", &name], spec)?;
        let is_new = !spec.providers.contains_key(name.as_str());
        let written = parts.providers.get(name.as_str()).map(write_provider);
        let changes = parts.changes(spec, Rest::Stays);
        Ok(Plan { changes, was_there: !is_new, with: (is_new, written.unwrap_or_default()) })
    });
    let done = done.await?;
    let (is_new, written) = done.with;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, done.revision, described(call.name(), done.revision, written)))
}

/// Switches a provider off or on.
pub(in crate::admin) async fn switch(call: &Call<'_>, to: Switch) -> Result<Reply, Failure> {
    let id = ProviderId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        if !spec.providers.contains_key(&id) {
            return Err(Failure::not_found("provider", id.as_str()));
        }
        let is_so = spec.switch(&id) == to;
        let changes = if is_so { Vec::new() } else { vec![Change::SwitchProvider(id.clone(), to)] };
        Ok(Plan { changes, was_there: true, with: () })
    });
    let done = done.await?;
    let mut document = described(call.name(), done.revision, Value::Null);
    document.insert("state".to_owned(), word(to).into());
    Ok(answer(StatusCode::OK, done.revision, document))
}

pub(in crate::admin) async fn delete(call: &Call<'_>) -> Result<Reply, Failure> {
    let id = ProviderId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        if !now.is_repeated && !spec.providers.contains_key(&id) {
            return Err(Failure::not_found("provider", id.as_str()));
        }
        let users = spec.models.iter().filter(|(_, model)| model.targets.iter().any(|target| target.provider == id));
        let users: Vec<&str> = users.map(|(name, _)| name.as_str()).collect();
        if !users.is_empty() && !now.is_repeated {
            let models = several(&users);
            let detail = format!("provider {:?} is used by {models}: take it out of their targets first", id.as_str());
            return Err(Failure::new(Code::Conflict, detail));
        }
        Ok(Plan { changes: vec![Change::RemoveProvider(id.clone())], was_there: true, with: () })
    });
    Ok(removed(call.name(), done.await?.revision))
}
