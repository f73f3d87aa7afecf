//! The events of a further leg, as the rest of the stream that the client has begun to read.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::joint::{Apart, Join, Joint};
use super::messages::Places;
use super::{Heard, chat, messages};
use crate::Operation;
use crate::delta::write_event;
use crate::meter::Relay;
use crate::sse::{Frame, Framer};

/// Why a leg cannot be stitched to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StitchError {
    /// Its text does not take up the text so far: what the client would read is no answer.
    #[error("the continuation does not take up the text where it broke off")]
    NoJoint,
    /// An event is not of the form this wire has.
    #[error("an event of the continuation is not of the client's wire")]
    Unreadable,
}

impl From<Apart> for StitchError {
    fn from(_: Apart) -> Self {
        Self::NoJoint
    }
}

/// Makes a further leg of a stream the rest of it.
///
/// It takes the leg's events as they would go out to the client, so behind the meter or the translator, which say when
/// the leg is whole.
#[derive(Debug)]
pub struct Stitch {
    heard: Heard,
    leg: Leg,
}

/// What is known of the leg at hand.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) joint: Joint,
    /// Messages: where the leg's blocks stand in the stream.
    pub(super) places: Places,
}

impl Stitch {
    /// Stitches a leg to what was heard, which was asked for by `join`.
    pub fn new(mut heard: Heard, join: Join) -> Self {
        heard.tally.next_leg();
        let leg = Leg { joint: Joint::new(join, &heard.text), places: Places::new(heard.open) };
        Self { heard, leg }
    }

    /// Takes complete events of the leg and appends what the client gets of them to `out`.
    ///
    /// # Errors
    /// [`StitchError`]; what the events before the one at fault came to is in `out` and belongs to the stream.
    pub fn batch(&mut self, events: &Bytes, out: &mut BytesMut) -> Result<(), StitchError> {
        let mut framer = Framer::new(usize::MAX);
        framer.push(events.clone());
        framer.finish();
        while let Some(frame) = framer.next() {
            let frame = frame.map_err(|_| StitchError::Unreadable)?;
            match self.observe(&frame)? {
                Relay::Forward => out.extend_from_slice(&frame.raw),
                Relay::Replace(bytes) => out.extend_from_slice(&bytes),
                Relay::Drop => {}
            }
        }
        if framer.has_partial() { Err(StitchError::Unreadable) } else { Ok(()) }
    }

    /// Takes the next event of the leg, and says what the client gets of it.
    ///
    /// # Errors
    /// [`StitchError`]: the leg is of no use, and [`into_heard`](Self::into_heard) is as it was before this event.
    pub fn observe(&mut self, frame: &Frame) -> Result<Relay, StitchError> {
        if !frame.has_data() {
            return Ok(Relay::Forward);
        }
        let data = frame.data();
        if data.trim_ascii() == b"[DONE]" {
            return Ok(Relay::Forward);
        }
        let event: Map<String, Value> = serde_json::from_slice(&data).map_err(|_| StitchError::Unreadable)?;
        let mut out = Vec::new();
        match self.heard.op {
            Operation::Chat | Operation::Completions => {
                if let Some(chunk) = chat::rewrite(event, &mut self.heard, &mut self.leg)? {
                    self.send(None, &chunk, &mut out);
                }
            }
            Operation::Messages => {
                for event in messages::rewrite(event, &mut self.heard, &mut self.leg)? {
                    let name = event.get("type").and_then(Value::as_str);
                    self.send(name, &event, &mut out);
                }
            }
            Operation::Responses | Operation::Embeddings | Operation::CountTokens => {
                return Err(StitchError::Unreadable);
            }
        }
        Ok(if out.is_empty() { Relay::Drop } else { Relay::Replace(out.into()) })
    }

    /// What the client has read by now.
    pub const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// What the client has read, to go on from when this leg broke too. What the leg said and was not sent is not in it.
    pub fn into_heard(self) -> Heard {
        self.heard
    }

    fn send(&mut self, name: Option<&str>, event: &Map<String, Value>, out: &mut Vec<u8>) {
        let begin = out.len();
        write_event(name, event, out);
        let sent = Frame::parse(Bytes::copy_from_slice(out.get(begin..).unwrap_or_default()));
        // Its usage is of all legs, and is counted where it was made.
        self.heard.read(&sent.data());
    }
}
