//! What changes, as a person reads it: thing by thing, field by field, never a secret.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use troupe_proto::command::Change;
use troupe_proto::spec::{Provider, Spec, Switch};

use crate::config::SET;
use crate::config::spec_file::{Hashes, write_key, write_model, write_policies, write_provider, write_rules};

/// What stands for a secret that is another one afterwards.
const CHANGED: &str = "(changed)";

/// What happens to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It was not there.
    Add,
    /// It is there, and other.
    Change,
    /// It goes.
    Remove,
}

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// What happens to it.
    pub op: Op,
    /// `provider`, `model`, `key`, `defaults` or `policies`.
    pub kind: String,
    /// Its name; empty for the one that has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What changes in it; empty for what comes or goes as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDelta>,
}

/// One field that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDelta {
    /// Its path in the thing.
    pub field: String,
    /// What it was; `null` for nothing.
    pub before: Value,
    /// What it is then.
    pub after: Value,
}

/// What a change does to a spec.
pub(super) fn delta(change: &Change, before: &Spec) -> Delta {
    match change {
        Change::PutProvider(id, after) => {
            let old = before.providers.get(id);
            let mut delta = put("provider", id.as_str(), old.map(write_provider), write_provider(after));
            delta.fields.extend(old.into_iter().flat_map(|old| secrets(old, after)));
            delta
        }
        Change::PutModel(id, after) => {
            put("model", id.as_str(), before.models.get(id).map(write_model), write_model(after))
        }
        Change::PutKey(id, after) => {
            let old = before.keys.get(id);
            let text = |key| write_key(key, Hashes::Omitted);
            let mut delta = put("key", id.as_str(), old.map(text), text(after));
            if old.is_some_and(|old| old.hash != after.hash) {
                delta.fields.push(other_secret("secret".to_owned()));
            }
            delta
        }
        Change::PutDefaults(after) => {
            let (old, new) = (write_rules(&before.defaults), write_rules(after));
            put("defaults", "", Some(Value::Object(old)), Value::Object(new))
        }
        Change::PutPolicies(after) => {
            let (old, new) = (write_policies(&before.policies), write_policies(after));
            put("policies", "", Some(Value::Object(old)), Value::Object(new))
        }
        Change::SwitchProvider(id, to) => {
            let state = |switch| json!({ "state": if switch == Switch::Off { "disabled" } else { "enabled" } });
            put("provider", id.as_str(), Some(state(before.switch(id))), state(*to))
        }
        Change::RemoveProvider(id) => gone("provider", id.as_str()),
        Change::RemoveModel(id) => gone("model", id.as_str()),
        Change::RemoveKey(id) => gone("key", id.as_str()),
    }
}

fn gone(kind: &str, name: &str) -> Delta {
    Delta { op: Op::Remove, kind: kind.to_owned(), name: name.to_owned(), fields: Vec::new() }
}

fn put(kind: &str, name: &str, before: Option<Value>, after: Value) -> Delta {
    let mut fields = Vec::new();
    let op = match before {
        None => Op::Add,
        Some(before) => {
            compare(String::new(), &before, &after, &mut fields);
            Op::Change
        }
    };
    Delta { op, kind: kind.to_owned(), name: name.to_owned(), fields }
}

fn other_secret(field: String) -> FieldDelta {
    FieldDelta { field, before: SET.into(), after: CHANGED.into() }
}

/// Which keys of a provider have another secret under the same name.
fn secrets<'p>(before: &'p Provider, after: &'p Provider) -> impl Iterator<Item = FieldDelta> + 'p {
    let same_name = after.credentials.iter().filter_map(|(id, new)| Some((id, new, before.credentials.get(id)?)));
    let other = same_name.filter(|(_, new, old)| new.secret != old.secret);
    other.map(|(id, _, _)| other_secret(format!("keys.{id}.secret")))
}

fn compare(path: String, before: &Value, after: &Value, fields: &mut Vec<FieldDelta>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let nothing = &Value::Null;
                compare(join(name), old.get(name).unwrap_or(nothing), new.get(name).unwrap_or(nothing), fields);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                compare(format!("{path}[{at}]"), old, new, fields);
            }
        }
        (old, new) if old != new => {
            fields.push(FieldDelta { field: path, before: old.clone(), after: new.clone() });
        }
        (_, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_differ_are_told() {
        let before = json!({"targets": [{"provider": "a"}, {"provider": "b", "weight": 2}], "hedge": {"after": "2s"}});
        let after = json!({"targets": [{"provider": "a"}, {"provider": "b", "weight": 3}], "on_break": "continue"});

        let delta = put("model", "m", Some(before), after);

        let told = |field: &str, before: Value, after: Value| FieldDelta { field: field.to_owned(), before, after };
        assert_eq!(
            delta.fields,
            [
                told("targets[1].weight", json!(2), json!(3)),
                told("hedge", json!({"after": "2s"}), Value::Null),
                told("on_break", Value::Null, json!("continue")),
            ]
        );
    }
}
