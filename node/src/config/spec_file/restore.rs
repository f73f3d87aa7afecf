//! A spec as it was, made of what the audit tells of it and of what is in force.
//!
//! The audit keeps no secret. One that is in force under the same name, and was the same then, is restored; one that was
//! replaced is not to be had any more, and the one in force stays; one that is nowhere any more is gone, and what it
//! belonged to is named.

use serde_json::{Map, Value};
use troupe_cluster::state::past::{Noun, Past, Thing};
use troupe_cluster::state::shape::Shape;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::Spec;

use super::parts::read_parts_beside;
use super::time_text;
use crate::config::secrets::SET;
use crate::config::source::{ConfigError, parse_json};

/// What stands in the place of a secret that is not to be had any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A word that differs where the secrets did: the spec is for reading only.
    MarkIsPut,
    /// What is in force stays as it is: the spec can be put in force.
    PresentStays,
}

/// A spec as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The spec.
    pub spec: Spec,
    /// What it lacks because its secret is gone: it stays as it is now, be that absent.
    pub gone: Vec<String>,
    /// What is right, but worth knowing.
    pub notes: Vec<String>,
}

/// Makes the spec that was in force, by what changed since. `in_force` has its secrets open.
///
/// # Errors
/// What was in force then is nothing that this program reads.
pub fn restore(in_force: &Spec, past: &Past, lost: Lost) -> Result<Restored, ConfigError> {
    let mut work = Work { in_force, lost, restored: Restored::default() };
    let mut beside = in_force.clone();
    let mut root = Map::new();
    for ((noun, name), thing) in past {
        let section = match noun {
            Noun::Defaults | Noun::Policies => {
                root.insert(noun.as_str().to_owned(), Value::Object(thing.then.clone().unwrap_or_default()));
                continue;
            }
            Noun::Provider => "providers",
            Noun::Model => "models",
            Noun::Key => "keys",
        };
        let then = match (noun, &thing.then) {
            (_, None) => Then::Absent,
            (Noun::Provider, Some(then)) => work.provider(name, then, thing),
            (Noun::Key, Some(then)) => work.key(name, then, thing),
            (Noun::Model | Noun::Defaults | Noun::Policies, Some(then)) => Then::Was(then.clone()),
        };
        let then = match then {
            Then::Stays => continue,
            Then::Absent => None,
            Then::Was(shape) => Some(shape),
        };
        match noun {
            Noun::Provider => drop(beside.providers.remove(name.as_str())),
            Noun::Model => drop(beside.models.remove(name.as_str())),
            Noun::Key => drop(beside.keys.remove(name.as_str())),
            Noun::Defaults | Noun::Policies => {}
        }
        let table = root.entry(section).or_insert_with(|| Value::Object(Map::new()));
        if let (Value::Object(table), Some(shape)) = (table, then) {
            table.insert(name.clone(), Value::Object(shape));
        }
    }
    let Restored { gone, notes, .. } = work.restored;
    let root = parse_json("audit", Value::Object(root).to_string().as_bytes())?;
    let parts = read_parts_beside("audit", &root, in_force, &beside)?;
    let mut spec = beside;
    spec.providers.extend(parts.providers);
    spec.models.extend(parts.models);
    spec.keys.extend(parts.keys);
    spec.defaults = parts.defaults.unwrap_or(spec.defaults);
    spec.policies = parts.policies.unwrap_or(spec.policies);
    Ok(Restored { spec, gone, notes })
}

/// What becomes of one thing.
enum Then {
    /// It was not there.
    Absent,
    /// It was this, and can be read.
    Was(Shape),
    /// It cannot be had again: it stays as it is now.
    Stays,
}

struct Work<'s> {
    in_force: &'s Spec,
    lost: Lost,
    restored: Restored,
}

