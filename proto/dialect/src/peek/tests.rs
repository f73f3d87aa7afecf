use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::DEPTH_MAX;

const ALL_EDITS: Edits<'static> = Edits { model: Some("served \"model\""), include_usage: true };

fn operation(word: &str) -> Operation {
    use Operation::{Chat, Completions, CountTokens, Embeddings, Messages, Responses};
    let all = [Chat, Completions, Responses, Embeddings, Messages, CountTokens];
    all.into_iter().find(|op| op.as_str() == word).unwrap()
}

fn chat(body: &str) -> Result<Peeked, BadBody> {
    peek(Operation::Chat, &Bytes::copy_from_slice(body.as_bytes()))
}

fn edited(body: &str) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let out = peek(Operation::Chat, &body).unwrap().edit(&body, &ALL_EDITS);
    String::from_utf8(out.to_vec()).unwrap()
}

/// `fixtures/peek/<operation>/<case>.json` is a request; `<case>.seen` says in its first line what is read of it, or
/// why it is refused, and in the lines after that what the request is with every edit made.
#[test]
fn every_fixture_is_read_and_edited_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/peek");
    let mut cases = 0;
    for folder in fs::read_dir(folder).unwrap() {
        let folder = folder.unwrap();
        let op = operation(folder.file_name().to_str().unwrap());
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let seen = describe(op, &Bytes::from(fs::read(&path).unwrap()));
            let expected = fs::read_to_string(path.with_extension("seen")).unwrap();
            assert_eq!(seen.trim_end(), expected.trim_end(), "{}", path.display());
            cases += 1;
        }
    }
    assert!(cases >= 20, "the fixtures are gone");
}

fn describe(op: Operation, body: &Bytes) -> String {
    match peek(op, body) {
        Err(bad) => format!("{} [{}] {}", bad.code.as_str(), bad.param.as_deref().unwrap_or("-"), bad.message),
        Ok(peeked) => {
            let head = format!(
                "model={} stream={} include_usage={} max_tokens={:?} n={:?}",
                peeked.model, peeked.stream, peeked.include_usage, peeked.max_tokens, peeked.n
            );
            format!("{head}\n{}", String::from_utf8_lossy(&peeked.edit(body, &ALL_EDITS)))
        }
    }
}

#[test]
fn a_body_without_a_change_is_the_same_bytes() {
    let body =
        Bytes::from_static(br#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#);
    let peeked = peek(Operation::Chat, &body).unwrap();

    let out = peeked.edit(&body, &Edits { model: Some("m"), include_usage: true });

    assert_eq!(out.as_ptr(), body.as_ptr());
    assert!(!peeked.usage_can_be_added());
}

#[test]
fn usage_is_not_asked_for_where_there_is_no_stream() {
    let body = r#"{"model":"served \"model\"","messages":[]}"#;

    assert_eq!(edited(body), body);
    assert!(!chat(body).unwrap().usage_can_be_added());
}

#[test]
fn a_member_that_is_not_read_may_be_of_any_type() {
    let body = r#"{"model":"m","messages":[7],"max_tokens":"many","n":-1,"temperature":{},"tools":null}"#;

    let peeked = chat(body).unwrap();

    assert_eq!((peeked.max_tokens, peeked.n), (None, None));
}

#[test]
fn an_ordinary_request_is_scanned() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a \"word\"\n"}],"temperature":0.7,"stream":true,
        "stream_options":{"include_usage":true},"max_tokens":5,"tools":[{"type":"function","function":{"name":"f"}}]}"#;

    assert!(Members::scanned(Operation::Chat, body).is_some());
}

/// A request with one more member, or with another value for one it has.
fn with_member(name: &str, value: &str) -> Bytes {
    let rest = [("model", "\"m\""), ("messages", "[]"), ("input", "[]")];
    let rest = rest.iter().filter(|(known, _)| *known != name).map(|(name, value)| format!("{name:?}:{value}"));
    let members: Vec<_> = rest.chain([format!("{name:?}:{value}")]).collect();
    Bytes::from(format!("{{{}}}", members.join(",")))
}

