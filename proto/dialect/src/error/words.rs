//! The words each dialect has for an error.

use troupe_proto::failure::ErrorCode;

/// OpenAI's `type`.
pub(super) const fn openai_type(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::ModelForbidden | ErrorCode::PinForbidden => "permission_error",
        ErrorCode::ProviderRateLimited => "rate_limit_error",
        ErrorCode::ProviderRejected => match status {
            403 => "permission_error",
            409 => "conflict_error",
            _ => "invalid_request_error",
        },
        ErrorCode::InvalidJson
        | ErrorCode::DuplicateKey
        | ErrorCode::InvalidField
        | ErrorCode::UnsupportedParameter
        | ErrorCode::UnsupportedOperation
        | ErrorCode::KeyMissing
        | ErrorCode::KeyUnknown
        | ErrorCode::KeyExpired
        | ErrorCode::ModelNotFound
        | ErrorCode::RouteNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::RequestTimeout
        | ErrorCode::BodyTooLarge
        | ErrorCode::HeadersTooLarge
        | ErrorCode::ClientClosed
        | ErrorCode::ContextLengthExceeded => "invalid_request_error",
        ErrorCode::Overloaded
        | ErrorCode::NoTarget
        | ErrorCode::Stale
        | ErrorCode::ProviderQuota
        | ErrorCode::ProviderOverloaded => "service_unavailable_error",
        ErrorCode::Internal
        | ErrorCode::ProviderUnreachable
        | ErrorCode::ProviderInvalidReply
        | ErrorCode::ProviderCredential
        | ErrorCode::ProviderTimeout
        | ErrorCode::ProviderError
        | ErrorCode::StreamInterrupted => "server_error",
    }
}

/// OpenAI's `code`: its own word where it has one, ours elsewhere.
pub(super) const fn openai_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::KeyMissing | ErrorCode::KeyUnknown | ErrorCode::KeyExpired => "invalid_api_key",
        ErrorCode::ProviderRateLimited => "rate_limit_exceeded",
        // `model_not_found` and `context_length_exceeded` are OpenAI's words already.
        ErrorCode::InvalidJson
        | ErrorCode::DuplicateKey
        | ErrorCode::InvalidField
        | ErrorCode::UnsupportedParameter
        | ErrorCode::UnsupportedOperation
        | ErrorCode::ModelForbidden
        | ErrorCode::PinForbidden
        | ErrorCode::ModelNotFound
        | ErrorCode::RouteNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::RequestTimeout
        | ErrorCode::BodyTooLarge
        | ErrorCode::HeadersTooLarge
        | ErrorCode::ClientClosed
        | ErrorCode::Internal
        | ErrorCode::Overloaded
        | ErrorCode::NoTarget
        | ErrorCode::Stale
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::ProviderRejected
        | ErrorCode::ProviderUnreachable
        | ErrorCode::ProviderInvalidReply
        | ErrorCode::ProviderCredential
        | ErrorCode::ProviderQuota
        | ErrorCode::ProviderOverloaded
        | ErrorCode::ProviderTimeout
        | ErrorCode::ProviderError
        | ErrorCode::StreamInterrupted => code.as_str(),
    }
}

/// Anthropic's `error.type`.
pub(super) const fn anthropic_type(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::KeyMissing | ErrorCode::KeyUnknown | ErrorCode::KeyExpired => "authentication_error",
        ErrorCode::ModelForbidden | ErrorCode::PinForbidden => "permission_error",
        ErrorCode::ModelNotFound | ErrorCode::RouteNotFound => "not_found_error",
        ErrorCode::BodyTooLarge => "request_too_large",
        ErrorCode::RequestTimeout | ErrorCode::ProviderTimeout => "timeout_error",
        ErrorCode::ProviderRateLimited => "rate_limit_error",
        ErrorCode::Overloaded
        | ErrorCode::NoTarget
        | ErrorCode::Stale
        | ErrorCode::ProviderQuota
        | ErrorCode::ProviderOverloaded => "overloaded_error",
        ErrorCode::ProviderRejected => match status {
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            _ => "invalid_request_error",
        },
        ErrorCode::InvalidJson
        | ErrorCode::DuplicateKey
        | ErrorCode::InvalidField
        | ErrorCode::UnsupportedParameter
        | ErrorCode::UnsupportedOperation
        | ErrorCode::MethodNotAllowed
        | ErrorCode::HeadersTooLarge
        | ErrorCode::ClientClosed
        | ErrorCode::ContextLengthExceeded => "invalid_request_error",
        ErrorCode::Internal
        | ErrorCode::ProviderUnreachable
        | ErrorCode::ProviderInvalidReply
        | ErrorCode::ProviderCredential
        | ErrorCode::ProviderError
        | ErrorCode::StreamInterrupted => "api_error",
    }
}
