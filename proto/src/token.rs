//! Tokens of operators and of nodes that want to join. Only their hashes are agreed on.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::id::NodeId;
use crate::secret::KeyHash;

/// What an operator enters with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AdminToken {
    /// The hash its secret is known by.
    pub hash: KeyHash,
    /// What it allows.
    pub role: Role,
    /// When it stops working, in seconds since 1970 (UTC).
    pub expires: Option<i64>,
}

impl AdminToken {
    /// Whether its time has run out at `now` (seconds since 1970).
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What an operator may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// Look at everything but secrets.
    Viewer,
    /// Change what the gateway serves.
    Operator,
    /// Decide who may do what, and which nodes belong to the cluster.
    Admin,
}

impl Role {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says that a text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: it is viewer, operator or admin")]
pub struct NoRole(pub String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NoRole(text.to_owned()))
    }
}

/// What one node may join with, once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JoinToken {
    /// The hash its secret is known by.
    pub hash: KeyHash,
    /// When it stops working, in seconds since 1970 (UTC).
    pub expires: i64,
    /// Who used it; nobody else can.
    pub used: Option<NodeId>,
}

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn a_role_reads_what_it_prints_and_holds_what_is_below_it() {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }

        assert!("root".parse::<Role>().is_err());
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Viewer);
    }
}