const READ_MEMBERS: [&str; 11] = [
    "model",
    "messages",
    "input",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "metadata",
    "prompt",
];

#[test]
fn a_name_that_is_there_twice_is_refused_in_every_member() {
    for op in ["chat", "completions", "responses", "embeddings", "messages", "count_tokens"].map(operation) {
        for name in READ_MEMBERS {
            for value in [r#"{"a":1,"a":2}"#, r#"[{"b":[{"a":1,"\u0061":2}]}]"#, r#"{"x":{"a":1,"a":2}}"#] {
                let refused = peek(op, &with_member(name, value)).map(|_| ()).unwrap_err();

                // What may be no list and no object is refused for that first.
                let code = if refused.param.as_deref() == Some(name) {
                    ErrorCode::InvalidField
                } else {
                    ErrorCode::DuplicateKey
                };
                assert_eq!(refused.code, code, "{op:?} {name} {value}");
            }
        }
    }
    let twice = chat(r#"{"model":"m","n":{"a":1,"a":2},"messages":[]}"#).unwrap_err();
    assert_eq!((twice.code, twice.param.as_deref()), (ErrorCode::DuplicateKey, Some("n.a")));
}

#[test]
fn what_nests_too_deeply_is_refused_in_every_member_at_the_same_depth() {
    let nested = |name: &str, depth: usize| match name {
        "stream_options" => format!(r#"{{"x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1)),
        _ => format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
    };
    for op in ["chat", "completions", "responses", "embeddings", "messages", "count_tokens"].map(operation) {
        for name in READ_MEMBERS {
            for depth in [DEPTH_MAX - 2, DEPTH_MAX - 1, 3000] {
                let body = with_member(name, &nested(name, depth));
                let reads = json::check(&body).is_ok();
                assert_eq!(reads, depth == DEPTH_MAX - 2);
                let seen = peek(op, &body);
                if !reads {
                    assert!(seen.is_err(), "{op:?} {name} {depth}");
                } else if !matches!(name, "model" | "stream") {
                    assert!(seen.is_ok(), "{op:?} {name} {depth}: {seen:?}");
                }
            }
        }
    }
    let deep = Bytes::from(format!(r#"{{"model":"m","max_tokens":{},"messages":[]}}"#, nested("", 3000)));
    assert_eq!(peek(Operation::Chat, &deep).unwrap_err().code, ErrorCode::InvalidJson);
}

#[test]
fn a_limit_is_read_where_it_is_a_whole_number() {
    let numbers = [("7", Some(7)), ("0", Some(0)), ("-1", None), ("7.0", None), ("1e2", None), ("true", None)];
    for (text, number) in numbers.into_iter().chain([("18446744073709551615", Some(u64::MAX)), ("{}", None)]) {
        let peeked = chat(&format!(r#"{{"model":"m","messages":[],"n":{text},"max_tokens":{text}}}"#)).unwrap();

        assert_eq!((peeked.n, peeked.max_tokens), (number, number), "{text}");
    }
}

#[test]
fn the_members_of_another_operation_mean_nothing() {
    let body = Bytes::from_static(br#"{"model":"m","input":"x","stream":7,"stream_options":1}"#);

    assert!(!peek(Operation::Embeddings, &body).unwrap().stream);
}

/// Requests with the members the gateway edits in any order and any state, among others.
fn request() -> impl Strategy<Value = String> {
    let options = prop_oneof![
        Just(None),
        Just(Some("null")),
        Just(Some("{}")),
        Just(Some("{ }")),
        Just(Some(r#"{"include_obfuscation":false}"#)),
        Just(Some(r#"{"include_usage":false}"#)),
        Just(Some(r#"{ "x" : 1 , "include_usage" : null }"#)),
        Just(Some(r#"{"include\u005fusage":false,"x":"}"}"#)),
        Just(Some(r#"{"include_usage":true}"#)),
    ];
    let space = prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("\n\t")];
    (options, any::<bool>(), "[a-z\"\\\\é]{1,6}", 0_usize..24, space).prop_map(
        |(options, stream, model, order, space)| {
            let mut members = vec![
                format!(r#""model"{space}:{space}{}"#, Value::from(model)),
                r#""messages":[{"role":"user","content":"\"model\":\"x\", \"stream_options\":null é}"}]"#.to_owned(),
                format!(r#""stream":{stream}"#),
            ];
            members.extend(options.map(|options| format!(r#""stream_options"{space}:{options}"#)));
            let places = members.len();
            members.rotate_left(order % places);
            members.swap(0, order / 6 % places);
            format!("{space}{{{space}{}{space}}}{space}", members.join(&format!("{space},{space}")))
        },
    )
}

/// The request as a tree with the edits made by the rules, not by the bytes.
fn edited_tree(mut tree: Value) -> Value {
    let streams = tree["stream"] == json!(true);
    tree["model"] = json!(ALL_EDITS.model);
    if streams {
        if tree["stream_options"].is_null() {
            tree["stream_options"] = json!({});
        }
        tree["stream_options"]["include_usage"] = json!(true);
    }
    tree
}

proptest! {
    #[test]
    fn an_edit_changes_what_it_names_and_nothing_else(body in request()) {
        let before: Value = serde_json::from_str(&body).unwrap();

        let after: Value = serde_json::from_str(&edited(&body)).unwrap();

        prop_assert_eq!(after, edited_tree(before));
    }

    #[test]
    fn all_other_bytes_stay_as_they_came(body in request()) {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let peeked = peek(Operation::Chat, &bytes).unwrap();
        let out = peeked.edit(&bytes, &ALL_EDITS);

        // Undo the edits at the places that were noted, by the lengths of what was put there.
        let model = Value::from(ALL_EDITS.model).to_string();
        let mut edits = vec![(peeked.model_at.clone(), model.len())];
        edits.extend(peeked.usage_edit.iter().map(|(at, text)| (at.clone(), text.len())));
        edits.sort_by_key(|(at, _)| at.start);
        let (mut undone, mut from) = (Vec::new(), 0);
        for (at, length) in edits {
            let kept = at.start - undone.len();
            undone.extend_from_slice(&out[from..from + kept]);
            undone.extend_from_slice(&bytes[at]);
            from += kept + length;
        }
        undone.extend_from_slice(&out[from..]);
        prop_assert_eq!(undone, bytes.to_vec());
    }

    #[test]
    fn what_is_scanned_is_read_as_the_full_reader_reads_it(text in crate::json::arbitrary::text()) {
        for op in ["chat", "completions", "responses", "embeddings", "messages", "count_tokens"].map(operation) {
            if let Some(scanned) = Members::scanned(op, &text) {
                prop_assert_eq!(Ok(scanned), Members::walked(op, &text));
            }
        }
    }

    #[test]
    fn foreign_bytes_never_panic_and_what_is_accepted_stays_acceptable(
        bytes in any::<Vec<u8>>(),
        text in r#"\{"model":"m",("(messages|input)":\[\],)?("stream":true,)?[\[\]{}",:a0\\u ]{0,9}"a":1\}"#,
    ) {
        for op in ["chat", "completions", "responses", "embeddings", "messages", "count_tokens"].map(operation) {
            for body in [Bytes::copy_from_slice(&bytes), Bytes::copy_from_slice(text.as_bytes())] {
                let Ok(peeked) = peek(op, &body) else { continue };
                prop_assert!(peek(op, &peeked.edit(&body, &ALL_EDITS)).is_ok());
            }
        }
    }
}
