//! The catalogue of errors a client or a retry loop can meet.
//!
//! Every code has a page in `docs/errors/`, an origin, and a word on whether trying again can help.

/// Who has to act for the error to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The request itself.
    Client,
    /// This node.
    Gateway,
    /// The model provider.
    Provider,
}

/// Whether and where a further try can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// At once, at the same target.
    SameTarget,
    /// At another target.
    OtherTarget,
    /// After a delay.
    AfterDelay,
}

/// What kind of trouble an upstream call met; decides retries, breakers and what a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The request is at fault: any target of this wire would refuse it.
    Client,
    /// The provider refused our credential.
    Credential,
    /// The provider account behind our credential is out of money or quota.
    Quota,
    /// The provider is healthy and asks us to slow down.
    Capacity,
    /// The prompt does not fit this model; a larger one may take it.
    ContextLength,
    /// The provider failed.
    Provider,
    /// The fault lies with this gateway.
    Ours,
}

impl Fault {
    /// Every class, for metrics that list them all.
    pub const ALL: [Self; 7] =
        [Self::Client, Self::Credential, Self::Quota, Self::Capacity, Self::ContextLength, Self::Provider, Self::Ours];

    /// The word used for it in metrics, logs and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Credential => "credential",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::ContextLength => "context_length",
            Self::Provider => "provider",
            Self::Ours => "ours",
        }
    }

    /// Whether a further try can succeed.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Client => Retry::Never,
            Self::Credential | Self::Quota | Self::ContextLength | Self::Provider => Retry::OtherTarget,
            Self::Capacity => Retry::AfterDelay,
            Self::Ours => Retry::SameTarget,
        }
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $origin:ident, $retry:ident;)*) => {
        /// A stable error code. Append only: codes are a contract with clients and dashboards.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status it is answered with unless a provider's own status is relayed.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Who has to act.
            pub const fn origin(self) -> Origin {
                match self { $(Self::$variant => Origin::$origin,)* }
            }

            /// Whether trying again can help.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }
        }
    };
}

catalogue! {
    /// The body is not JSON, is nested too deeply or is not UTF-8.
    InvalidJson = "invalid_json", 400, Client, Never;
    /// An object in the body names a member twice.
    DuplicateKey = "duplicate_key", 400, Client, Never;
    /// A field is missing, has the wrong type or a value out of range.
    InvalidField = "invalid_field", 400, Client, Never;
    /// The request asks for something the chosen target's wire cannot express.
    UnsupportedParameter = "unsupported_parameter", 400, Client, Never;
    /// The model's provider has no such endpoint.
    UnsupportedOperation = "unsupported_operation", 400, Client, Never;
    /// No key came with the request.
    KeyMissing = "key_missing", 401, Client, Never;
    /// The key is not known.
    KeyUnknown = "key_unknown", 401, Client, Never;
    /// The key's time has run out.
    KeyExpired = "key_expired", 401, Client, Never;
    /// The key may not use this model.
    ModelForbidden = "model_forbidden", 403, Client, Never;
    /// The key may not choose its target.
    PinForbidden = "pin_forbidden", 403, Client, Never;
    /// No such model is configured.
    ModelNotFound = "model_not_found", 404, Client, Never;
    /// No such path.
    RouteNotFound = "route_not_found", 404, Client, Never;
    /// The path exists and takes another method.
    MethodNotAllowed = "method_not_allowed", 405, Client, Never;
    /// The client took too long to send its request.
    RequestTimeout = "request_timeout", 408, Client, SameTarget;
    /// The body is larger than the node accepts.
    BodyTooLarge = "body_too_large", 413, Client, Never;
    /// The headers are larger than the node accepts.
    HeadersTooLarge = "headers_too_large", 431, Client, Never;
    /// The client went away before the reply was complete; seen in logs only.
    ClientClosed = "client_closed", 499, Client, Never;
    /// A fault of this gateway.
    Internal = "internal", 500, Gateway, SameTarget;
    /// The node has as many requests in flight as it may.
    Overloaded = "overloaded", 503, Gateway, AfterDelay;
    /// No target of the model can be tried.
    NoTarget = "no_target", 503, Gateway, AfterDelay;
    /// The prompt is longer than the model's context.
    ContextLengthExceeded = "context_length_exceeded", 400, Client, Never;
    /// The provider refused the request as the client made it.
    ProviderRejected = "provider_rejected", 400, Client, Never;
    /// No connection to the provider could be made, or it broke before an answer.
    ProviderUnreachable = "provider_unreachable", 502, Provider, OtherTarget;
    /// The provider answered with something that is no answer.
    ProviderInvalidReply = "provider_invalid_reply", 502, Provider, OtherTarget;
    /// The provider refused the gateway's credential.
    ProviderCredential = "provider_credential", 502, Provider, OtherTarget;
    /// The gateway's account at the provider is out of quota.
    ProviderQuota = "provider_quota", 503, Provider, AfterDelay;
    /// The provider did not answer in time.
    ProviderTimeout = "provider_timeout", 504, Provider, OtherTarget;
    /// The provider asks to slow down.
    ProviderRateLimited = "provider_rate_limited", 429, Provider, AfterDelay;
    /// The provider failed with a 5xx.
    ProviderError = "provider_error", 502, Provider, OtherTarget;
    /// The provider broke off in mid-stream.
    StreamInterrupted = "stream_interrupted", 502, Provider, SameTarget;
    /// The provider has more to do than it can, for everybody.
    ProviderOverloaded = "provider_overloaded", 503, Provider, AfterDelay;
    /// The node cannot tell what the others agreed on meanwhile.
    Stale = "stale", 503, Gateway, AfterDelay;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_snake_case() {
        let mut codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();

        assert_eq!(codes.len(), ErrorCode::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn a_valid_key_never_reads_401_for_trouble_of_ours_or_the_providers() {
        for code in ErrorCode::ALL {
            if matches!(code.origin(), Origin::Gateway | Origin::Provider) {
                assert!(!matches!(code.status(), 401 | 403), "{code:?} breaks KEY-2");
            }
        }
    }
}
