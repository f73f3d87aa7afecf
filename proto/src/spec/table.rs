//! Ordered maps whose clones share what they hold, and how they look as bytes.

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

/// An ordered map whose clone costs nothing, and whose change costs what it touches.
pub type Table<K, V> = imbl::OrdMap<K, V>;

/// Writes a table: how many there are, then each with its name, in order.
///
/// # Errors
/// When one of them cannot be written.
pub fn encode_table<K: Encode + Ord, V: Encode, E: Encoder>(
    table: &Table<K, V>,
    encoder: &mut E,
) -> Result<(), EncodeError> {
    u64::try_from(table.len()).unwrap_or(u64::MAX).encode(encoder)?;
    for (name, value) in table {
        name.encode(encoder)?;
        value.encode(encoder)?;
    }
    Ok(())
}

/// Reads a table. One that is out of order was not written by [`encode_table`], and is refused: what was read must be
/// written as the same bytes again.
///
/// # Errors
/// When the bytes are none of a table, or announce more than the decoder's limit.
pub fn decode_table<K, V, D>(decoder: &mut D) -> Result<Table<K, V>, DecodeError>
where
    K: Decode<D::Context> + Ord + Clone,
    V: Decode<D::Context> + Clone,
    D: Decoder,
{
    let count = u64::decode(decoder)?;
    let mut table = Table::new();
    for _ in 0..count {
        // Claimed one by one: what is announced beyond the limit is refused before it is read.
        decoder.claim_container_read::<(K, V)>(1)?;
        let name = K::decode(decoder)?;
        let value = V::decode(decoder)?;
        if table.get_max().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Other("a table is out of order"));
        }
        table.insert(name, value);
        decoder.unclaim_bytes_read(size_of::<(K, V)>());
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use bincode::config;

    use super::*;

    struct Names(Table<String, u8>);

    impl Encode for Names {
        fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
            encode_table(&self.0, encoder)
        }
    }

    impl<C> Decode<C> for Names {
        fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
            decode_table(decoder).map(Self)
        }
    }

    fn decode(bytes: &[u8]) -> Result<Names, DecodeError> {
        bincode::decode_from_slice(bytes, config::standard().with_limit::<1024>()).map(|(names, _)| names)
    }

    #[test]
    fn a_table_reads_what_it_wrote() {
        let table: Table<String, u8> = [("b".to_owned(), 2), ("a".to_owned(), 1)].into_iter().collect();

        let bytes = bincode::encode_to_vec(Names(table.clone()), config::standard()).unwrap();

        assert_eq!(bytes, [2, 1, b'a', 1, 1, b'b', 2]);
        assert_eq!(decode(&bytes).unwrap().0, table);
    }

    #[test]
    fn a_table_out_of_order_or_longer_than_its_bytes_is_refused() {
        assert!(decode(&[2, 1, b'b', 2, 1, b'a', 1]).is_err());
        assert!(decode(&[2, 1, b'a', 1, 1, b'a', 1]).is_err());
        assert!(decode(&[253, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
    }
}
