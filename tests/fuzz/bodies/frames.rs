//! However a stream is cut, the same frames come out of it and it ends in the same error; what came out is what went in.

use troupe_cluster::transport::frame::{Decoder, Frame, HEAD_BYTES, Kind};
use troupe_cluster::transport::{Rejected, hello};

/// As on a connection of strangers or of friends.
const LIMIT: usize = 1 << 10;

/// Holds one input to it.
pub(crate) fn run((cut, input): (u8, &[u8])) {
    let (whole, end) = read(input, input.len());
    assert_eq!(read(input, usize::from(cut)), (whole.clone(), end));

    let mut again = Vec::new();
    for frame in &whole {
        assert!(frame.body.len() <= LIMIT + HEAD_BYTES + 64);
        again.extend_from_slice(&frame.head().expect("a frame that was read is short enough to write"));
        again.extend_from_slice(&frame.body);
        if frame.kind == Kind::Hello
            && let Ok(said) = hello::read(&frame.body)
        {
            let bytes = troupe_proto::wire::encode(&said).expect("a Hello that was read is short enough to write");
            assert_eq!(hello::read(&bytes), Ok(said));
        }
        // Any bytes are some reason.
        frame.reason();
    }
    assert!(input.starts_with(&again));
}

fn read(input: &[u8], cut: usize) -> (Vec<Frame>, Option<Rejected>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut frames = Vec::new();
    for mut piece in input.chunks(cut.max(1)) {
        loop {
            match decoder.take(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(reason) => return (frames, Some(reason)),
            }
        }
        assert!(piece.is_empty(), "a decoder that wants more leaves nothing");
    }
    (frames, None)
}
