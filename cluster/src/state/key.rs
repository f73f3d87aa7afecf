use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use troupe_proto::command::Refusal;
use troupe_proto::id::KeyId;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{Key, Spec};

use super::Broken;

type Index = BTreeMap<KeyHash, KeyId>;

/// The keys that one command touches. The index is brought up to date once, behind its last change, so that keys can
/// swap secrets, and one change among 100,000 keys costs one entry of work.
#[derive(Default)]
pub(super) struct Changes {
    touched: BTreeSet<KeyId>,
    stale: BTreeSet<KeyHash>,
}

impl Changes {
    pub(super) fn put(&mut self, spec: &mut Spec, id: &KeyId, key: &Key) {
        let before = spec.keys.insert(id.clone(), key.clone());
        self.touched.insert(id.clone());
        self.stale.extend(before.map(|key| key.hash));
    }

    /// Taking away what is not there is no error: the key admits nobody either way.
    pub(super) fn remove(&mut self, spec: &mut Spec, id: &KeyId) {
        let before = spec.keys.remove(id);
        self.touched.insert(id.clone());
        self.stale.extend(before.map(|key| key.hash));
    }

    /// Brings the index up to date (STATE-3).
    pub(super) fn reindex(self, spec: &Spec, index: &mut Arc<Index>) -> Result<(), Refusal> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let index = Arc::make_mut(index);
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
