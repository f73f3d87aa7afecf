use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate::{anthropic_call, likely_json, openai_call, reply};
use super::{events, options};
use crate::call::{Arguments, Part};
use crate::delta::{Delta, Fold};
use crate::reply::Reply;
use crate::translate::{Context, StreamTranslator, request};
use crate::{Dialect, Operation, anthropic, openai};

pub(super) fn context(upstream: Dialect) -> Context {
    let client = match upstream {
        Dialect::Anthropic => Operation::Chat,
        Dialect::OpenAi => Operation::Messages,
    };
    Context {
        client,
        upstream,
        model: "asked".to_owned(),
        created: 1,
        stream: true,
        include_usage: true,
        legacy_functions: false,
        tool_names: Vec::new(),
    }
}

/// Cuts a text into pieces whose lengths come from `cuts`.
fn pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let mut cuts = cuts.iter().cycle();
    let mut rest: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let tail = rest.split_off((*cuts.next().unwrap()).clamp(1, rest.len()));
        pieces.push(rest.into_iter().collect());
        rest = tail;
    }
    pieces
}

/// The steps of a reply, in the order a provider sends them; calls are woven where the wire allows it.
fn steps(reply: &Reply, cuts: &[usize], weave: &[usize]) -> Vec<Delta> {
    let output = &reply.outputs[0];
    let mut steps = vec![Delta::Start { id: reply.id.clone().unwrap(), model: reply.model.clone().unwrap() }];
    let mut woven: Vec<Vec<Delta>> = Vec::new();
    for part in &output.parts {
        match part {
            Part::Text(text) => {
                steps.extend(pieces(&text.text, cuts).into_iter().map(Delta::Text));
                steps.push(Delta::PartEnd);
            }
            Part::Thinking(thinking) => {
                steps.extend(pieces(&thinking.text, cuts).into_iter().map(Delta::Thinking));
                steps.extend(thinking.signature.clone().map(Delta::Signature));
                steps.push(Delta::PartEnd);
            }
            Part::ToolCall(tool) => {
                let call = u32::try_from(woven.len()).unwrap();
                let json = match &tool.arguments {
                    Arguments::Text(text) => text.clone(),
                    Arguments::Json(value) => value.to_string(),
                };
                let mut own = vec![Delta::ToolStart { call, id: tool.id.clone(), name: tool.name.clone() }];
                own.extend(pieces(&json, cuts).into_iter().map(|json| Delta::ToolArguments { call, json }));
                if reply.dialect == Dialect::Anthropic {
                    own.push(Delta::PartEnd);
                }
                woven.push(own);
            }
            other => panic!("{other:?} was not generated"),
        }
    }
    // Calls begin in order; their pieces come in any.
    if reply.dialect == Dialect::OpenAi {
        steps.extend(woven.iter_mut().map(|own| own.remove(0)));
        let mut weave = weave.iter().cycle();
        while woven.iter().any(|own| !own.is_empty()) {
            let at = weave.next().unwrap() % woven.len();
            let at = (at..woven.len()).chain(0..at).find(|at| !woven[*at].is_empty()).unwrap();
            steps.push(woven[at].remove(0));
        }
    } else {
        steps.extend(woven.into_iter().flatten());
    }
    steps.extend(reply.usage.map(Delta::Usage));
    steps.push(Delta::Finish { reason: output.finish.clone().unwrap(), stop_sequence: None });
    steps.push(Delta::End);
    steps
}

fn stream_of(reply: &Reply, cuts: &[usize], weave: &[usize]) -> String {
    let mut out = Vec::new();
    let style =
        openai::chat::stream::Style { created: 1, include_usage: reply.usage.is_some(), legacy_functions: false };
    let mut chat = openai::chat::stream::Encoder::new(style);
    let mut messages = anthropic::stream::Encoder::default();
    for step in steps(reply, cuts, weave) {
        match reply.dialect {
            Dialect::OpenAi => chat.delta(step, &mut out),
            Dialect::Anthropic => messages.delta(step, &mut out).unwrap(),
        }
    }
    String::from_utf8(out).unwrap()
}

