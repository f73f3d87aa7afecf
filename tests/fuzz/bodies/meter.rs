//! No stream and no reply panics the meter; what it hands on instead of an event is still one event.

use bytes::Bytes;
use troupe_dialect::Operation;
use troupe_dialect::meter::{Relay, StreamMeter, reply_usage};
use troupe_dialect::sse::{Frame, Framer};

fn check(op: Operation, stream: &[u8]) {
    let mut framer = Framer::new(1 << 16);
    let mut meter = StreamMeter::new(op, true);
    framer.push(Bytes::copy_from_slice(stream));
    framer.finish();
    while let Some(Ok(frame)) = framer.next() {
        if let Relay::Replace(bytes) = meter.observe(&frame).relay {
            let replaced = Frame::parse(bytes);
            assert_eq!(replaced.event(), frame.event());
            assert!(replaced.has_data() && replaced.data().len() < frame.data().len());
        }
    }
    let _ = (meter.finished(), meter.usage(), meter.model(), meter.next_sequence());
}

/// Holds one input to it.
pub(crate) fn run(input: &[u8]) {
    for op in [Operation::Chat, Operation::Completions, Operation::Responses, Operation::Messages] {
        check(op, input);
        drop(reply_usage(op, input));
    }
    // Most inputs are no event; wrapped in one, they reach the readers of its data.
    let mut stream = Vec::new();
    troupe_dialect::sse::event(&mut stream, None, input);
    for op in [Operation::Chat, Operation::Responses, Operation::Messages] {
        check(op, &stream);
    }
}
