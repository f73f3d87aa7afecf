//! Virtual keys. Their secrets are made here, shown in one answer and kept nowhere.

use http::StatusCode;
use serde_json::{Map, Value};
use troupe_proto::command::Change;
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{KeyId, Revision};
use troupe_proto::secret::{KeyHash, Secret};
use troupe_proto::spec::{Key, Spec};

use super::{body_for, own_fields, page, read_one, removed, show as answer};
use crate::admin::call::{Call, Done, Now, Plan};
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::Reply;
use crate::clock;
use crate::config::new_key_secret;
use crate::config::spec_file::{Hashes, Rest, write_key};

/// When a revoked key expired: so long ago that no clock admits it.
const REVOKED: i64 = 0;

/// How many characters of a hash are shown: enough to tell keys apart, too few to guess a weak secret by.
const HASH_SHOWN: usize = "sha256:".len() + 8;

fn described(name: &str, revision: Revision, key: &Key) -> Map<String, Value> {
    let mut document = super::described(name, revision, write_key(key, Hashes::Omitted));
    let hash = key.hash.to_string();
    document.insert("hash_prefix".to_owned(), hash.get(..HASH_SHOWN).unwrap_or_default().into());
    let state = match key.expires {
        Some(REVOKED) => "revoked",
        Some(_) if key.is_expired(clock::unix_seconds()) => "expired",
        Some(_) | None => "active",
    };
    document.insert("state".to_owned(), state.into());
    document
}

/// A key that was put, and its secret where it was made for it.
struct Put {
    key: Key,
    is_new: bool,
    secret: Option<Secret<String>>,
}

/// The answer to a key that was put.
fn shown(name: &str, done: Done<Put>) -> Reply {
    let Done { revision, is_repeated, with: Put { key, is_new, secret } } = done;
    let mut document = described(name, revision, &key);
    // The secret of a repeated call was never put in force: the one of the first call was, and it is not known here.
    if let Some(secret) = secret.filter(|_| !is_repeated) {
        document.insert("secret".to_owned(), secret.expose().as_str().into());
    }
    answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }, revision, document)
}

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    page(call, now.revision, &now.spec.keys, |name, key| described(name, now.revision, key))
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let now = call.agreed().await?;
    let key = find(&now.spec, call.name())?;
    Ok(answer(StatusCode::OK, now.revision, described(call.name(), now.revision, key)))
}

fn find<'s>(spec: &'s Spec, name: &str) -> Result<&'s Key, Failure> {
    spec.keys.get(name).ok_or_else(|| Failure::not_found("key", name))
}

/// Whether a key of this name may be there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Any,
}

pub(in crate::admin) async fn create(call: &Call<'_>) -> Result<Reply, Failure> {
    let (body, name) = own_fields(&call.body)?;
    let name = name.ok_or_else(|| Failure::new(ErrorCode::InvalidField, "name: `name` is missing"))?;
    put_key(call, body, name, Before::Absent).await
}

pub(in crate::admin) async fn put(call: &Call<'_>) -> Result<Reply, Failure> {
    put_key(call, body_for(call)?, call.name().to_owned(), Before::Any).await
}

async fn put_key(
    call: &Call<'_>,
    body: crate::config::source::Node,
    name: String,
    before: Before,
) -> Result<Reply, Failure> {
    let id = name.clone();
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let is_new = !spec.keys.contains_key(name.as_str());
        if let Some(key) = spec.keys.get(name.as_str()).filter(|_| now.is_repeated) {
            let with = Put { key: key.clone(), is_new, secret: None };
            return Ok(Plan { changes: Vec::new(), was_there: true, with });
        }
        if before == Before::Absent && !is_new {
            return Err(Failure::new(Code::Conflict, format!("there is a key {name:?} already")));
        }
        let mut parts = read_one(&body, &["keys", &name], spec)?;
        let changes = parts.changes(spec, Rest::Stays);
        let lost = || Failure::new(ErrorCode::Internal, "the key was lost while it was read");
        let key = parts.keys.remove(name.as_str()).ok_or_else(lost)?;
        let secret = parts.made.pop().map(|(_, secret)| secret);
        Ok(Plan { changes, was_there: !is_new, with: Put { key, is_new, secret } })
    });
    Ok(shown(&id, done.await?))
}

pub(in crate::admin) async fn rotate(call: &Call<'_>) -> Result<Reply, Failure> {
    let id = KeyId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let mut key = find(spec, id.as_str())?.clone();
        if now.is_repeated {
            return Ok(Plan { changes: Vec::new(), was_there: true, with: Put { key, is_new: false, secret: None } });
        }
        let secret = new_key_secret().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        key.hash = KeyHash::of(secret.expose().as_bytes());
        let changes = vec![Change::PutKey(id.clone(), key.clone())];
        Ok(Plan { changes, was_there: true, with: Put { key, is_new: false, secret: Some(secret) } })
    });
    Ok(shown(call.name(), done.await?))
}

pub(in crate::admin) async fn revoke(call: &Call<'_>) -> Result<Reply, Failure> {
    let id = KeyId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        let mut key = find(spec, id.as_str())?.clone();
        let is_revoked = key.expires == Some(REVOKED);
        key.expires = Some(REVOKED);
        let changes = if is_revoked { Vec::new() } else { vec![Change::PutKey(id.clone(), key.clone())] };
        Ok(Plan { changes, was_there: true, with: Put { key, is_new: false, secret: None } })
    });
    Ok(shown(call.name(), done.await?))
}

pub(in crate::admin) async fn delete(call: &Call<'_>) -> Result<Reply, Failure> {
    let id = KeyId::new(call.name());
    let done = call.change(move |now: &Now| {
        let spec = &*now.spec;
        if !now.is_repeated {
            find(spec, id.as_str())?;
        }
        Ok(Plan { changes: vec![Change::RemoveKey(id.clone())], was_there: true, with: () })
    });
    Ok(removed(call.name(), done.await?.revision))
}
