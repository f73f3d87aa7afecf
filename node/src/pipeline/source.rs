//! A provider's stream as the caller's dialect has it: complete events only, in batches as they arrive.

use bytes::{Bytes, BytesMut};
use troupe_dialect::fault::{self, Classified};
use troupe_dialect::meter::{Relay, StreamMeter};
use troupe_dialect::sse::{Frame, Framer};
use troupe_dialect::translate::{Context, Finish, Loss, StreamError, StreamTranslator};
use troupe_dialect::{Dialect, Operation};
use troupe_proto::outcome::Usage;

use crate::upstream::UpstreamBody;

/// The largest event: an image comes in one.
const EVENT_BYTES: usize = 16 << 20;

/// Where events come from.
pub(super) struct Source {
    body: UpstreamBody,
    framer: Framer,
    lens: Lens,
    is_over: bool,
    /// A break that was met behind events that had to be handed out first.
    broken: Option<Break>,
}

/// How events are seen.
enum Lens {
    Same(Box<StreamMeter>),
    Other { translator: Box<StreamTranslator>, upstream: Dialect },
}

/// What one piece of the provider's stream came to.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Complete events for the client.
    pub(super) bytes: Bytes,
    /// Whether one of them is part of the reply proper.
    pub(super) has_content: bool,
    /// Whether the wire's end was seen.
    pub(super) is_end: bool,
}

/// How a stream breaks.
#[derive(Debug)]
pub(super) enum Break {
    /// The connection was lost.
    Lost(String),
    /// The stream ended before its wire's end.
    Short,
    /// What came is no event of this wire.
    Invalid(String),
    /// The provider said so itself, perhaps in words that a client of its dialect may read, and perhaps in an event that
    /// is its wire's proper end too (`response.failed`).
    Told { error: Box<Classified>, words: Option<Bytes>, is_end: bool },
}

/// One event, seen.
struct Look {
    piece: Piece,
    has_content: bool,
    is_end: bool,
}

enum Piece {
    Nothing,
    Bytes(Bytes),
}

impl Source {
    pub(super) fn same(operation: Operation, hide_usage: bool, choices: u64, body: UpstreamBody) -> Self {
        let meter = StreamMeter::new(operation, hide_usage).with_choices(choices);
        Self { body, framer: Framer::new(EVENT_BYTES), lens: Lens::Same(Box::new(meter)), is_over: false, broken: None }
    }

    pub(super) fn other(context: Context, body: UpstreamBody) -> Self {
        let upstream = context.upstream;
        let lens = Lens::Other { translator: Box::new(StreamTranslator::new(context)), upstream };
        Self { body, framer: Framer::new(EVENT_BYTES), lens, is_over: false, broken: None }
    }

    /// The next events; `None` when the stream has ended as it should. Safe to cancel.
    ///
    /// # Errors
    /// How the stream broke. What came before it in the same piece is handed out first.
    pub(super) async fn batch(&mut self) -> Result<Option<Batch>, Break> {
        loop {
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            let batch = self.drain();
            if !batch.bytes.is_empty() || batch.is_end || batch.has_content {
                return Ok(Some(batch));
            }
            if self.broken.is_some() {
                continue;
            }
            if self.is_over {
                return self.last();
            }
            match self.body.chunk().await {
                Some(Ok(chunk)) => self.framer.push(chunk),
                // All of it was said: how the connection ends is no matter.
                Some(Err(_)) if self.lens.is_whole() => {
                    self.is_over = true;
                    self.framer.finish();
                }
                Some(Err(error)) => return Err(Break::Lost(error.to_string())),
                None => {
                    self.is_over = true;
                    self.framer.finish();
                }
            }
        }
    }

    /// Reads on until the provider closes the reply, so that its connection can serve another call.
    pub(super) async fn rest(&mut self) {
        while let Some(Ok(_)) = self.body.chunk().await {}
    }

