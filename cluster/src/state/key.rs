use std::collections::BTreeSet;

use troupe_proto::command::Refusal;
use troupe_proto::id::KeyId;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{Key, Spec, Table};

use super::audit::Changes as Told;
use super::{Broken, shape};

pub(super) type Index = Table<KeyHash, KeyId>;

/// The keys that one command touches. The index is brought up to date once, behind its last change, so that keys can
/// swap secrets, and one change among 100,000 keys costs one entry of work.
#[derive(Default)]
pub(super) struct Changes {
    touched: BTreeSet<KeyId>,
    stale: BTreeSet<KeyHash>,
}

impl Changes {
    pub(super) fn put(&mut self, spec: &mut Spec, id: &KeyId, key: &Key, told: &mut Told) {
        let before = spec.keys.insert(id.clone(), key.clone());
        told.tell("key", id.as_str(), || before.as_ref().map(shape::key), || Some(shape::key(key)));
        self.touched.insert(id.clone());
        self.stale.extend(before.map(|key| key.hash));
    }

    /// Taking away what is not there is no error: the key admits nobody either way.
    pub(super) fn remove(&mut self, spec: &mut Spec, id: &KeyId, told: &mut Told) {
        let before = spec.keys.remove(id);
        told.tell("key", id.as_str(), || before.as_ref().map(shape::key), || None);
        self.touched.insert(id.clone());
        self.stale.extend(before.map(|key| key.hash));
    }

    /// Brings the index up to date (STATE-3).
    pub(super) fn reindex(self, spec: &Spec, index: &mut Index) -> Result<(), Refusal> {
        for hash in self.stale {
            // A hash that this very command gave to a key and took again was never in the index, or is another key's.
            if index.get(&hash).is_some_and(|owner| self.touched.contains(owner)) {
                index.remove(&hash);
            }
        }
        for id in self.touched {
            if let Some(key) = spec.keys.get(&id) {
                enter(index, key.hash, &id)?;
            }
        }
        Ok(())
    }
}

fn enter(index: &mut Index, hash: KeyHash, id: &KeyId) -> Result<(), Refusal> {
    match index.insert(hash, id.clone()) {
        Some(first) => Err(Refusal::SharedSecret { first, second: id.clone() }),
        None => Ok(()),
    }
}

/// The index as it must be.
pub(super) fn index(spec: &Spec) -> Result<Index, Broken> {
    let mut index = Index::new();
    for (id, key) in &spec.keys {
        enter(&mut index, key.hash, id).map_err(Broken::Hash)?;
    }
    Ok(index)
}
