//! The bytes each wire's clients understand, and no others: the wrong keep-alive crashes an official SDK.

use bytes::BufMut;

use crate::Operation;

/// Appends one event to `out`; a line end within `data` starts a further `data` line.
///
/// OpenAI's chat wire has no names, Anthropic's and Responses need them.
pub fn event(out: &mut impl BufMut, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\n");
    }
    for line in data.split(|byte| *byte == b'\n') {
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_slice(b"\n");
    }
    out.put_slice(b"\n");
}

/// What keeps a silent stream of this operation open; empty for operations that do not stream.
pub const fn keep_alive(op: Operation) -> &'static [u8] {
    match op {
        Operation::Chat | Operation::Completions | Operation::Responses => b": ka\n\n",
        Operation::Messages => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Operation::Embeddings | Operation::CountTokens => b"",
    }
}

/// The marker that follows the last event of a finished stream, where the wire has one.
pub const fn done(op: Operation) -> Option<&'static [u8]> {
    match op {
        Operation::Chat | Operation::Completions => Some(b"data: [DONE]\n\n"),
        Operation::Responses | Operation::Messages | Operation::Embeddings | Operation::CountTokens => None,
    }
}
