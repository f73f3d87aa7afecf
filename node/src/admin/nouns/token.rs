//! Tokens that operators enter with.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use troupe_proto::command::Command;
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{AdminTokenId, Revision};
use troupe_proto::secret::KeyHash;
use troupe_proto::token::{AdminToken, Role};

use super::{described, page, removed, show as answer};
use crate::admin::call::Call;
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::Reply;
use crate::clock;
use crate::config::spec_file::time_text;
use crate::config::{check_name, new_admin_token};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    role: String,
    expires: Option<String>,
}

pub(super) fn wrong(detail: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidField, detail)
}

pub(super) fn time(text: &str) -> Result<i64, Failure> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_second)
        .map_err(|_| wrong(format!("expires: {text:?} is not a time with its zone, such as 2027-01-01T00:00:00Z")))
}

fn shown_admin(name: &str, revision: Revision, token: &AdminToken) -> Map<String, Value> {
    let mut document = described(name, revision, json!({ "role": token.role.as_str() }));
    if let Some(expires) = token.expires {
        document.insert("expires".to_owned(), time_text(expires).into());
    }
    let state = if token.is_expired(clock::unix_seconds()) { "expired" } else { "active" };
    document.insert("state".to_owned(), state.into());
    document
}

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    call.synchronised().await?;
    let state = call.state.cluster.state();
    page(call, state.revision(), state.admin_tokens(), |name, token| shown_admin(name, state.revision(), token))
}

pub(in crate::admin) async fn create(call: &Call<'_>) -> Result<Reply, Failure> {
    let NewToken { name, role, expires } = call.read()?;
    check_name(&name).map_err(|error| wrong(format!("name: {error}")))?;
    let role: Role = role.parse().map_err(|error| wrong(format!("role: {error}")))?;
    let expires = expires.as_deref().map(time).transpose()?;
    let secret = new_admin_token().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    let (id, token) =
        (AdminTokenId::new(&name), AdminToken { hash: KeyHash::of(secret.expose().as_bytes()), role, expires });
    let before = {
        call.synchronised().await?;
        call.state.cluster.state()
    };
    if before.admin_tokens().contains_key(&id) && !call.is_repeated()? {
        return Err(Failure::new(Code::Conflict, format!("there is a token {name:?} already")));
    }
    let (revision, is_repeated) = call.command(Command::PutAdminToken(id, token.clone()), false).await?;
    let mut document = shown_admin(&name, revision, &token);
    if !is_repeated {
        document.insert("secret".to_owned(), secret.expose().as_str().into());
    }
    Ok(answer(StatusCode::CREATED, revision, document))
}

pub(in crate::admin) async fn delete(call: &Call<'_>) -> Result<Reply, Failure> {
    call.synchronised().await?;
    if !call.state.cluster.state().admin_tokens().contains_key(call.name()) && !call.is_repeated()? {
        return Err(Failure::not_found("token", call.name()));
    }
    let (revision, _) = call.command(Command::RemoveAdminToken(AdminTokenId::new(call.name())), true).await?;
    Ok(removed(call.name(), revision))
}