fn fold(dialect: Dialect, stream: &str) -> Reply {
    let mut deltas = Vec::new();
    let mut chat = openai::chat::stream::Decoder::default();
    let mut messages = anthropic::stream::Decoder::default();
    for (name, data) in events(stream) {
        match dialect {
            Dialect::OpenAi => chat.event(data.as_bytes(), &mut deltas).unwrap(),
            Dialect::Anthropic => messages.event(name.as_deref(), data.as_bytes(), &mut deltas).unwrap(),
        }
    }
    assert_eq!(deltas.last(), Some(&Delta::End));
    let mut fold = Fold::default();
    deltas.into_iter().for_each(|delta| fold.push(delta));
    fold.into_reply(dialect)
}

/// What a reader gets out of a reply, whichever way it was written down. Counts are left to the caller.
fn gist(reply: &Reply) -> Value {
    let output = &reply.outputs[0];
    let parts: Vec<Value> = output
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => json!(["text", text.text]),
            Part::Thinking(thinking) => json!(["thinking", thinking.text]),
            Part::ToolCall(call) => {
                let input = match &call.arguments {
                    Arguments::Text(text) => serde_json::from_str(text).unwrap(),
                    Arguments::Json(value) => value.clone(),
                };
                json!(["call", call.id, call.name, input])
            }
            other => panic!("{other:?} was not generated"),
        })
        .collect();
    json!({ "id": reply.id, "model": reply.model, "parts": parts, "finish": format!("{:?}", output.finish) })
}

fn whole_and_streamed_agree(upstream: Reply, cuts: &[usize], weave: &[usize]) {
    let dialect = upstream.dialect;
    let stream = stream_of(&upstream, cuts, weave);
    let body = match dialect {
        Dialect::OpenAi => openai::chat::reply::encode(upstream),
        Dialect::Anthropic => anthropic::reply::encode(upstream),
    };

    let whole = crate::translate::reply(&context(dialect), body.to_string().as_bytes()).unwrap();
    let mut translator = StreamTranslator::new(context(dialect));
    let mut out = Vec::new();
    for (name, data) in events(&stream) {
        translator.event(name.as_deref(), data.as_bytes(), &mut out).unwrap();
    }
    translator.finish(&mut out).unwrap();

    let body = serde_json::from_slice(&whole.body).unwrap();
    let (client, decoded) = match dialect {
        Dialect::OpenAi => (Dialect::Anthropic, anthropic::reply::decode(body).unwrap()),
        Dialect::Anthropic => (Dialect::OpenAi, openai::chat::reply::decode(body).unwrap()),
    };
    let folded = fold(client, std::str::from_utf8(&out).unwrap());
    assert_eq!(gist(&folded), gist(&decoded));
    assert_eq!(folded.usage.unwrap_or_default(), decoded.usage.unwrap_or_default());
    assert_eq!(translator.finish_reason(), whole.finish.as_ref());
}

