//! Who asks, and what they may.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use troupe_proto::failure::ErrorCode;
use troupe_proto::token::Role;

use super::failure::Failure;

/// Whose token came with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The token's name.
    pub(super) name: String,
    /// What it may do.
    pub(super) role: Role,
}

/// The token that came with a call.
///
/// # Errors
/// There is none.
pub(super) fn sent_token(headers: &HeaderMap) -> Result<&str, Failure> {
    let missing = || Failure::new(ErrorCode::KeyMissing, "send the admin token as Authorization: Bearer");
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}
