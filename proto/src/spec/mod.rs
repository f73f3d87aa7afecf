//! What operators declare, after it was checked: code never sees an unchecked value.
//!
//! The forms that a person writes (with `env:` secrets, defaults and shorthands) live in `node::config`; these are what
//! the cluster agrees on.

mod key;
mod model;
mod provider;
mod rules;

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

pub use key::Key;
pub use model::{Affinity, Hedge, Model, OnBreak, Pattern, Target};
pub use provider::{Auth, BaseUrl, Credential, Provider, Scheme, Wire};
pub use rules::{Breaker, Concurrency, Retries, Rules, Timeouts};

use crate::id::{KeyId, ModelId, ProviderId};

/// Everything the cluster agrees on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Spec {
    /// Who can be called.
    pub providers: BTreeMap<ProviderId, Provider>,
    /// What clients can ask for.
    pub models: BTreeMap<ModelId, Model>,
    /// Who may enter.
    pub keys: BTreeMap<KeyId, Key>,
    /// Rules for whatever says nothing nearer.
    pub defaults: Rules,
}
