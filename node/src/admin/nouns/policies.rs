//! The policies.

use http::StatusCode;
use serde_json::{Map, Value};
use troupe_proto::id::Revision;
use troupe_proto::spec::Policies;

use super::{own_fields, read_one, show as answer};
use crate::admin::call::{Call, Now, Plan};
use crate::admin::failure::Failure;
use crate::admin::reply::Reply;
use crate::config::spec_file::{Rest, write_policies};

fn described(revision: Revision, policies: &Policies) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("revision".to_owned(), revision.0.into());
    document.append(&mut write_policies(policies));
    document
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    Ok(answer(StatusCode::OK, now.revision, described(now.revision, &now.spec.policies)))
}

pub(in crate::admin) async fn put(call: &Call<'_>) -> Result<Reply, Failure> {
    let (body, _) = own_fields(&call.body)?;
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let parts = read_one(&body, &["policies"], spec)?;
        let changes = parts.changes(spec, Rest::Stays);
        // They are there before anybody says anything of them.
        Ok(Plan { changes, was_there: true, with: parts.policies.unwrap_or_default() })
    });
    let done = done.await?;
    Ok(answer(StatusCode::OK, done.revision, described(done.revision, &done.with)))
}