impl Work<'_> {
    fn key(&mut self, name: &str, then: &Shape, thing: &Thing) -> Then {
        let mut shape = then.clone();
        let prefix = |shape: &Shape| shape.get("hash").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (was, is) = (prefix(then), thing.now.as_ref().map(prefix));
        let present = self.in_force.keys.get(name);
        if let Some(key) = present {
            let was_revoked = shape.get("expires").and_then(Value::as_str) == Some(time_text(0).as_str());
            if key.expires == Some(0) && !was_revoked {
                self.note(format!("key {name}: it was revoked since, and works again then"));
            }
        }
        let hash = match (present, self.lost) {
            (Some(key), _) if is.as_ref() == Some(&was) => key.hash,
            (_, Lost::MarkIsPut) => {
                let problem = if present.is_some() { "another one is in force" } else { "it is gone" };
                self.note(format!("key {name}: its secret of that time cannot be told: {problem}"));
                KeyHash::of(was.as_bytes())
            }
            (Some(key), Lost::PresentStays) => {
                self.note(format!("key {name}: its secret was replaced since: the present one stays"));
                key.hash
            }
            (None, Lost::PresentStays) => {
                self.gone(format!("key {name}"));
                return Then::Stays;
            }
        };
        shape.insert("hash".to_owned(), hash.to_string().into());
        Then::Was(shape)
    }

    fn provider(&mut self, name: &str, then: &Shape, thing: &Thing) -> Then {
        let mut shape = then.clone();
        let now = thing.now.as_ref();
        let mut are_gone = false;
        for credential in list(&mut shape, "keys") {
            let Some(id) = credential.get("name").and_then(Value::as_str).map(str::to_owned) else { continue };
            let was = credential.get("secret").cloned();
            let is = now.and_then(|now| secret_of(now, &id));
            let what = format!("provider {name}, key {id}");
            let secret = match (is, self.lost) {
                (Some(is), _) if Some(&is) == was.as_ref() => SET.to_owned(),
                (is, Lost::MarkIsPut) => {
                    let problem = if is.is_some() { "another one is in force" } else { "it is gone" };
                    self.note(format!("{what}: its secret of that time cannot be told: {problem}"));
                    placeholder(was.as_ref())
                }
                (Some(_), Lost::PresentStays) => {
                    self.note(format!("{what}: its secret was replaced since: the present one stays"));
                    SET.to_owned()
                }
                (None, Lost::PresentStays) => {
                    self.gone(what);
                    are_gone = true;
                    SET.to_owned()
                }
            };
            credential["secret"] = secret.into();
        }
        let has_certificates = self.certificates(name, &mut shape, now);
        match (are_gone, now) {
            (false, None) if has_certificates => Then::Was(shape),
            (_, None) => Then::Stays,
            (false, Some(_)) => Then::Was(shape),
            // Half of its keys would be worse than the ones it has.
            (true, Some(now)) => {
                take_over(&mut shape, now, "keys");
                list(&mut shape, "keys").iter_mut().for_each(|credential| credential["secret"] = SET.into());
                Then::Was(shape)
            }
        }
    }

    /// Puts the certificates where their mark stands; `false` where they cannot be had.
    fn certificates(&mut self, name: &str, shape: &mut Shape, now: Option<&Shape>) -> bool {
        let Some(was) = shape.shift_remove("ca") else { return true };
        let is = now.and_then(|now| now.get("ca"));
        let pem = self.in_force.providers.get(name).and_then(|provider| provider.ca_pem.as_deref());
        let what = format!("provider {name}, ca");
        match (pem, self.lost) {
            (Some(pem), _) if is == Some(&was) => drop(shape.insert("ca".to_owned(), pem.into())),
            (_, Lost::MarkIsPut) => self.note(format!("{what}: the certificates of that time cannot be told")),
            (Some(pem), Lost::PresentStays) => {
                self.note(format!("{what}: the certificates were replaced since: the present ones stay"));
                shape.insert("ca".to_owned(), pem.into());
            }
            (None, Lost::PresentStays) => {
                self.gone(what);
                return false;
            }
        }
        true
    }

    fn note(&mut self, note: String) {
        self.restored.notes.push(note);
    }

    fn gone(&mut self, what: String) {
        self.restored.gone.push(what);
    }
}

fn list<'s>(shape: &'s mut Shape, field: &str) -> &'s mut [Value] {
    shape.get_mut(field).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// What stands for the secret of a provider's key.
fn secret_of(provider: &Shape, id: &str) -> Option<Value> {
    let credentials = provider.get("keys")?.as_array()?;
    let credential =
        credentials.iter().find(|credential| credential.get("name").and_then(Value::as_str) == Some(id))?;
    credential.get("secret").cloned()
}

/// A word that a secret could be, and that differs where the mark does.
fn placeholder(mark: Option<&Value>) -> String {
    let mark = mark.and_then(Value::as_str).unwrap_or_default();
    let word: String = mark.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("gone-{word}")
}

fn take_over(shape: &mut Shape, from: &Shape, field: &str) {
    shape.shift_remove(field);
    if let Some(value) = from.get(field) {
        shape.insert(field.to_owned(), value.clone());
    }
}
