use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use troupe_proto::id::Revision;
use troupe_proto::spec::Table;

/// Idempotency keys that are remembered; the oldest is forgotten first.
const KEPT_MAX: usize = 4_096;

type Hash = [u8; 32];

/// Commands that were applied under an idempotency key. A refused one is not kept: it took no effect, so trying again is
/// what the key is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Once {
    /// In the order in which they came.
    order: imbl::Vector<(Hash, Revision)>,
    known: Table<Hash, Revision>,
}

impl Once {
    pub(super) fn revision(&self, key: &Hash) -> Option<Revision> {
        self.known.get(key).copied()
    }

    pub(super) fn note(&mut self, key: Hash, revision: Revision) {
        if self.known.insert(key, revision).is_none() {
            self.order.push_back((key, revision));
        }
        while self.order.len() > KEPT_MAX {
            if let Some((oldest, _)) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Encode for Once {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        u64::try_from(self.order.len()).unwrap_or(u64::MAX).encode(encoder)?;
        self.order.iter().try_for_each(|kept| kept.encode(encoder))
    }
}

impl<C> Decode<C> for Once {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let kept: Vec<(Hash, Revision)> = Decode::decode(decoder)?;
        if kept.len() > KEPT_MAX {
            return Err(DecodeError::Other("more idempotency keys than are kept"));
        }
        let known: Table<Hash, Revision> = kept.iter().copied().collect();
        if known.len() != kept.len() {
            return Err(DecodeError::Other("an idempotency key is kept twice"));
        }
        Ok(Self { order: kept.into(), known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            key
        };
        let mut once = Once::default();

        for n in 0..=KEPT_MAX {
            once.note(key(n), Revision(1));
        }

        assert_eq!(once.revision(&key(0)), None);
        assert_eq!(once.revision(&key(1)), Some(Revision(1)));
        assert_eq!(once.known.len(), KEPT_MAX);
    }
}
