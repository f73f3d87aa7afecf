//! What has to change to get from one spec to another.

use imbl::ordmap::DiffItem;
use troupe_proto::command::Change;
use troupe_proto::spec::{Spec, Table};

/// The changes that make `after` of `before`; none when they are equal. Both have their secrets open, or both have not.
///
/// What others point to is put before them and removed after them, so that each step, too, is sound.
pub fn diff(before: &Spec, after: &Spec) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.defaults != after.defaults {
        changes.push(Change::PutDefaults(after.defaults));
    }
    if before.policies != after.policies {
        changes.push(Change::PutPolicies(after.policies));
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
    before: &Table<I, T>,
    after: &Table<I, T>,
    change: fn(I, T) -> Change,
) -> Vec<Change> {
    let put = |item| match item {
        DiffItem::Add(id, value) | DiffItem::Update { old: _, new: (id, value) } => Some((id, value)),
        DiffItem::Remove(..) => None,
    };
    before.diff(after).filter_map(put).map(|(id, value): (&I, &T)| change(id.clone(), value.clone())).collect()
}

fn removed<I: Ord + Clone, T: Eq>(before: &Table<I, T>, after: &Table<I, T>, change: fn(I) -> Change) -> Vec<Change> {
    let removed = |item| match item {
        DiffItem::Remove(id, _) => Some(id),
        DiffItem::Add(..) | DiffItem::Update { .. } => None,
    };
    before.diff(after).filter_map(removed).map(|id: &I| change(id.clone())).collect()
}