    /// Whether the reply's end has been read, and its connection given back.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks at every complete event that is there. A break is reported once the events before it are handed out.
    fn drain(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut many: Option<BytesMut> = None;
        while let Some(frame) = self.framer.next() {
            let look = match frame {
                Ok(frame) => self.lens.look(&frame),
                Err(error) => Err(Break::Invalid(error.to_string())),
            };
            let look = match look {
                Ok(look) => look,
                Err(broken) => {
                    self.broken = Some(broken);
                    break;
                }
            };
            if let Piece::Bytes(piece) = look.piece {
                match &mut many {
                    Some(many) => many.extend_from_slice(&piece),
                    None if batch.bytes.is_empty() => batch.bytes = piece,
                    None => {
                        let mut joined = BytesMut::with_capacity((batch.bytes.len() + piece.len()).saturating_mul(2));
                        joined.extend_from_slice(&batch.bytes);
                        joined.extend_from_slice(&piece);
                        many = Some(joined);
                    }
                }
            }
            batch.has_content |= look.has_content;
            batch.is_end |= look.is_end;
        }
        if let Some(many) = many {
            batch.bytes = many.freeze();
        }
        batch
    }

    fn last(&mut self) -> Result<Option<Batch>, Break> {
        match &mut self.lens {
            Lens::Same(meter) if meter.finished() => Ok(None),
            Lens::Same(_) => Err(Break::Short),
            Lens::Other { translator, .. } => {
                let mut out = Vec::new();
                translator.finish(&mut out).map_err(|_| Break::Short)?;
                let batch = Batch { bytes: out.into(), has_content: false, is_end: true };
                Ok((!batch.bytes.is_empty()).then_some(batch))
            }
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        match &self.lens {
            Lens::Same(meter) => meter.usage(),
            Lens::Other { translator, .. } => translator.usage(),
        }
    }

    pub(super) fn finish_reason(&self) -> Option<&'static str> {
        match &self.lens {
            Lens::Same(meter) => meter.finish_reason(),
            Lens::Other { translator, .. } => translator.finish_reason().map(Finish::as_str),
        }
    }

    pub(super) fn lost(&self) -> &[Loss] {
        match &self.lens {
            Lens::Same(_) => &[],
            Lens::Other { translator, .. } => translator.lost(),
        }
    }

    /// The number a further event of a Responses stream would have.
    pub(super) fn next_sequence(&self) -> u64 {
        match &self.lens {
            Lens::Same(meter) => meter.next_sequence(),
            Lens::Other { .. } => 0,
        }
    }
}

impl Lens {
    /// Whether every part of the reply was seen.
    fn is_whole(&self) -> bool {
        match self {
            Self::Same(meter) => meter.finished(),
            Self::Other { translator, .. } => translator.finished(),
        }
    }

    fn look(&mut self, frame: &Frame) -> Result<Look, Break> {
        match self {
            Self::Same(meter) => {
                let seen = meter.observe(frame);
                if seen.invalid {
                    return Err(Break::Invalid("an event's data is not a JSON object".to_owned()));
                }
                if let Some(error) = meter.in_band_error() {
                    let words = error.relay_body.then(|| frame.raw.clone());
                    let is_end = words.is_some() && meter.finished();
                    return Err(Break::Told { error: Box::new(error.clone()), words, is_end });
                }
                // An end marker before every choice has finished: a broken stream must not end like a whole one.
                if seen.end && !meter.finished() {
                    return Err(Break::Short);
                }
                let piece = match seen.relay {
                    Relay::Forward => Piece::Bytes(frame.raw.clone()),
                    Relay::Drop => Piece::Nothing,
                    Relay::Replace(bytes) => Piece::Bytes(bytes),
                };
                Ok(Look { piece, has_content: seen.content, is_end: seen.end })
            }
            Self::Other { translator, upstream } => {
                if !frame.has_data() {
                    return Ok(Look { piece: Piece::Nothing, has_content: false, is_end: false });
                }
                let mut out = Vec::new();
                let data = frame.data();
                let step = translator.event(frame.event(), &data, &mut out).map_err(|error| match error {
                    StreamError::Upstream(_) => {
                        let error = Box::new(fault::classify_event(*upstream, &data));
                        Break::Told { error, words: None, is_end: false }
                    }
                    StreamError::Incomplete => Break::Short,
                    StreamError::InvalidReply { .. } => Break::Invalid(error.to_string()),
                })?;
                Ok(Look { piece: Piece::Bytes(out.into()), has_content: step.content, is_end: step.end })
            }
        }
    }
}
