//! What the nodes agree on, and how a command changes it: pure, deterministic, one file per noun.
//!
//! | invariant | says |
//! |---|---|
//! | STATE-1 | each provider a model names exists |
//! | STATE-2 | each name a model falls back to is served by some model, be it by wildcard |
//! | STATE-3 | the key index holds each key's hash once, and nothing else |
//!
//! A command is applied as a whole: what counts is that the outcome is sound, not each step on the way. So two models
//! may swap providers in one command, and keys may swap secrets.

mod defaults;
mod key;
mod model;
mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_proto::command::{Change, Command, Refusal, Reply};
use troupe_proto::id::{KeyId, ModelId, Revision};
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{Key, Model, Spec};

pub use model::resolve_model;

/// Everything agreed. A clone shares what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    revision: Revision,
    spec: Arc<Spec>,
    keys_by_hash: Arc<BTreeMap<KeyHash, KeyId>>,
}

impl State {
    /// The state of this revision with this spec, as [`Self::spec`] gave it.
    pub fn restored(revision: Revision, spec: Spec) -> Self {
        let keys_by_hash = spec.keys.iter().map(|(id, key)| (key.hash, id.clone())).collect();
        Self { revision, spec: Arc::new(spec), keys_by_hash: Arc::new(keys_by_hash) }
    }

    /// How many commands made it what it is.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What operators declared.
    pub const fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// The virtual key known by this hash.
    pub fn key_by_hash(&self, hash: &KeyHash) -> Option<(&KeyId, &Key)> {
        self.spec.keys.get_key_value(self.keys_by_hash.get(hash)?)
    }

    /// The model that serves a name clients ask for: the one of that name, else the wildcard with the longest beginning.
    pub fn model_for(&self, name: &str) -> Option<(&ModelId, &Model)> {
        resolve_model(&self.spec.models, name)
    }

    /// Applies a command, all of it or nothing, and says which. It never panics.
    pub fn apply(&mut self, command: &Command) -> Reply {
        match command {
            Command::Change { base, changes } => match self.change(*base, changes) {
                Ok(next) => {
                    *self = next;
                    debug_assert_eq!(self.check_invariants(), Ok(()));
                    Reply::Applied(self.revision)
                }
                Err(refusal) => Reply::Refused(refusal),
            },
        }
    }

    fn change(&self, base: Revision, changes: &[Change]) -> Result<Self, Refusal> {
        if base != self.revision {
            return Err(Refusal::Conflict { base, current: self.revision });
        }
        let mut next = self.clone();
        let spec = Arc::make_mut(&mut next.spec);
        let mut keys = key::Changes::default();
        for change in changes {
            match change {
                Change::PutProvider(id, provider) => provider::put(spec, id, provider),
                Change::RemoveProvider(id) => provider::remove(spec, id),
                Change::PutModel(id, model) => model::put(spec, id, model),
                Change::RemoveModel(id) => model::remove(spec, id),
                Change::PutKey(id, key) => keys.put(spec, id, key),
                Change::RemoveKey(id) => keys.remove(spec, id),
                Change::PutDefaults(rules) => defaults::put(spec, *rules),
            }
        }
        model::check(spec)?;
        keys.reindex(spec, &mut next.keys_by_hash)?;
        // 2^64 commands are out of reach of any log.
        next.revision = Revision(self.revision.0.saturating_add(1));
        Ok(next)
    }

    /// Checks the invariants named at the head of this module.
    ///
    /// # Errors
    /// What is broken.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        model::check(&self.spec).map_err(Broken::Model)?;
        if key::index(&self.spec)? != *self.keys_by_hash {
            return Err(Broken::Index);
        }
        Ok(())
    }
}

/// Which invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// STATE-1 or STATE-2.
    #[error("a model names what does not exist: {0}")]
    Model(Refusal),
    /// STATE-3: two keys have one hash.
    #[error("two keys have one hash: {0}")]
    Hash(Refusal),
    /// STATE-3: the index is not that of the keys.
    #[error("the key index does not fit the keys")]
    Index,
}

#[cfg(test)]
mod tests;
