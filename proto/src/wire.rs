//! How our own messages look as bytes: bincode in a versioned envelope, with a limit on everything.
//!
//! ```text
//! 0       2      4        6     10      14
//! | magic | kind | schema | len | crc32c | body (bincode, standard configuration) |
//! ```
//! All numbers of the head are little-endian. A reader refuses a foreign magic, another kind, a schema it does not know,
//! a length over the message's limit, a wrong checksum, and bytes left over behind the body.

use bincode::config;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

const MAGIC: u16 = 0x7452;

/// Bytes of the envelope before the body.
pub const HEAD_BYTES: usize = 14;

/// A message with a place in the registry of kinds. Types must not be recursive: hostile depth would exhaust the stack.
///
/// | kinds | of |
/// |---|---|
/// | 1 | nothing any more: a command without its asker |
/// | 2, 3 | replies and entries |
/// | 4 | the state in a snapshot |
/// | 16-18 | what gossip carries |
pub trait Message: Encode + Decode<()> {
    /// Which message it is; unique, for ever.
    const KIND: u16;
    /// The newest version of its layout that this build knows.
    const SCHEMA: u16;
    /// The oldest version of it that this build still reads.
    const OLDEST: u16 = Self::SCHEMA;
    /// The most bytes its body may have.
    const LIMIT: usize;

    /// The version of the layout that this message is written in. What a node of an earlier build may read is written as
    /// that one knows it: only what cannot be said in an older layout is said in a newer one.
    fn schema(&self) -> u16 {
        Self::SCHEMA
    }
}

impl Message for crate::command::Reply {
    const KIND: u16 = 2;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 64 << 10;
}

/// | schema | of |
/// |---|---|
/// | 1 | commands of versions 1 and 2 of the agreed state |
/// | 2 | commands that need a later one |
impl Message for crate::command::Entry {
    const KIND: u16 = 3;
    const SCHEMA: u16 = 2;
    const OLDEST: u16 = 1;
    const LIMIT: usize = ENTRY_LIMIT;

    fn schema(&self) -> u16 {
        if self.command.needs() > 2 { 2 } else { 1 }
    }
}

/// An entry may carry a whole spec: 100,000 keys take about 20 MiB.
const ENTRY_LIMIT: usize = 64 << 20;

/// The most that any message may have; the head has room for no more than four times of it.
const LIMIT_MAX: usize = 1 << 30;

/// bincode's own limit is a type parameter; two bounds above every message's keep hostile lengths from allocating.
fn read_body<M: Message>(body: &[u8]) -> Result<(M, usize), DecodeError> {
    let config = config::standard();
    if M::LIMIT <= ENTRY_LIMIT {
        bincode::decode_from_slice(body, config.with_limit::<ENTRY_LIMIT>())
    } else {
        bincode::decode_from_slice(body, config.with_limit::<LIMIT_MAX>())
    }
}

