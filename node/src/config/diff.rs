//! What has to change to get from one spec to another.

use std::collections::BTreeMap;

use troupe_proto::command::Change;
use troupe_proto::spec::Spec;

/// The changes that make `after` of `before`; none when they are equal.
///
/// What others point to is put before them and removed after them, so that each step, too, is sound.
pub fn diff(before: &Spec, after: &Spec) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.defaults != after.defaults {
        changes.push(Change::PutDefaults(after.defaults));
    }
    changes.extend(put(&before.providers, &after.providers, Change::PutProvider));
    changes.extend(put(&before.models, &after.models, Change::PutModel));
    changes.extend(removed(&before.models, &after.models, Change::RemoveModel));
    changes.extend(removed(&before.providers, &after.providers, Change::RemoveProvider));
    changes.extend(removed(&before.keys, &after.keys, Change::RemoveKey));
    changes.extend(put(&before.keys, &after.keys, Change::PutKey));
    changes
}

fn put<I: Ord + Clone, T: Eq + Clone>(
    before: &BTreeMap<I, T>,
    after: &BTreeMap<I, T>,
    change: fn(I, T) -> Change,
) -> impl Iterator<Item = Change> {
    let differs = after.iter().filter(|(id, value)| before.get(*id) != Some(*value));
    differs.map(move |(id, value)| change(id.clone(), value.clone()))
}

fn removed<I: Ord + Clone, T>(
    before: &BTreeMap<I, T>,
    after: &BTreeMap<I, T>,
    change: fn(I) -> Change,
) -> impl Iterator<Item = Change> {
    before.keys().filter(|id| !after.contains_key(*id)).map(move |id| change(id.clone()))
}
