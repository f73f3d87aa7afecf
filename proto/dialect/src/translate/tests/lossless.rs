//! Walks `fixtures/openai` and `fixtures/anthropic`: each document is written as it was read, member for member.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{anthropic, openai};

type Rewrite = fn(Value) -> Result<Value, crate::FieldError>;

const KINDS: [(&str, Rewrite); 4] = [
    ("openai/chat_request", |value| openai::chat::request::decode(value).map(openai::chat::request::encode)),
    ("openai/chat_reply", |value| openai::chat::reply::decode(value).map(openai::chat::reply::encode)),
    ("anthropic/request", |value| anthropic::request::decode(value).map(anthropic::request::encode)),
    ("anthropic/reply", |value| anthropic::reply::decode(value).map(anthropic::reply::encode)),
];

#[test]
fn every_document_is_written_as_it_was_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (kind, rewrite) in KINDS {
        let mut count = 0;
        for entry in fs::read_dir(root.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();

            let rewritten = rewrite(document.clone()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));

            for (key, value) in document.as_object().unwrap() {
                assert_eq!(rewritten.get(key), Some(value), "{} in {}", key, path.display());
            }
            assert_eq!(rewritten, document, "{}", path.display());
            count += 1;
        }
        assert!(count > 0, "{kind} has no fixture");
    }
}

#[test]
fn a_null_citation_is_left_out_because_a_client_refuses_it() {
    let body = serde_json::json!({
        "id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "x", "citations": null}],
    });

    let written = anthropic::reply::encode(anthropic::reply::decode(body).unwrap());

    assert_eq!(written["content"][0], serde_json::json!({"type": "text", "text": "x"}));
}