proptest! {
    #[test]
    fn a_chat_request_reads_back_as_it_was_written(call in openai_call()) {
        prop_assert_eq!(openai::chat::request::decode(openai::chat::request::encode(call.clone())), Ok(call));
    }

    #[test]
    fn a_message_request_reads_back_as_it_was_written(call in anthropic_call()) {
        prop_assert_eq!(anthropic::request::decode(anthropic::request::encode(call.clone())), Ok(call));
    }

    #[test]
    fn replies_read_back_as_they_were_written(openai in reply(Dialect::OpenAi), anthropic in reply(Dialect::Anthropic)) {
        let read = openai::chat::reply::decode(openai::chat::reply::encode(openai.clone())).unwrap();
        prop_assert_eq!(Reply { usage_wire: None, ..read }, openai);
        let mut read = anthropic::reply::decode(anthropic::reply::encode(anthropic.clone())).unwrap();
        // The wire always says `stop_sequence`, if only `null`.
        read.extra.shift_remove("stop_sequence");
        prop_assert_eq!(Reply { usage_wire: None, ..read }, anthropic);
    }

    #[test]
    fn a_stream_reads_back_as_it_was_written_however_it_is_cut(
        openai in reply(Dialect::OpenAi),
        anthropic in reply(Dialect::Anthropic),
        cuts in vec(1..9_usize, 1..9),
        weave in vec(0..4_usize, 1..9),
    ) {
        for reply in [openai, anthropic] {
            let folded = fold(reply.dialect, &stream_of(&reply, &cuts, &weave));
            prop_assert_eq!(gist(&folded), gist(&reply));
            prop_assert_eq!(folded.usage.unwrap_or_default(), reply.usage.unwrap_or_default());
        }
    }

    #[test]
    fn a_reply_translates_alike_whole_and_streamed(
        openai in reply(Dialect::OpenAi),
        anthropic in reply(Dialect::Anthropic),
        cuts in vec(1..9_usize, 1..9),
        weave in vec(0..4_usize, 1..9),
    ) {
        whole_and_streamed_agree(openai, &cuts, &weave);
        whole_and_streamed_agree(anthropic, &cuts, &weave);
    }

    #[test]
    fn a_translated_request_is_one_of_its_new_wire(chat in openai_call(), messages in anthropic_call(), drop in any::<bool>()) {
        let options = crate::translate::RequestOptions { drop_params: drop, ..options() };
        let body = openai::chat::request::encode(chat).to_string();
        if let Ok(translated) = request(Operation::Chat, Dialect::Anthropic, body.as_bytes(), &options) {
            let read = anthropic::request::decode(serde_json::from_slice(&translated.body).unwrap());
            prop_assert!(read.is_ok(), "{read:?}");
        }
        let body = anthropic::request::encode(messages).to_string();
        if let Ok(translated) = request(Operation::Messages, Dialect::OpenAi, body.as_bytes(), &options) {
            let read = openai::chat::request::decode(serde_json::from_slice(&translated.body).unwrap());
            prop_assert!(read.is_ok(), "{read:?}");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_before_its_end_is_never_finished(
        openai in reply(Dialect::OpenAi),
        anthropic in reply(Dialect::Anthropic),
        at in any::<prop::sample::Index>(),
    ) {
        for reply in [openai, anthropic] {
            let upstream = reply.dialect;
            let all = events(&stream_of(&reply, &[3], &[0]));
            // OpenAI's end is the finish reason, Anthropic's the last event.
            let end = match upstream {
                Dialect::OpenAi => all.iter().position(|(_, data)| !data.contains("\"finish_reason\":null")).unwrap(),
                Dialect::Anthropic => all.len() - 1,
            };
            let mut translator = StreamTranslator::new(context(upstream));
            let mut out = Vec::new();
            for (name, data) in all.iter().take(at.index(end + 1)) {
                translator.event(name.as_deref(), data.as_bytes(), &mut out).unwrap();
            }
            let before = out.clone();
            prop_assert!(translator.finish(&mut out).is_err() && !translator.finished());
            prop_assert_eq!(&out, &before);
            let text = String::from_utf8(out).unwrap();
            let ends = ["message_stop", "[DONE]", "\"finish_reason\":\""];
            prop_assert!(!ends.iter().any(|end| text.contains(end)), "{}", text);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), likely in vec(likely_json(), 1..6)) {
        let texts = likely.iter().map(|value| value.to_string().into_bytes());
        for body in std::iter::once(bytes).chain(texts.clone()) {
            for (from, to) in [(Operation::Chat, Dialect::Anthropic), (Operation::Messages, Dialect::OpenAi)] {
                request(from, to, &body, &options()).map_or_else(drop, drop);
            }
            for upstream in [Dialect::OpenAi, Dialect::Anthropic] {
                crate::translate::reply(&context(upstream), &body).map_or_else(drop, drop);
            }
        }
        for upstream in [Dialect::OpenAi, Dialect::Anthropic] {
            let mut translator = StreamTranslator::new(context(upstream));
            let mut out = Vec::new();
            for data in texts.clone() {
                translator.event(None, &data, &mut out).map_or_else(drop, drop);
            }
            translator.finish(&mut out).map_or_else(drop, drop);
        }
    }
}

#[test]
fn only_two_pairs_translate() {
    use crate::translate::TranslateError::UnsupportedOperation;

    for from in [Operation::Completions, Operation::Responses, Operation::Embeddings, Operation::CountTokens] {
        for to in [Dialect::OpenAi, Dialect::Anthropic] {
            assert!(matches!(request(from, to, b"{}", &options()), Err(UnsupportedOperation { .. })));
        }
    }
}
