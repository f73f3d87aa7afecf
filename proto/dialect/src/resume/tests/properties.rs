//! Whatever is said and wherever it breaks: the client reads the same text, with one start and one end.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use troupe_proto::outcome::Usage;
use troupe_proto::unit::Tokens;

use super::{decoded, frames, heard, stitched};
use crate::Operation;
use crate::delta::{Delta, Fold};
use crate::openai::chat::stream::Style;
use crate::reply::Finish;
use crate::resume::{Join, Stitch, anchor, continuation};
use crate::{anthropic, openai};

/// How a model takes a request for the rest.
#[derive(Clone, Copy, Debug)]
enum Model {
    /// It does what it was asked for.
    Obeys,
    /// It repeats all of the text so far.
    RepeatsAll,
}

/// A stream of `text`, cut into pieces of `piece` characters.
fn stream(op: Operation, id: &str, text: &str, piece: usize, usage: Usage) -> Vec<u8> {
    let chars: Vec<char> = text.chars().collect();
    let pieces = chars.chunks(piece).map(|piece| Delta::Text(piece.iter().collect()));
    let start = Delta::Start { id: id.to_owned(), model: format!("model of {id}") };
    let end =
        [Delta::PartEnd, Delta::Finish { reason: Finish::Stop, stop_sequence: None }, Delta::Usage(usage), Delta::End];
    let mut out = Vec::new();
    let mut messages = anthropic::stream::Encoder::default();
    let style = Style { created: 7, include_usage: true, legacy_functions: false };
    let mut chat = openai::chat::stream::Encoder::new(style);
    for delta in std::iter::once(start).chain(pieces).chain(end) {
        match op {
            Operation::Messages => messages.delta(delta, &mut out).unwrap(),
            _ => chat.delta(delta, &mut out),
        }
    }
    out
}

fn request(op: Operation) -> Bytes {
    let body = match op {
        Operation::Messages => {
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Say it."}],"stream":true}"#
        }
        _ => r#"{ "stream": true, "messages": [ {"role": "user", "content": "Say it."} ], "model": "m" }"#,
    };
    Bytes::from_static(body.as_bytes())
}

/// What a model answers to a request for the rest of `whole`, read from that request alone.
fn answer(body: &[u8], join: Join, whole: &str, model: Model) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let turns = body["messages"].as_array().unwrap();
    let content = |from_end: usize| turns[turns.len() - from_end]["content"].as_str().unwrap();
    let (said, asked) = match join {
        Join::Anew => return whole.to_owned(),
        Join::Prefill => (content(1), ""),
        Join::Ask => (content(2), content(1).split_once("\n---\n").unwrap().1),
    };
    let rest = whole.strip_prefix(said).unwrap();
    match model {
        Model::RepeatsAll => whole.to_owned(),
        Model::Obeys => format!("{asked}{rest}"),
    }
}

fn text_of(op: Operation, stream: &[u8]) -> String {
    let deltas = decoded(op, stream);
    let count = |is: fn(&Delta) -> bool| deltas.iter().filter(|delta| is(delta)).count();
    assert_eq!(count(|delta| matches!(delta, Delta::Start { .. })), 1);
    assert_eq!(count(|delta| matches!(delta, Delta::Finish { .. })), 1);
    assert_eq!(count(|delta| matches!(delta, Delta::End)), 1);
    assert_eq!(deltas.last(), Some(&Delta::End));
    let mut fold = Fold::default();
    let mut text = String::new();
    for delta in deltas {
        if let Delta::Text(more) = &delta {
            text += more;
        }
        fold.push(delta);
    }
    let reply = fold.into_reply(op.dialect());
    assert_eq!(reply.id.as_deref(), Some("first"));
    assert_eq!(reply.model.as_deref(), Some("model of first"));
    text
}

