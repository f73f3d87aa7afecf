//! How our own messages look as bytes: bincode in a versioned envelope, with a limit on everything.
//!
//! ```text
//! 0       2      4        6     10      14
//! | magic | kind | schema | len | crc32c | body (bincode, standard configuration) |
//! ```
//! All numbers of the head are little-endian. A reader refuses a foreign magic, another kind, a schema it does not know,
//! a length over the message's limit, a wrong checksum, and bytes left over behind the body.

use bincode::config::{self, Config};
use bincode::{Decode, Encode};

const MAGIC: u16 = 0x7452;

/// Bytes of the envelope before the body.
pub const HEAD_BYTES: usize = 14;

/// A message with a place in the registry of kinds. Types must not be recursive: hostile depth would exhaust the stack.
pub trait Message: Encode + Decode<()> {
    /// Which message it is; unique, for ever.
    const KIND: u16;
    /// The version of its layout.
    const SCHEMA: u16;
    /// The most bytes its body may have.
    const LIMIT: usize;
}

impl Message for crate::command::Command {
    const KIND: u16 = 1;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = COMMAND_LIMIT;
}

impl Message for crate::command::Reply {
    const KIND: u16 = 2;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 64 << 10;
}

/// A command may carry a whole spec: 100,000 keys take about 20 MiB.
const COMMAND_LIMIT: usize = 64 << 20;

/// bincode's own limit is a type parameter; one bound above every message's keeps hostile lengths from allocating.
const fn bounded() -> impl Config {
    config::standard().with_limit::<COMMAND_LIMIT>()
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
    Malformed(#[source] Box<bincode::error::DecodeError>),
    /// The message cannot be written.
    #[error("message cannot be encoded")]
    Unencodable(#[source] Box<bincode::error::EncodeError>),
}

/// Writes a message in its envelope.
///
/// # Errors
/// [`WireError::TooLarge`] when its body is over the message's limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, WireError> {
    let body = bincode::encode_to_vec(message, bounded()).map_err(|e| WireError::Unencodable(Box::new(e)))?;
    let too_large = || WireError::TooLarge { bytes: body.len(), limit: M::LIMIT };
    if body.len() > M::LIMIT {
        return Err(too_large());
    }
    let len = u32::try_from(body.len()).map_err(|_| too_large())?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&M::KIND.to_le_bytes());
    bytes.extend_from_slice(&M::SCHEMA.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads exactly one message from its envelope.
///
/// # Errors
/// One variant of [`WireError`] for each way in which bytes can be wrong; nothing is allocated beyond the limit.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, WireError> {
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
    if schema != M::SCHEMA {
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
    if crc32c::crc32c(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(WireError::Checksum);
    }
    let (message, used) = bincode::decode_from_slice(body, bounded()).map_err(|e| WireError::Malformed(Box::new(e)))?;
    if used != body.len() {
        return Err(WireError::Trailing(body.len() - used));
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
