//! Models.

use http::StatusCode;
use troupe_proto::command::Change;
use troupe_proto::id::ModelId;

use super::{body_for, described, page, read_one, removed, several, show as answer};
use crate::admin::call::{Call, Now, Plan};
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::Reply;
use crate::config::spec_file::{Rest, write_model};

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    page(call, now.revision, &now.spec.models, |name, thing| described(name, now.revision, write_model(thing)))
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    let found = now.spec.models.get(call.name()).ok_or_else(|| Failure::not_found("model", call.name()))?;
    Ok(answer(StatusCode::OK, now.revision, described(call.name(), now.revision, write_model(found))))
}

pub(in crate::admin) async fn put(call: &Call<'_>) -> Result<Reply, Failure> {
    let (body, name) = (body_for(call)?, call.name().to_owned());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let parts = read_one(&body, &["models", &name], spec)?;
        let is_new = !spec.models.contains_key(name.as_str());
        let written = parts.models.get(name.as_str()).map(write_model);
        let changes = parts.changes(spec, Rest::Stays);
        Ok(Plan { changes, was_there: !is_new, with: (is_new, written.unwrap_or_default()) })
    });
    let done = done.await?;
    let (is_new, written) = done.with;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, done.revision, described(call.name(), done.revision, written)))
}

pub(in crate::admin) async fn delete(call: &Call<'_>) -> Result<Reply, Failure> {
    let id = ModelId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        if !now.is_repeated && !spec.models.contains_key(&id) {
            return Err(Failure::not_found("model", id.as_str()));
        }
        let users = spec.models.iter().filter(|(name, model)| **name != id && model.fallbacks.contains(&id));
        let users: Vec<&str> = users.map(|(name, _)| name.as_str()).collect();
        if !users.is_empty() && !now.is_repeated {
            let models = several(&users);
            let detail = format!("model {:?} is a fallback of {models}: take it out there first", id.as_str());
            return Err(Failure::new(Code::Conflict, detail));
        }
        Ok(Plan { changes: vec![Change::RemoveModel(id.clone())], was_there: true, with: () })
    });
    Ok(removed(call.name(), done.await?.revision))
}
