use troupe_proto::command::Refusal;
use troupe_proto::id::{AdminTokenId, JoinTokenId, NodeId};
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::Table;
use troupe_proto::token::{AdminToken, JoinToken};

use super::audit::Changes;
use super::{room, shape};

/// Tokens are looked for one by one, and nobody needs more.
const TOKENS_MAX: usize = 1_000;

pub(super) type AdminTokens = Table<AdminTokenId, AdminToken>;
pub(super) type JoinTokens = Table<JoinTokenId, JoinToken>;

/// Two tokens with one secret would be one operator with two roles.
pub(super) fn put_admin(
    tokens: &mut AdminTokens,
    id: &AdminTokenId,
    token: &AdminToken,
    told: &mut Changes,
) -> Result<(), Refusal> {
    room(tokens, id, "admin tokens", TOKENS_MAX)?;
    if let Some((first, _)) = tokens.iter().find(|(name, other)| *name != id && other.hash == token.hash) {
        return Err(Refusal::SharedToken { first: first.clone(), second: id.clone() });
    }
    let before = tokens.insert(id.clone(), token.clone());
    let after = || Some(shape::admin_token(token));
    told.tell("admin token", id.as_str(), || before.as_ref().map(shape::admin_token), after);
    Ok(())
}

pub(super) fn remove_admin(tokens: &mut AdminTokens, id: &AdminTokenId, told: &mut Changes) {
    let before = tokens.remove(id);
    told.tell("admin token", id.as_str(), || before.as_ref().map(shape::admin_token), || None);
}

pub(super) fn put_join(
    tokens: &mut JoinTokens,
    id: &JoinTokenId,
    token: &JoinToken,
    told: &mut Changes,
) -> Result<(), Refusal> {
    room(tokens, id, "join tokens", TOKENS_MAX)?;
    let before = tokens.insert(id.clone(), token.clone());
    let after = || Some(shape::join_token(token));
    told.tell("join token", id.as_str(), || before.as_ref().map(shape::join_token), after);
    Ok(())
}

pub(super) fn remove_join(tokens: &mut JoinTokens, id: &JoinTokenId, told: &mut Changes) {
    let before = tokens.remove(id);
    told.tell("join token", id.as_str(), || before.as_ref().map(shape::join_token), || None);
}

/// Uses a token up for `node`. One that this node used up already stays as it is, also behind its end: the node asks
/// again because the answer did not reach it.
pub(super) fn use_join(
    tokens: &mut JoinTokens,
    hash: &KeyHash,
    node: NodeId,
    at: i64,
    told: &mut Changes,
) -> Result<(), Refusal> {
    let (id, token) = tokens.iter().find(|(_, token)| token.hash == *hash).ok_or(Refusal::UnknownJoinToken)?;
    match token.used {
        Some(by) if by == node => return Ok(()),
        Some(by) => return Err(Refusal::UsedJoinToken(by)),
        None if token.expires <= at => return Err(Refusal::ExpiredJoinToken),
        None => {}
    }
    let (id, used) = (id.clone(), JoinToken { used: Some(node), ..token.clone() });
    put_join(tokens, &id, &used, told)
}
