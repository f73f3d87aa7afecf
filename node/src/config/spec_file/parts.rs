//! Parts of a spec, as a caller of the admin API sends them: read by the same readers as a spec file.

use std::collections::BTreeMap;

use troupe_proto::command::Change;
use troupe_proto::id::{KeyId, ModelId, ProviderId, Revision};
use troupe_proto::secret::{KeyHash, Secret};
use troupe_proto::spec::{Key, Model, Policies, Provider, Rules, Spec, Table};

use super::{key, model, policies, provider, rules, sections};
use crate::config::file::Files;
use crate::config::made::new_key_secret;
use crate::config::secrets::{Literals, Secrets, Unsaid};
use crate::config::source::{ConfigError, Found, Node, Problems};
use crate::view::{Draft, View};

/// What happens to what is in force and stands in no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It stays.
    Stays,
    /// It goes.
    Goes,
}

/// Parts of a spec that were read and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Providers.
    pub providers: Table<ProviderId, Provider>,
    /// Models.
    pub models: Table<ModelId, Model>,
    /// Virtual keys, each with its hash.
    pub keys: Table<KeyId, Key>,
    /// Defaults, where they were given.
    pub defaults: Option<Rules>,
    /// Policies, where they were given.
    pub policies: Option<Policies>,
    /// Keys that were made just now, to be shown once.
    pub made: Vec<(KeyId, Secret<String>)>,
    /// What an operator should know, one sentence each.
    pub notes: Vec<String>,
}

/// Reads parts of a spec that are to be joined with the one in force. A secret that is not given, or given as `(set)`, is
/// the one in force; a key that has none is given one.
///
/// # Errors
/// Every problem found; and what this node could not serve.
pub fn read_parts(source: &str, root: &Node, in_force: &Spec, rest: Rest) -> Result<Parts, ConfigError> {
    let nothing = Spec::default();
    let beside = match rest {
        Rest::Stays => in_force,
        Rest::Goes => &nothing,
    };
    read_parts_beside(source, root, in_force, beside)
}

/// The same for parts that are to stand beside others than those in force.
///
/// # Errors
/// As [`read_parts`].
pub(super) fn read_parts_beside(
    source: &str,
    root: &Node,
    in_force: &Spec,
    beside: &Spec,
) -> Result<Parts, ConfigError> {
    let problems = Problems::default();
    // Never asked: this reader takes literals only.
    let env = |_: &str| None;
    let secrets = Secrets::new(&env, Literals::Only, Files::default()).unsaid(Unsaid::Kept(in_force));
    let (mut parts, declared) = read(&Found::new(root, String::new(), source, &problems), &secrets, beside);
    problems.into_result()?;
    parts.fill(declared, in_force)?;
    let servable = Spec { providers: parts.providers.clone(), ..Spec::default() };
    if let Err(error) = Draft::of(&servable, Revision::default(), &View::default()) {
        return Err(ConfigError::whole(source, error.to_string()));
    }
    Ok(parts)
}

fn read(root: &Found<'_>, secrets: &Secrets<'_>, beside: &Spec) -> (Parts, BTreeMap<KeyId, key::Declared>) {
    let mut parts = Parts::default();
    let Some(table) = root.table(&sections::ROOT) else { return (parts, BTreeMap::new()) };
    parts.providers = table.get("providers").map(|found| provider::read_all(&found, secrets)).unwrap_or_default();
    if let Some(found) = table.get("models") {
        let mut providers = beside.providers.clone();
        providers.extend(parts.providers.iter().map(|(id, provider)| (id.clone(), provider.clone())));
        parts.models = model::read_all(&found, &providers, &beside.models);
    }
    let declared = table.get("keys").map(|found| key::read_all(&found, secrets)).unwrap_or_default();
    let defaults = table.get("defaults").and_then(|found| found.table(&sections::DEFAULTS));
    parts.defaults = defaults.map(|table| rules::read(&table));
    let policies = table.get("policies").and_then(|found| found.table(&sections::POLICIES));
    parts.policies = policies.map(|table| policies::read(&table));
    if !declared.is_empty() {
        let mut models = beside.models.clone();
        models.extend(parts.models.iter().map(|(id, model)| (id.clone(), model.clone())));
        parts.notes = key::unserved_patterns(&declared, &models);
    }
    (parts, declared)
}

/// The changes that make one spec of another.
pub fn changes_between(before: &Spec, after: &Spec) -> Vec<Change> {
    // Whether a provider is switched off is no part of it: that is said of the present, and stays.
    let Spec { providers, models, keys, defaults, policies, off: _ } = after.clone();
    let (defaults, policies) = (Some(defaults), Some(policies));
    Parts { providers, models, keys, defaults, policies, ..Parts::default() }.changes(before, Rest::Goes)
}

impl Parts {
    /// Gives each key its hash: the one it came with, the one in force, or that of a new secret.
    fn fill(&mut self, declared: BTreeMap<KeyId, key::Declared>, in_force: &Spec) -> Result<(), ConfigError> {
        for (id, key) in declared {
            let known = key.hash.or_else(|| in_force.keys.get(&id).map(|key| key.hash));
            let hash = match known {
                Some(hash) => hash,
                None => {
                    let secret = new_key_secret()
                        .map_err(|error| ConfigError::whole("keys", format!("no key can be made: {error}")))?;
                    let hash = KeyHash::of(secret.expose().as_bytes());
                    self.made.push((id.clone(), secret));
                    hash
                }
            };
            self.keys.insert(id, key.with(hash));
        }
        Ok(())
    }

    /// The changes that join these parts with what is in force; none where it says the same.
    ///
    /// What others point to is put before them and removed after them, so that each step, too, is sound.
    pub fn changes(&self, in_force: &Spec, rest: Rest) -> Vec<Change> {
        let mut changes = Vec::new();
        let is_all = rest == Rest::Goes;
        let defaults = self.defaults.or(is_all.then(Rules::default)).filter(|after| *after != in_force.defaults);
        changes.extend(defaults.map(Change::PutDefaults));
        let policies = self.policies.or(is_all.then(Policies::default)).filter(|after| *after != in_force.policies);
        changes.extend(policies.map(Change::PutPolicies));
        let differs = self.providers.iter().filter(|(id, value)| in_force.providers.get(*id) != Some(*value));
        changes.extend(differs.map(|(id, value)| Change::PutProvider(id.clone(), value.clone())));
        let differs = self.models.iter().filter(|(id, value)| in_force.models.get(*id) != Some(*value));
        changes.extend(differs.map(|(id, value)| Change::PutModel(id.clone(), value.clone())));
        if is_all {
            let gone = in_force.models.keys().filter(|id| !self.models.contains_key(*id));
            changes.extend(gone.map(|id| Change::RemoveModel(id.clone())));
            let gone = in_force.providers.keys().filter(|id| !self.providers.contains_key(*id));
            changes.extend(gone.map(|id| Change::RemoveProvider(id.clone())));
            let gone = in_force.keys.keys().filter(|id| !self.keys.contains_key(*id));
            changes.extend(gone.map(|id| Change::RemoveKey(id.clone())));
        }
        let differs = self.keys.iter().filter(|(id, value)| in_force.keys.get(*id) != Some(*value));
        changes.extend(differs.map(|(id, value)| Change::PutKey(id.clone(), value.clone())));
        changes
    }
}

#[cfg(test)]
mod tests;
