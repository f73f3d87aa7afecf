//! No bytes make a reader of messages panic; what was read can be written and read again; no entry that can be read
//! panics when it is applied.

use sha2::Digest as _;
use troupe_cluster::raft::{Answer, Ask, Forward, Forwarded, Piece, PieceAnswer};
use troupe_cluster::transport::Hello;
use troupe_cluster::{State, backup, forming, storage};
use troupe_proto::command::{Entry, Reply};
use troupe_proto::wire::{Message, decode, encode};

/// Holds one input to it: as it is, and as the body in an envelope whose checksum fits, which no fuzzer would guess.
pub(crate) fn run(input: &[u8]) {
    both::<Hello>(input);
    both::<Reply>(input);
    for entry in both::<Entry>(input) {
        let mut state = State::default();
        state.apply(1, &entry);
        state.apply(2, &entry);
        let saved = encode(&state).expect("a state can be written");
        assert!(decode::<State>(&saved).is_ok());
    }
    both::<State>(input);
    both::<Ask>(input);
    both::<Answer>(input);
    both::<Piece>(input);
    both::<PieceAnswer>(input);
    both::<Forward>(input);
    both::<Forwarded>(input);
    both::<forming::Ask>(input);
    both::<forming::Answer>(input);
    snapshot(input);
    both::<backup::Head>(input);
    backup(input);
    let summed = [input, sha2::Sha256::digest(input).as_slice()].concat();
    snapshot(&summed);
    backup(&summed);
}

fn backup(file: &[u8]) {
    if let Ok(read) = backup::decode(file) {
        let written = backup::encode(&read.state, read.head.index, read.head.at).expect("what was read can be written");
        let again = backup::decode(&written).expect("what was written can be read");
        assert!(again.state == read.state);
    }
}

fn snapshot(file: &[u8]) {
    if let Ok(snapshot) = storage::decode_snapshot(file) {
        let written = storage::encode_snapshot(&snapshot).expect("what was read can be written");
        let again = storage::decode_snapshot(&written).expect("what was written can be read");
        assert!(again.meta == snapshot.meta && again.state == snapshot.state);
    }
}

fn both<M: Message>(input: &[u8]) -> Vec<M> {
    [read(input), read(&enveloped::<M>(input))].into_iter().flatten().collect()
}

fn read<M: Message>(bytes: &[u8]) -> Option<M> {
    let message = decode::<M>(bytes).ok()?;
    let written = encode(&message).expect("what was read can be written");
    let again = decode::<M>(&written).expect("what was written can be read");
    assert!(encode(&again).expect("and written again") == written);
    Some(message)
}

fn enveloped<M: Message>(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("inputs are short");
    let mut bytes = 0x7452_u16.to_le_bytes().to_vec();
    bytes.extend_from_slice(&M::KIND.to_le_bytes());
    bytes.extend_from_slice(&M::SCHEMA.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}
