//! Who is calling: a virtual key, in whichever header the client's SDK puts it.

use std::sync::Arc;

use http::{HeaderMap, header};
use troupe_proto::failure::ErrorCode;
use troupe_proto::secret::KeyHash;

use super::refusal::Refusal;
use crate::view::{Key, View};

/// Finds the key a request came with.
///
/// # Errors
/// `key_missing`, `key_unknown` or `key_expired`. The secret itself is in none of the messages.
pub(crate) fn identify(view: &View, headers: &HeaderMap, now: i64) -> Result<Arc<Key>, Refusal> {
    let secret = shown(headers).ok_or_else(|| {
        Refusal::new(
            ErrorCode::KeyMissing,
            "no API key: send it as Authorization: Bearer KEY, x-api-key: KEY or api-key: KEY",
        )
    })?;
    let key = view
        .key(&KeyHash::of(secret))
        .ok_or_else(|| Refusal::new(ErrorCode::KeyUnknown, "the API key is not known to this gateway"))?;
    if key.is_expired(now) {
        return Err(Refusal::new(ErrorCode::KeyExpired, format!("the API key {:?} has expired", key.id)));
    }
    Ok(key.clone())
}

/// The secret a client shows, in any of the forms that SDKs send.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
    });
    let plain = |name: &str| headers.get(name).map(|value| value.as_bytes().trim_ascii());
    bearer.or_else(|| plain("x-api-key")).or_else(|| plain("api-key")).filter(|secret| !secret.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_found_in_every_header_that_sdks_use() {
        for (name, value) in [
            ("authorization", "Bearer sk-1"),
            ("authorization", "bearer  sk-1"),
            ("x-api-key", "sk-1"),
            ("api-key", "sk-1"),
        ] {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);

            assert_eq!(shown(&headers), Some(b"sk-1".as_slice()), "{name}: {value}");
        }
    }

    #[test]
    fn an_empty_key_or_another_scheme_is_no_key() {
        for (name, value) in [("authorization", "Bearer "), ("authorization", "Basic eDp5"), ("x-api-key", "")] {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);

            assert_eq!(shown(&headers), None, "{name}: {value}");
        }
    }
}
