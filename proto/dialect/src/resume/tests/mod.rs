mod goldens;
mod properties;
mod reasons;

use bytes::{Bytes, BytesMut};

use super::{Heard, Stitch};
use crate::sse::{Frame, Framer};
use crate::{Operation, anthropic, delta, openai};

pub(super) fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new(usize::MAX);
    framer.push(Bytes::copy_from_slice(stream));
    framer.finish();
    std::iter::from_fn(|| framer.next()).map(Result::unwrap).collect()
}

pub(super) fn heard(op: Operation, stream: &[u8]) -> Heard {
    let mut heard = Heard::new(op);
    heard.observe_bytes(&Bytes::copy_from_slice(stream));
    heard
}

/// What the client gets of a leg.
pub(super) fn stitched(stitch: &mut Stitch, leg: &[u8]) -> Result<Vec<u8>, super::StitchError> {
    let mut out = BytesMut::new();
    stitch.batch(&Bytes::copy_from_slice(leg), &mut out)?;
    Ok(out.to_vec())
}

/// Reads a whole stream as a client does, and folds it.
pub(super) fn decoded(op: Operation, stream: &[u8]) -> Vec<delta::Delta> {
    let mut deltas = Vec::new();
    let mut chat = openai::chat::stream::Decoder::default();
    let mut messages = anthropic::stream::Decoder::default();
    for frame in frames(stream).iter().filter(|frame| frame.has_data()) {
        let read = match op {
            Operation::Messages => messages.event(frame.event(), &frame.data(), &mut deltas),
            _ => chat.event(&frame.data(), &mut deltas),
        };
        read.unwrap();
    }
    deltas
}