/// Why bytes are not the message that was expected.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the head or than it announces.
    #[error("{missing} bytes are missing")]
    Short {
        /// How many more are needed at least.
        missing: usize,
    },
    /// Not ours.
    #[error("magic is {0:#06x}")]
    Magic(u16),
    /// Another message.
    #[error("kind is {found}, expected {expected}")]
    Kind {
        /// What came.
        found: u16,
        /// What was asked for.
        expected: u16,
    },
    /// A layout this version does not know.
    #[error("schema is {found}, this node reads {known}")]
    Schema {
        /// What came.
        found: u16,
        /// What this build reads.
        known: u16,
    },
    /// Its envelope says another layout than what is in it has.
    #[error("schema is {found}, what is in it is written in {written}")]
    Mislabelled {
        /// What the envelope says.
        found: u16,
        /// What it should say.
        written: u16,
    },
    /// Longer than the message may be.
    #[error("{bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The announced or needed length.
        bytes: usize,
        /// The message's limit.
        limit: usize,
    },
    /// The checksum does not fit the bytes.
    #[error("checksum does not match")]
    Checksum,
    /// Bytes behind the body or inside it that nothing accounts for.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// The body cannot be read.
    #[error("body is malformed")]
    Malformed(#[source] Box<DecodeError>),
    /// The message cannot be written.
    #[error("message cannot be encoded")]
    Unencodable(#[source] Box<EncodeError>),
}

/// Writes a message in its envelope.
///
/// # Errors
/// [`WireError::TooLarge`] when its body is over the message's limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; HEAD_BYTES];
    bincode::encode_into_std_write(message, &mut bytes, config::standard())
        .map_err(|e| WireError::Unencodable(Box::new(e)))?;
    let (head, body) = bytes.split_at_mut(HEAD_BYTES);
    let too_large = || WireError::TooLarge { bytes: body.len(), limit: M::LIMIT };
    if body.len() > M::LIMIT {
        return Err(too_large());
    }
    let len = u32::try_from(body.len()).map_err(|_| too_large())?;
    let fields: [&[u8]; 5] = [
        &MAGIC.to_le_bytes(),
        &M::KIND.to_le_bytes(),
        &message.schema().to_le_bytes(),
        &len.to_le_bytes(),
        &crc32c::crc32c(body).to_le_bytes(),
    ];
    head.copy_from_slice(&fields.concat());
    Ok(bytes)
}

/// Looks at an envelope without reading what is in it: whether it announces this message, in a layout that is known here.
///
/// # Errors
/// As [`decode`], but for those of the checksum and the body.
pub fn check<M: Message>(bytes: &[u8]) -> Result<(), WireError> {
    open::<M>(bytes).map(|_| ())
}

/// Reads exactly one message from its envelope.
///
/// # Errors
/// One variant of [`WireError`] for each way in which bytes can be wrong; nothing is allocated beyond the limit.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, WireError> {
    let Opened { schema, body, checksum } = open::<M>(bytes)?;
    if crc32c::crc32c(body) != checksum {
        return Err(WireError::Checksum);
    }
    let (message, used): (M, usize) = read_body(body).map_err(|e| WireError::Malformed(Box::new(e)))?;
    if used != body.len() {
        return Err(WireError::Trailing(body.len() - used));
    }
    // Nobody wrote it so: the layout is that of the message in it.
    if message.schema() != schema {
        return Err(WireError::Mislabelled { found: schema, written: message.schema() });
    }
    Ok(message)
}

/// An envelope that was looked at.
struct Opened<'a> {
    schema: u16,
    body: &'a [u8],
    /// What the body's checksum should be.
    checksum: u32,
}

fn open<M: Message>(bytes: &[u8]) -> Result<Opened<'_>, WireError> {
    let (head, body) = bytes
        .split_first_chunk::<HEAD_BYTES>()
        .ok_or_else(|| WireError::Short { missing: HEAD_BYTES - bytes.len() })?;
    let [m0, m1, k0, k1, s0, s1, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let magic = u16::from_le_bytes([m0, m1]);
    if magic != MAGIC {
        return Err(WireError::Magic(magic));
    }
    let kind = u16::from_le_bytes([k0, k1]);
    if kind != M::KIND {
        return Err(WireError::Kind { found: kind, expected: M::KIND });
    }
    let schema = u16::from_le_bytes([s0, s1]);
    if !(M::OLDEST..=M::SCHEMA).contains(&schema) {
        return Err(WireError::Schema { found: schema, known: M::SCHEMA });
    }
    let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if len > M::LIMIT {
        return Err(WireError::TooLarge { bytes: len, limit: M::LIMIT });
    }
    if body.len() < len {
        return Err(WireError::Short { missing: len - body.len() });
    }
    if body.len() > len {
        return Err(WireError::Trailing(body.len() - len));
    }
    Ok(Opened { schema, body, checksum: u32::from_le_bytes([c0, c1, c2, c3]) })
}

#[cfg(test)]
mod tests;
