//! No body panics; what is accepted is what `serde_json` accepts; an edit changes the model and nothing else.

use bytes::Bytes;
use serde_json::Value;
use troupe_dialect::Operation;
use troupe_dialect::json::{self, BadJson};
use troupe_dialect::peek::{Edits, peek};

const OPERATIONS: [Operation; 6] = [
    Operation::Chat,
    Operation::Completions,
    Operation::Responses,
    Operation::Embeddings,
    Operation::Messages,
    Operation::CountTokens,
];

/// Holds one input to it.
pub(crate) fn run(input: &[u8]) {
    let reference = serde_json::from_slice::<Value>(input);
    match json::check(input) {
        Ok(_) => assert!(reference.is_ok()),
        Err(BadJson::Duplicate { .. }) => {}
        Err(_) => assert!(reference.is_err()),
    }
    let body = Bytes::copy_from_slice(input);
    for op in OPERATIONS {
        let Ok(peeked) = peek(op, &body) else { continue };
        let edited = peeked.edit(&body, &Edits { model: Some("served"), include_usage: true });
        let again = peek(op, &edited).expect("an edited body is as good as the one before");
        assert_eq!(again.model, "served");
        assert_eq!(again.include_usage, peeked.include_usage || peeked.usage_can_be_added());

        let mut before: Value = serde_json::from_slice(&body).expect("it was accepted");
        let mut after: Value = serde_json::from_slice(&edited).expect("it was accepted");
        for tree in [&mut before, &mut after].into_iter().filter_map(Value::as_object_mut) {
            tree.remove("model");
            if peeked.usage_can_be_added() {
                tree.remove("stream_options");
            }
        }
        assert_eq!(before, after);
    }
}
