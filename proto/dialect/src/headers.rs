//! Which headers pass a gateway that speaks the same dialect on both sides: what is not listed stays behind.
//!
//! Names are lower case and sorted. Credentials, cookies, hop-by-hop headers, lengths and encodings are never among
//! them; the gateway sets its own.

use crate::Dialect;

/// Request headers that go to a provider of any dialect. `accept-encoding` is set to `identity` by the gateway.
const REQUEST_COMMON: &[&str] =
    &["accept", "baggage", "content-type", "idempotency-key", "traceparent", "tracestate", "user-agent"];

/// Request headers that only OpenAI's wire has. The client's own organisation and project stay behind: they would
/// be looked up in an account that is ours.
const REQUEST_OPENAI: &[&str] = &["openai-beta"];

/// Request headers that only Anthropic's wire has. The version is forwarded unchanged.
const REQUEST_ANTHROPIC: &[&str] = &["anthropic-beta", "anthropic-version"];

/// Response headers that go back to a client. A provider's cookies, quota readings, organisation and request id stay
/// behind; see [`REQUEST_ID`].
const RESPONSE_COMMON: &[&str] = &["content-type", "retry-after", "retry-after-ms", "x-should-retry"];

/// Response headers that only OpenAI's wire has.
const RESPONSE_OPENAI: &[&str] = &["openai-processing-ms", "openai-version"];

/// The headers a provider of each dialect names its request id in, the first that is there wins. The value is given to
/// clients as [`UPSTREAM_REQUEST_ID`], because `x-request-id` and `request-id` carry ours.
pub const REQUEST_ID: &[&str] = &["x-request-id", "request-id", "apim-request-id"];

/// What a provider's request id is called on its way back.
pub const UPSTREAM_REQUEST_ID: &str = "x-upstream-request-id";

/// Whether a request header goes on to a provider of `dialect`. `name` is in lower case.
pub fn forwards_request(dialect: Dialect, name: &str) -> bool {
    let own = match dialect {
        Dialect::OpenAi => REQUEST_OPENAI,
        Dialect::Anthropic => REQUEST_ANTHROPIC,
    };
    REQUEST_COMMON.contains(&name) || own.contains(&name)
}

/// Whether a response header of a provider of `dialect` goes back to the client. `name` is in lower case.
pub fn returns_response(dialect: Dialect, name: &str) -> bool {
    let own: &[&str] = match dialect {
        Dialect::OpenAi => RESPONSE_OPENAI,
        Dialect::Anthropic => &[],
    };
    RESPONSE_COMMON.contains(&name) || own.contains(&name)
}

/// The request headers that go on to a provider of `dialect`, for walking the short list and not the long request.
pub fn request(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    let own = match dialect {
        Dialect::OpenAi => REQUEST_OPENAI,
        Dialect::Anthropic => REQUEST_ANTHROPIC,
    };
    REQUEST_COMMON.iter().chain(own).copied()
}

/// The response headers that go back from a provider of `dialect`.
pub fn response(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match dialect {
        Dialect::OpenAi => RESPONSE_OPENAI,
        Dialect::Anthropic => &[],
    };
    RESPONSE_COMMON.iter().chain(own).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_cookie_quota_or_organisation_passes() {
        let secret = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "openai-organization"];
        let private = ["set-cookie", "x-ratelimit-limit-requests", "openai-organization", "anthropic-organization-id"];

        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            assert!(secret.iter().all(|name| !forwards_request(dialect, name)));
            assert!(private.iter().all(|name| !returns_response(dialect, name)));
        }
    }

    #[test]
    fn each_listed_name_passes_and_is_lower_case() {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            for name in request(dialect) {
                assert!(forwards_request(dialect, name) && name == name.to_ascii_lowercase());
            }
            for name in response(dialect) {
                assert!(returns_response(dialect, name) && name == name.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn a_version_passes_only_to_its_own_wire() {
        assert!(forwards_request(Dialect::Anthropic, "anthropic-version"));
        assert!(!forwards_request(Dialect::OpenAi, "anthropic-version"));
    }
}
