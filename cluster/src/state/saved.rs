//! The state in a snapshot: the same bytes on every node that applied the same entries.

use std::sync::Arc;

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use troupe_proto::spec::{decode_table, encode_table};
use troupe_proto::wire::Message;

use super::{State, key};

impl Message for State {
    const KIND: u16 = 4;
    const SCHEMA: u16 = 1;
    /// 100,000 keys take about 20 MiB.
    const LIMIT: usize = 1 << 30;
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
        audit.encode(encoder)
    }
}

impl<C> Decode<C> for State {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (changes, revision, cluster, version) = Decode::decode(decoder)?;
        let spec = Arc::new(Decode::decode(decoder)?);
        let keys_by_hash = key::index(&spec).map_err(|_| DecodeError::Other("two keys have one hash"))?;
        let state = Self {
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
        super::model::check(&state.spec).map_err(|_| DecodeError::Other("a model names what does not exist"))?;
        Ok(state)
    }
}
