//! Any chunking of any bytes gives the same frames, and no byte is lost or doubled.

use bytes::Bytes;
use troupe_dialect::sse::{Frame, FrameError, Framer};

const LIMIT: usize = 256;

fn cut(stream: &[u8], chunk: usize) -> (Vec<Result<Frame, FrameError>>, bool) {
    let mut framer = Framer::new(LIMIT);
    let mut frames = Vec::new();
    for chunk in stream.chunks(chunk) {
        framer.push(Bytes::copy_from_slice(chunk));
        frames.extend(std::iter::from_fn(|| framer.next()));
    }
    framer.finish();
    frames.extend(std::iter::from_fn(|| framer.next()));
    (frames, framer.has_partial())
}

/// Holds one input to it.
pub(crate) fn run(input: (u8, &[u8])) {
    let (chunk, stream) = (usize::from(input.0).max(1), input.1);
    let whole = cut(stream, usize::MAX);
    assert_eq!(whole, cut(stream, chunk));

    let relayed: Vec<u8> = whole.0.iter().flatten().flat_map(|frame| frame.raw.to_vec()).collect();
    let came = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    assert!(relayed.is_empty() || came.starts_with(&relayed));
    for frame in whole.0.iter().flatten() {
        assert!(frame.data().len() <= frame.raw.len());
        let _ = (frame.event(), frame.is_comment_only());
    }
}
