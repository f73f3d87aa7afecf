//! How the log's records look on disk, and why no flipped bit makes a synced one vanish.
//!
//! The log takes a record that ends before its bytes do for a torn write, and cuts it off. A length that a flipped bit
//! made too large looks just like that, so no length is believed before its own check: ids and votes have a fixed size,
//! and everything else is written as `length, !length, bytes`, with a bound.

use std::io::{self, Read, Write};
use std::sync::Arc;

use raft_log::codeq::{Decode, Encode};
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use crate::raft::plain::{LogId, Members, Payload, Vote};

/// The most bytes a payload may have: a command of 64 MiB in its envelope, and room to spare.
const PAYLOAD_LIMIT: usize = (64 << 20) + (64 << 10);

/// The types that the log is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records;

impl raft_log::Types for Records {
    type LogId = RecordId;
    type LogPayload = RecordPayload;
    type Vote = RecordVote;
    type Callback = super::log::Flushed;
    type UserData = ();

    fn log_index(log_id: &RecordId) -> u64 {
        log_id.0.index
    }

    fn payload_size(payload: &RecordPayload) -> u64 {
        payload.bytes().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }
}

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordId(pub(super) LogId);

/// A vote. It has no order: terms have one leader each, so equal terms with different nodes cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordVote(pub(super) Vote);

impl PartialOrd for RecordVote {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let (mine, others): (crate::raft::types::Vote, crate::raft::types::Vote) = (self.0.into(), other.0.into());
        mine.partial_cmp(&others)
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordPayload {
    /// Nothing.
    Blank,
    /// A command in its envelope.
    Command(Arc<[u8]>),
    /// Who takes part, in its envelope.
    Members(Arc<[u8]>),
}

/// Who takes part, on disk.
#[derive(bincode::Encode, bincode::Decode)]
struct MembersRecord(Members);

impl Message for MembersRecord {
    // Kinds 32 to 47 belong to consensus and its storage.
    const KIND: u16 = 32;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 1 << 20;
}

impl RecordPayload {
    /// As a record.
    ///
    /// # Errors
    /// When it is too large for one.
    pub(super) fn of(payload: Payload) -> io::Result<Self> {
        let record = match payload {
            Payload::Blank => Self::Blank,
            Payload::Command(bytes) => Self::Command(bytes),
            Payload::Members(members) => {
                let bytes = wire::encode(&MembersRecord(members)).map_err(io::Error::other)?;
                Self::Members(bytes.into())
            }
        };
        match record.bytes() {
            Some(bytes) if bytes.len() > PAYLOAD_LIMIT => Err(bad("an entry is larger than a record may be")),
            Some(_) | None => Ok(record),
        }
    }

    /// As an entry holds it.
    ///
    /// # Errors
    /// When it is not what this version writes.
    pub(super) fn into_plain(self) -> io::Result<Payload> {
        Ok(match self {
            Self::Blank => Payload::Blank,
            Self::Command(bytes) => Payload::Command(bytes),
            Self::Members(bytes) => {
                let MembersRecord(members) = wire::decode(&bytes).map_err(io::Error::other)?;
                Payload::Members(members)
            }
        })
    }

    /// About how many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Blank => None,
            Self::Command(bytes) | Self::Members(bytes) => Some(bytes),
        }
    }
}

/// Not an end of the file, so never taken for a torn write.
fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read_u64(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn read_u32(reader: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

impl Encode for RecordId {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        writer.write_all(&self.0.term.to_be_bytes())?;
        writer.write_all(&self.0.index.to_be_bytes())?;
        Ok(16)
    }
}

impl Decode for RecordId {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        Ok(Self(LogId { term: read_u64(&mut reader)?, index: read_u64(&mut reader)? }))
    }
}

/// A vote ends with its own check: without it, a vote whose record a flipped bit turned into another kind could run
/// over the end of the file.
const VOTE_END: u64 = 0x5a5a_a5a5_c3c3_3c3c;

impl Encode for RecordVote {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        writer.write_all(&self.0.term.to_be_bytes())?;
        writer.write_all(&self.0.node.0.to_be_bytes())?;
        let committed = u64::from(self.0.is_committed);
        writer.write_all(&(VOTE_END ^ committed).to_be_bytes())?;
        Ok(24)
    }
}

impl Decode for RecordVote {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let (term, node) = (read_u64(&mut reader)?, NodeId(read_u64(&mut reader)?));
        let is_committed = match read_u64(&mut reader)? ^ VOTE_END {
            0 => false,
            1 => true,
            _ => return Err(bad("a vote has no end")),
        };
        Ok(Self(Vote { term, node, is_committed }))
    }
}

impl Encode for RecordPayload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let (kind, bytes): (u8, &[u8]) = match self {
            Self::Blank => (0, &[]),
            Self::Command(bytes) => (1, bytes),
            Self::Members(bytes) => (2, bytes),
        };
        let len = u32::try_from(bytes.len()).map_err(|_| bad("an entry is larger than a record may be"))?;
        // The kind stands twice, too: it decides what the bytes mean.
        writer.write_all(&[kind, !kind])?;
        writer.write_all(&len.to_be_bytes())?;
        writer.write_all(&(!len).to_be_bytes())?;
        writer.write_all(bytes)?;
        Ok(10 + bytes.len())
    }
}

impl Decode for RecordPayload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let mut kind = [0; 2];
        reader.read_exact(&mut kind)?;
        let [kind, check] = kind;
        if kind != !check {
            return Err(bad("an entry's kind does not fit its check"));
        }
        let (len, check) = (read_u32(&mut reader)?, read_u32(&mut reader)?);
        if len != !check {
            return Err(bad("an entry's length does not fit its check"));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > PAYLOAD_LIMIT {
            return Err(bad("an entry is longer than a record may be"));
        }
        let mut bytes = vec![0; len];
        reader.read_exact(&mut bytes)?;
        match kind {
            0 if bytes.is_empty() => Ok(Self::Blank),
            1 => Ok(Self::Command(bytes.into())),
            2 => Ok(Self::Members(bytes.into())),
            _ => Err(bad("an entry is of an unknown kind")),
        }
    }
}