/// Cuts a stream of `text` behind its event number `cut`, resumes it, and gives what the client reads.
fn resumed(
    op: Operation,
    text: &str,
    pieces: [usize; 2],
    cut: usize,
    can_prefill: bool,
    model: Model,
) -> Option<Vec<u8>> {
    let none = Usage::default();
    let first: Vec<u8> =
        frames(&stream(op, "first", text, pieces[0], none)).iter().take(cut).flat_map(|f| f.raw.to_vec()).collect();
    let heard = heard(op, &first);
    heard.can_resume().ok()?;
    let asked = continuation(&request(op), &heard, can_prefill).unwrap();
    let usage = Usage { input: Tokens::new(50), output: Tokens::new(5), ..none };
    let second = stream(op, "second", &answer(&asked.body, asked.join, text, model), pieces[1], usage);
    let mut stitch = Stitch::new(heard, asked.join);
    let rest = stitched(&mut stitch, &second).unwrap();
    assert_eq!(stitch.heard().text(), text);
    Some([first, rest].concat())
}

proptest! {
    #[test]
    fn a_text_that_broke_anywhere_is_read_whole(
        words in proptest::collection::vec("[a-zé]{1,9}[,.]?[ \n]{0,3}", 1..60),
        pieces in [1_usize..12, 1_usize..40],
        cut in 1_usize..80,
        op in prop_oneof![Just(Operation::Chat), Just(Operation::Messages)],
        can_prefill in any::<bool>(),
    ) {
        let text = words.concat();
        if let Some(stream) = resumed(op, &text, pieces, cut, can_prefill, Model::Obeys) {
            prop_assert_eq!(text_of(op, &stream), text);
        }
    }

    #[test]
    fn a_text_that_is_said_again_from_its_start_is_read_once(
        words in proptest::collection::hash_set("[a-z]{4,9} ", 8..40),
        pieces in [1_usize..12, 1_usize..40],
        cut in 10_usize..60,
        op in prop_oneof![Just(Operation::Chat), Just(Operation::Messages)],
    ) {
        let text: String = words.into_iter().collect();
        if let Some(stream) = resumed(op, &text, pieces, cut, false, Model::RepeatsAll) {
            prop_assert_eq!(text_of(op, &stream), text);
        }
    }

    #[test]
    fn a_leg_that_breaks_too_is_resumed_from_where_it_got(
        words in proptest::collection::vec("[a-z]{1,9}[ \n]{0,2}", 20..60),
        cuts in [3_usize..20, 3_usize..20],
        op in prop_oneof![Just(Operation::Chat), Just(Operation::Messages)],
        can_prefill in any::<bool>(),
    ) {
        let text = words.concat();
        let leg = |id: &str, text: &str, cut: usize| -> Vec<u8> {
            frames(&stream(op, id, text, 3, Usage::default())).iter().take(cut).flat_map(|f| f.raw.to_vec()).collect()
        };
        let mut client = leg("first", &text, cuts[0]);
        let mut so_far = heard(op, &client);
        for (id, cut) in [("second", cuts[1]), ("third", usize::MAX)] {
            prop_assume!(so_far.can_resume().is_ok());
            let asked = continuation(&request(op), &so_far, can_prefill).unwrap();
            let events = leg(id, &answer(&asked.body, asked.join, &text, Model::Obeys), cut);
            let mut stitch = Stitch::new(so_far, asked.join);
            client.extend(stitched(&mut stitch, &events).unwrap());
            so_far = stitch.into_heard();
        }

        prop_assert_eq!(text_of(op, &client), text);
    }

    #[test]
    fn an_anchor_ends_a_text_and_is_bounded(text in ".{0,200}") {
        let words = anchor(&text);
        prop_assert!(text.trim().ends_with(words) && words.len() <= 80);
        prop_assert_eq!(words.is_empty(), text.trim().is_empty());
    }

    #[test]
    fn foreign_bytes_never_panic(first in any::<Vec<u8>>(), second in "(data: .{0,30}\n\n){0,5}", text in ".{0,40}") {
        for op in [Operation::Chat, Operation::Completions, Operation::Messages, Operation::Responses] {
            for join in [Join::Anew, Join::Prefill, Join::Ask] {
                let mut stitch = Stitch::new(heard(op, &first), join);
                stitched(&mut stitch, second.as_bytes()).ok();
                continuation(&Bytes::from(text.clone().into_bytes()), stitch.heard(), true).ok();
            }
        }
    }
}
