//! Why a translation is not possible.

use troupe_proto::failure::ErrorCode;

use crate::delta::UpstreamError;
use crate::fields::FieldError;
use crate::{Dialect, Operation};

/// Why a request or a reply cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// The body is not JSON.
    #[error("the body is not JSON: {problem}")]
    InvalidJson {
        /// What the reader met, with line and column.
        problem: String,
    },
    /// A member is missing, has the wrong type or a value that cannot be.
    #[error("{param}: {problem}")]
    InvalidField {
        /// The member.
        param: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The request asks for something the target's wire cannot express.
    #[error("{param} cannot be translated for the model's provider")]
    UnsupportedParameter {
        /// The member.
        param: String,
    },
    /// The target's wire has no such operation.
    #[error("{} is not available from a provider that speaks {}", .operation.as_str(), .target.as_str())]
    UnsupportedOperation {
        /// What the client called.
        operation: Operation,
        /// The target's wire.
        target: Dialect,
    },
    /// The provider's reply is no answer of its wire.
    #[error("the provider's reply is no answer: {problem}")]
    InvalidReply {
        /// What is wrong with it.
        problem: String,
    },
    /// The provider's reply is an error although its status said otherwise.
    #[error("the provider answered with an error: {}", .0.message)]
    Upstream(UpstreamError),
}

impl TranslateError {
    pub(super) fn invalid_json(error: &serde_json::Error) -> Self {
        Self::InvalidJson { problem: error.to_string() }
    }

    pub(super) fn unsupported(param: impl Into<String>) -> Self {
        Self::UnsupportedParameter { param: param.into() }
    }

    pub(super) fn invalid_field(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { param: param.into(), problem: problem.into() }
    }

    /// The code it is reported under.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidJson { .. } => ErrorCode::InvalidJson,
            Self::InvalidField { .. } => ErrorCode::InvalidField,
            Self::UnsupportedParameter { .. } => ErrorCode::UnsupportedParameter,
            Self::UnsupportedOperation { .. } => ErrorCode::UnsupportedOperation,
            Self::InvalidReply { .. } => ErrorCode::ProviderInvalidReply,
            Self::Upstream(_) => ErrorCode::ProviderError,
        }
    }

    /// The member at fault, where there is one.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::InvalidField { param, .. } | Self::UnsupportedParameter { param } => Some(param),
            Self::InvalidJson { .. }
            | Self::UnsupportedOperation { .. }
            | Self::InvalidReply { .. }
            | Self::Upstream(_) => None,
        }
    }
}

impl From<FieldError> for TranslateError {
    fn from(error: FieldError) -> Self {
        Self::InvalidField { param: error.param, problem: error.problem }
    }
}
