//! The state in a snapshot: the same bytes on every node that applied the same entries.

use std::sync::Arc;

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use troupe_proto::spec::{Spec, decode_table, encode_table};
use troupe_proto::wire::Message;

use super::{State, key};

/// | schema | of |
/// |---|---|
/// | 1 | states of versions 1 and 2 |
/// | 2 | later ones: switches of providers stand behind |
///
/// The version in force decides, which each member knows: so no node is sent a snapshot that it cannot read, and all write
/// the same bytes.
impl Message for State {
    const KIND: u16 = 4;
    const SCHEMA: u16 = 2;
    const OLDEST: u16 = 1;
    /// 100,000 keys take about 20 MiB.
    const LIMIT: usize = 1 << 30;

    fn schema(&self) -> u16 {
        if has_switches(self.version) { 2 } else { 1 }
    }
}

const fn has_switches(version: u16) -> bool {
    version > 2
}

impl Encode for State {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self {
            changes,
            revision,
            cluster,
            version,
            spec,
            keys_by_hash: _,
            members,
            admin_tokens,
            join_tokens,
            sessions,
            once,
            audit,
        } = self;
        changes.encode(encoder)?;
        revision.encode(encoder)?;
        cluster.encode(encoder)?;
        version.encode(encoder)?;
        spec.encode(encoder)?;
        encode_table(members, encoder)?;
        encode_table(admin_tokens, encoder)?;
        encode_table(join_tokens, encoder)?;
        sessions.encode(encoder)?;
        once.encode(encoder)?;
        audit.encode(encoder)?;
        if has_switches(*version) {
            encode_table(&spec.off, encoder)?;
        }
        Ok(())
    }
}

impl<C> Decode<C> for State {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (changes, revision, cluster, version): (_, _, _, u16) = Decode::decode(decoder)?;
        let spec: Arc<Spec> = Arc::new(Decode::decode(decoder)?);
        let keys_by_hash = key::index(&spec).map_err(|_| DecodeError::Other("two keys have one hash"))?;
        let mut state = Self {
            changes,
            revision,
            cluster,
            version,
            spec,
            keys_by_hash,
            members: decode_table(decoder)?,
            admin_tokens: decode_table(decoder)?,
            join_tokens: decode_table(decoder)?,
            sessions: Decode::decode(decoder)?,
            once: Decode::decode(decoder)?,
            audit: Decode::decode(decoder)?,
        };
        if has_switches(version) {
            Arc::make_mut(&mut state.spec).off = decode_table(decoder)?;
        }
        if state.spec.off.keys().any(|id| !state.spec.providers.contains_key(id)) {
            return Err(DecodeError::Other("a provider that does not exist is switched off"));
        }
        super::model::check(&state.spec).map_err(|_| DecodeError::Other("a model names what does not exist"))?;
        Ok(state)
    }
}
