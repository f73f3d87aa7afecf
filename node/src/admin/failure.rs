//! Why the admin API did not do what it was asked.

use troupe_proto::failure::ErrorCode;

use crate::config::{ConfigError, Problem};

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $text:literal;)*) => {
        /// A stable code of this API. Codes that clients of models can meet too are in [`ErrorCode`]. Append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            /// One of the catalogue that all listeners share.
            Shared(ErrorCode),
            $(#[doc = $text] $variant,)*
        }

        impl Code {
            /// The codes that only this API has: code, status and what they mean.
            pub const OWN: &'static [(&'static str, u16, &'static str)] = &[$(($code, $status, $text)),*];

            /// The code as callers read it.
            pub const fn as_str(self) -> &'static str {
                match self { Self::Shared(code) => code.as_str(), $(Self::$variant => $code,)* }
            }

            /// The status it is answered with.
            pub const fn status(self) -> u16 {
                match self { Self::Shared(code) => code.status(), $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    RoleForbidden = "role_forbidden", 403, "The token's role may not do this.";
    NotFound = "not_found", 404, "There is nothing of this name.";
    ReadOnly = "read_only", 409, "This node follows a spec file: change that.";
    Conflict = "conflict", 409, "What is in force does not allow it: it exists already, others point to it, or it points to what is not there.";
    RevisionChanged = "revision_changed", 412, "The state is at another revision than `If-Match` names.";
    NoLeader = "no_leader", 503, "The cluster has no leader that can be reached from here. Nothing changed, nothing will; try again.";
    OutcomeUnknown = "outcome_unknown", 504, "No answer in time: the change may have been made, or may yet be. Ask again with the same `Idempotency-Key`, or look.";
    Unsealed = "unsealed", 503, "This node lacks the key that the cluster's secrets are sealed with.";
    ConditionFailed = "condition_failed", 412, "`If-Match: *`, and there is nothing of this name; or `If-None-Match: *`, and there is something.";
    ConsensusStopped = "consensus_stopped", 503, "Consensus stopped at this node, because its disk failed or an entry cannot be read: nothing changed. Ask another node.";
    WouldEmpty = "would_empty", 409, "A spec without providers, models and keys would take all of them away; `allow_empty` does it on purpose.";
    AuditTooShort = "audit_too_short", 404, "The audit of this node does not tell what was in force at that entry: it does not reach back so far, or there is no such entry yet.";
    SecretGone = "secret_gone", 409, "The way back needs secrets that are nowhere any more; `problems` names each. Put them in force again first, or leave what they belong to as it is (`leave_gone`).";
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        Self::Shared(code)
    }
}

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of no.
    pub code: Code,
    /// Why, in one sentence. Never a secret.
    pub detail: String,
    /// What is wrong with the body, field by field.
    pub problems: Vec<(String, String)>,
}

impl Failure {
    /// A failure that one sentence tells.
    pub fn new(code: impl Into<Code>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), problems: Vec::new() }
    }

    /// There is no such thing.
    pub fn not_found(noun: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {noun} {name:?}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let told = |problem: &Problem| match problem.field.as_str() {
            "" => problem.message.clone(),
            field => format!("{field}: {}", problem.message),
        };
        let detail = match error.problems.as_slice() {
            [] => String::new(),
            [only] => told(only),
            [first, rest @ ..] => format!("{} (and {} more problems)", told(first), rest.len()),
        };
        let problems = error.problems.into_iter().map(|problem| (problem.field, problem.message)).collect();
        Self { code: ErrorCode::InvalidField.into(), detail, problems }
    }
}
