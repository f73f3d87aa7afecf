//! Virtual keys by the hash of their secret, in shards: a change rebuilds the shards it touches and shares the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use troupe_proto::id::KeyId;
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{self, Table};

use super::Key;

/// Keys that a shard is laid out for. Fewer make a list of shards that takes long to copy, more a shard that does.
const SHARD_KEYS: usize = 64;

/// 2^14 shards are enough for a million keys; more keys make them larger.
const BITS_MAX: u32 = 14;

/// In the order of their hashes.
type Shard = Box<[(KeyHash, Arc<Key>)]>;

/// What becomes of a hash: the key it leads to, or none.
type Change = (KeyHash, Option<Arc<Key>>);

/// Virtual keys by the hash of their secret. A clone shares what it holds.
#[derive(Clone)]
pub(super) struct Keys {
    /// 2^bits of them. Hashes are evenly spread, so their first bits are as good as any.
    shards: Arc<[Arc<Shard>]>,
    bits: u32,
    count: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { shards: Arc::from([Arc::default()]), bits: 0, count: 0 }
    }
}

impl Keys {
    /// The key with this secret's hash.
    pub(super) fn get(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        let shard = self.shards.get(place(hash, self.bits))?;
        let at = shard.binary_search_by(|(known, _)| known.cmp(hash)).ok()?;
        shard.get(at).map(|(_, key)| key)
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// These keys, which were made of `before`, as they are in `after`.
    pub(super) fn changed(&self, before: &Table<KeyId, spec::Key>, after: &Table<KeyId, spec::Key>) -> Self {
        let bits = bits(after.len());
        // Resized only where it is far off, so that a key more or less does not lay out everything anew.
        if before.is_empty() || self.bits.abs_diff(bits) > 1 {
            return Self::laid_out(after, bits);
        }
        let mut changes: BTreeMap<usize, Vec<Change>> = BTreeMap::new();
        let mut note = |hash: KeyHash, key| changes.entry(place(&hash, self.bits)).or_default().push((hash, key));
        let mut put = Vec::new();
        for change in before.diff(after) {
            match change {
                DiffItem::Add(id, key) => put.push((id, key)),
                DiffItem::Remove(_, key) => note(key.hash, None),
                DiffItem::Update { old: (_, old), new: (id, key) } => {
                    note(old.hash, None);
                    put.push((id, key));
                }
            }
        }
        // Behind all removals: a key may have taken over the hash of another.
        put.into_iter().for_each(|(id, key)| note(key.hash, Some(ready(id, key))));
        let mut shards = Vec::from(&*self.shards);
        for (place, changes) in changes {
            if let Some(shard) = shards.get_mut(place) {
                let mut keys: BTreeMap<KeyHash, Arc<Key>> = shard.iter().cloned().collect();
                for (hash, key) in changes {
                    match key {
                        Some(key) => keys.insert(hash, key),
                        None => keys.remove(&hash),
                    };
                }
                *shard = Arc::new(keys.into_iter().collect());
            }
        }
        Self { shards: shards.into(), bits: self.bits, count: after.len() }
    }

    fn laid_out(keys: &Table<KeyId, spec::Key>, bits: u32) -> Self {
        let mut sorted: Vec<(KeyHash, Arc<Key>)> = keys.iter().map(|(id, key)| (key.hash, ready(id, key))).collect();
        sorted.sort_unstable_by_key(|(hash, _)| *hash);
        let mut rest = sorted.into_iter().peekable();
        let shards = (0..1_usize << bits).map(|at| {
            let shard: Shard = std::iter::from_fn(|| rest.next_if(|(hash, _)| place(hash, bits) == at)).collect();
            Arc::new(shard)
        });
        Self { shards: shards.collect(), bits, count: keys.len() }
    }
}

fn ready(id: &KeyId, key: &spec::Key) -> Arc<Key> {
    Arc::new(Key { id: id.clone(), may_pin: key.pin, models: key.models.clone(), expires: key.expires })
}

/// How many shards so many keys are laid out in, as a power of two.
fn bits(keys: usize) -> u32 {
    (keys / SHARD_KEYS).next_power_of_two().trailing_zeros().min(BITS_MAX)
}

/// The shard of a hash: its first bits.
fn place(hash: &KeyHash, bits: u32) -> usize {
    let [a, b, ..] = *hash.bytes();
    usize::from(u16::from_be_bytes([a, b]) >> (u16::BITS - bits).min(15)) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> spec::Key {
        spec::Key {
            hash: KeyHash::of(secret.as_bytes()),
            models: None,
            expires: None,
            metadata: BTreeMap::default(),
            pin: false,
        }
    }

    fn table(count: usize) -> Table<KeyId, spec::Key> {
        (0..count).map(|n| (KeyId::new(&format!("k{n}")), key(&format!("sk-{n}")))).collect()
    }

    fn name<'a>(keys: &'a Keys, secret: &str) -> Option<&'a str> {
        keys.get(&KeyHash::of(secret.as_bytes())).map(|key| key.id.as_str())
    }

    /// Whether `keys` holds just the keys of `table`.
    fn holds(keys: &Keys, table: &Table<KeyId, spec::Key>) -> bool {
        let held: usize = keys.shards.iter().map(|shard| shard.len()).sum();
        held == table.len()
            && keys.len() == table.len()
            && table.iter().all(|(id, key)| keys.get(&key.hash).is_some_and(|found| found.id == *id))
    }

    #[test]
    fn each_key_is_found_whatever_their_number() {
        for count in [0, 1, 63, 64, 128, 5_000] {
            let table = table(count);

            let keys = Keys::default().changed(&Table::new(), &table);

            assert!(holds(&keys, &table), "{count}");
            assert_eq!(name(&keys, "sk-none"), None);
        }
    }

    #[test]
    fn a_change_rebuilds_its_own_shards_and_shares_the_others() {
        let before = table(5_000);
        let old = Keys::default().changed(&Table::new(), &before);
        let mut after = before.clone();
        after.insert(KeyId::new("k7"), key("sk-new"));
        after.remove("k8");
        after.insert(KeyId::new("k9000"), key("sk-9000"));

        let new = old.changed(&before, &after);

        assert!(holds(&new, &after));
        assert_eq!((name(&new, "sk-7"), name(&new, "sk-8"), name(&new, "sk-new")), (None, None, Some("k7")));
        let rebuilt = old.shards.iter().zip(&*new.shards).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert!((1..=4).contains(&rebuilt), "{rebuilt}");
    }

    #[test]
    fn keys_that_swap_secrets_are_both_found() {
        let before = table(100);
        let old = Keys::default().changed(&Table::new(), &before);
        let mut after = before.clone();
        after.insert(KeyId::new("k1"), key("sk-2"));
        after.insert(KeyId::new("k2"), key("sk-1"));

        let new = old.changed(&before, &after);

        assert_eq!((name(&new, "sk-1"), name(&new, "sk-2")), (Some("k2"), Some("k1")));
    }

    #[test]
    fn shards_grow_and_shrink_with_the_keys() {
        let (few, many) = (table(10), table(10_000));
        let small = Keys::default().changed(&Table::new(), &few);

        let large = small.changed(&few, &many);
        let again = large.changed(&many, &few);

        assert_eq!((small.shards.len(), large.shards.len(), again.shards.len()), (1, 256, 1));
        assert!(holds(&large, &many) && holds(&again, &few));
    }
}
