//! What operators declare, after it was checked: code never sees an unchecked value.
//!
//! The forms that a person writes (with `env:` secrets, defaults and shorthands) live in `node::config`; these are what
//! the cluster agrees on.

mod key;
mod model;
mod policies;
mod provider;
mod rules;
mod table;

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

pub use key::Key;
pub use model::{Affinity, Hedge, Model, OnBreak, Pattern, Target};
pub use policies::{Freshness, Policies};
pub use provider::{Auth, BaseUrl, Credential, Provider, Scheme, Switch, Wire};
pub use rules::{Breaker, Concurrency, Retries, Rules, Timeouts};
pub use table::{Table, decode_table, encode_table};

use crate::id::{KeyId, ModelId, ProviderId};

/// Everything the cluster agrees on. A clone shares what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Who can be called.
    pub providers: Table<ProviderId, Provider>,
    /// What clients can ask for.
    pub models: Table<ModelId, Model>,
    /// Who may enter.
    pub keys: Table<KeyId, Key>,
    /// Rules for whatever says nothing nearer.
    pub defaults: Rules,
    /// Rules of the cluster as a whole.
    pub policies: Policies,
    /// Providers that are switched off. Each of them exists.
    pub off: Table<ProviderId, ()>,
}

impl Spec {
    /// Whether a provider is called.
    pub fn switch(&self, provider: &ProviderId) -> Switch {
        if self.off.contains_key(provider) { Switch::Off } else { Switch::On }
    }
}

/// As it was before there were switches: who writes a spec writes these behind it where its reader knows them.
impl Encode for Spec {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { providers, models, keys, defaults, policies, off: _ } = self;
        encode_table(providers, encoder)?;
        encode_table(models, encoder)?;
        encode_table(keys, encoder)?;
        defaults.encode(encoder)?;
        policies.encode(encoder)
    }
}

impl<C> Decode<C> for Spec {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            providers: decode_table(decoder)?,
            models: decode_table(decoder)?,
            keys: decode_table(decoder)?,
            defaults: Rules::decode(decoder)?,
            policies: Policies::decode(decoder)?,
            off: Table::new(),
        })
    }
}
