//! The whole state as one file to be kept elsewhere, and clusters made anew of it or of what one node has.
//!
//! ```text
//! | length of the head, u32 | head: an envelope | the state: an envelope | sha256 of all before |
//! ```
//! Secrets of providers are sealed in it as they are in the state: without the seal key they are of no use.

mod anew;

use std::collections::BTreeSet;

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};
use troupe_proto::id::ClusterId;
use troupe_proto::secret::{CredentialSecret, SealKeyId};
use troupe_proto::wire::{self, Message, WireError};

pub use anew::{AnewError, New, recover, restore};

use crate::state::State;

const SUM_BYTES: usize = 32;

/// What such a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The cluster it was taken from.
    pub cluster: Option<ClusterId>,
    /// The revision of the spec in it.
    pub revision: u64,
    /// The last entry of the log in it.
    pub index: u64,
    /// When it was taken, in milliseconds since 1970 (UTC).
    pub at: i64,
    /// The version of the agreed state.
    pub version: u16,
    /// The length of the state.
    pub bytes: u64,
}

impl Message for Head {
    const KIND: u16 = 35;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 1 << 10;
}

/// A file that was read and is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What it says of itself.
    pub head: Head,
    /// What is in it.
    pub state: State,
}

/// Why a file is no snapshot, or a damaged one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It ends too early, or is something else altogether.
    #[error("the file is not a snapshot, or it was cut off")]
    Short,
    /// Its bytes are not those that were written.
    #[error("the checksum does not match: the file was damaged, or is not a snapshot")]
    Checksum,
    /// Its head cannot be read.
    #[error("the head cannot be read")]
    Head(#[source] WireError),
    /// The state in it cannot be read.
    #[error("the state cannot be read")]
    State(#[source] WireError),
}

/// The bytes of a file that holds `state`, taken at `at` behind the entry at `index`.
///
/// # Errors
/// The state has more bytes than may travel.
pub fn encode(state: &State, index: u64, at: i64) -> Result<Vec<u8>, WireError> {
    let saved = wire::encode(state)?;
    let head = Head {
        cluster: state.cluster(),
        revision: state.revision().0,
        index,
        at,
        version: state.cluster_version(),
        bytes: u64::try_from(saved.len()).unwrap_or(u64::MAX),
    };
    let head = wire::encode(&head)?;
    // The limit of a head is far below 4 GiB.
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(4 + head.len() + saved.len() + SUM_BYTES);
    file.extend_from_slice(&len.to_be_bytes());
    file.extend_from_slice(&head);
    file.extend_from_slice(&saved);
    let sum = Sha256::digest(&file);
    file.extend_from_slice(&sum);
    Ok(file)
}

/// Reads the bytes of a file.
///
/// # Errors
/// [`BackupError`] when they are anything but what [`encode`] gave.
pub fn decode(file: &[u8]) -> Result<Backup, BackupError> {
    let (content, sum) = file.split_last_chunk::<SUM_BYTES>().ok_or(BackupError::Short)?;
    if Sha256::digest(content).as_slice() != sum {
        return Err(BackupError::Checksum);
    }
    let (len, rest) = content.split_first_chunk::<4>().ok_or(BackupError::Short)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    let (head, saved) = rest.split_at_checked(len).ok_or(BackupError::Short)?;
    let head: Head = wire::decode(head).map_err(BackupError::Head)?;
    let state = wire::decode(saved).map_err(BackupError::State)?;
    Ok(Backup { head, state })
}

/// The keys that the secrets in a state are sealed under.
pub fn seal_keys(state: &State) -> BTreeSet<SealKeyId> {
    let providers = state.spec().providers.iter();
    let secrets = providers.flat_map(|(_, provider)| provider.credentials.values().map(|given| &given.secret));
    secrets
        .filter_map(|secret| match secret {
            CredentialSecret::Sealed(sealed) => Some(sealed.key),
            CredentialSecret::Open(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_back_what_it_was_made_of() {
        let state = State::default();

        let backup = decode(&encode(&state, 7, 1_000).unwrap()).unwrap();

        assert_eq!(backup.state, state);
        let Head { cluster, revision, index, at, version, bytes: _ } = backup.head;
        assert_eq!((cluster, revision, index, at, version), (None, 0, 7, 1_000, 1));
    }

    #[test]
    fn no_flipped_bit_and_no_missing_end_is_passed_over() {
        let whole = encode(&State::default(), 7, 1_000).unwrap();

        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "length {len}");
        }
    }
}
