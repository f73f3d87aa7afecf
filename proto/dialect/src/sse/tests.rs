use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::Operation;

const LIMIT: usize = 1 << 16;

/// Pushes the chunks and collects every frame; whether bytes were left over comes with them.
fn cut<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> (Vec<Result<Frame, FrameError>>, bool) {
    let mut framer = Framer::new(limit);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.push(Bytes::copy_from_slice(chunk));
        frames.extend(std::iter::from_fn(|| framer.next()));
    }
    framer.finish();
    frames.extend(std::iter::from_fn(|| framer.next()));
    (frames, framer.has_partial())
}

fn whole(stream: &[u8]) -> Vec<Frame> {
    cut([stream], LIMIT).0.into_iter().map(Result::unwrap).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each `fixtures/sse/<case>.stream` has its frames, one a line, in `<case>.frames`: `event|data`, `#` for one without
/// fields, `-` for what is absent, and a last line `partial` if the stream was cut.
#[test]
fn every_fixture_cuts_into_its_frames() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sse");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "stream") {
            continue;
        }
        let (frames, partial) = cut([fs::read(&path).unwrap().as_slice()], LIMIT);
        let mut lines: Vec<String> = frames.into_iter().map(|frame| describe(&frame.unwrap())).collect();
        lines.extend(partial.then(|| "partial".to_owned()));
        let expected = fs::read_to_string(path.with_extension("frames")).unwrap();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{}", path.display());
        cases += 1;
    }
    assert!(cases >= 8, "the fixtures are gone");
}

fn describe(frame: &Frame) -> String {
    if frame.is_comment_only() {
        return "#".to_owned();
    }
    let data = if frame.has_data() { text(&frame.data()).replace('\n', "\\n") } else { "-".to_owned() };
    format!("{}|{data}", frame.event().unwrap_or("-"))
}

#[test]
fn an_event_within_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"data: one\n\ndata: two\n\n");
    let mut framer = Framer::new(LIMIT);
    framer.push(chunk.clone());

    let first = framer.next().unwrap().unwrap();
    let second = framer.next().unwrap().unwrap();

    assert_eq!(first.raw.as_ptr(), chunk.as_ptr());
    assert_eq!(second.raw.as_ptr(), chunk.slice(11..).as_ptr());
    assert!(framer.next().is_none() && !framer.has_partial());
}

#[test]
fn an_event_without_its_blank_line_never_comes_out() {
    let (frames, partial) = cut([b"data: whole\n\ndata: cut\n".as_slice()], LIMIT);

    assert_eq!(frames.len(), 1);
    assert!(partial);
}

#[test]
fn a_crlf_cut_in_two_belongs_to_the_event_it_ends() {
    let (frames, partial) = cut([b"data: a\r\n\r".as_slice(), b"\ndata: b\r\n\r\n"], LIMIT);

    let raw: Vec<_> = frames.into_iter().map(|frame| frame.unwrap().raw).collect();
    assert_eq!(raw, [b"data: a\r\n\r\n".as_slice(), b"data: b\r\n\r\n"]);
    assert!(!partial);
}

#[test]
fn a_stream_of_bare_crs_is_not_an_event_late() {
    let mut framer = Framer::new(LIMIT);
    framer.push(Bytes::from_static(b"data: a\r\r"));

    assert_eq!(framer.next().unwrap().unwrap().data(), b"a".as_slice());
}

#[test]
fn an_event_beyond_the_limit_ends_the_stream_with_one_error() {
    let (frames, _) = cut([b"data: ok\n\ndata: much".as_slice(), b" too long\n\ndata: x\n\n"], 12);

    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1], Err(FrameError::TooLarge { limit: 12 }));
}

#[test]
fn each_wire_has_the_keep_alive_and_the_end_its_sdks_understand() {
    assert_eq!(keep_alive(Operation::Chat), b": ka\n\n");
    assert_eq!(keep_alive(Operation::Responses), b": ka\n\n");
    assert_eq!(keep_alive(Operation::Messages), b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
    assert_eq!(done(Operation::Chat), Some(b"data: [DONE]\n\n".as_slice()));
    assert_eq!(done(Operation::Responses), None);
    assert_eq!(done(Operation::Messages), None);
}

/// Streams of lines with every kind of line end, now and then a blank one.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("data: {\"a\":1}"),
        Just("data:x"),
        Just("data"),
        Just("event: ping"),
        Just(": ka"),
        Just("id: 7"),
        Just("\u{feff}"),
        Just(""),
        Just(""),
    ];
    let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r")];
    prop::collection::vec((line, end), 0..24)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end]).collect::<String>().into_bytes())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_frames(stream in stream(), cuts in prop::collection::vec(0_usize..400, 0..12)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]);

        prop_assert_eq!(cut(chunks, LIMIT), cut([stream.as_slice()], LIMIT));
        prop_assert_eq!(cut(stream.chunks(1), LIMIT), cut([stream.as_slice()], LIMIT));
        prop_assert_eq!(cut(stream.chunks(1), 9), cut([stream.as_slice()], 9));
    }

    #[test]
    fn no_byte_is_lost_or_doubled(stream in stream()) {
        let relayed: Vec<u8> = whole(&stream).iter().flat_map(|frame| frame.raw.to_vec()).collect();
        let came = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&stream);

        prop_assert!(came.starts_with(&relayed) || relayed.is_empty());
    }

    #[test]
    fn what_is_written_is_read_again(name in prop::option::of("[a-z_.]{1,12}"), data in "[^\r]{0,60}") {
        let mut out = BytesMut::new();
        event(&mut out, name.as_deref(), data.as_bytes());

        let frames = whole(&out);

        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(frames[0].event(), name.as_deref());
        prop_assert_eq!(text(&frames[0].data()), data);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        for frame in cut(bytes.chunks(3), 64).0.into_iter().flatten() {
            prop_assert!(frame.data().len() <= frame.raw.len());
            let _ = (frame.event(), frame.is_comment_only());
        }
    }
}
