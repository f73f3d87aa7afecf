use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// `fixtures/errors/<dialect>.json` has what a client reads for each code of the catalogue.
#[test]
fn every_code_reads_as_written_in_both_dialects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/errors");
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        let text = fs::read_to_string(folder.join(format!("{}.json", dialect.as_str()))).unwrap();
        let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        for code in ErrorCode::ALL {
            let mut view = ErrorView::new(*code, "what \"went\" wrong", "req_1");
            view.param = Some("messages[0]");

            let read: Value = serde_json::from_slice(&body(dialect, &view)).unwrap();

            assert_eq!(Some(&read), expected.get(code.as_str()), "{} {code:?}", dialect.as_str());
        }
        assert_eq!(expected.len(), ErrorCode::ALL.len(), "a code is gone");
    }
}

fn view() -> ErrorView<'static> {
    ErrorView::new(ErrorCode::StreamInterrupted, "the provider broke off", "req_1")
}

fn text(event: Vec<u8>) -> String {
    String::from_utf8(event).unwrap()
}

#[test]
fn a_chat_stream_breaks_off_with_a_nested_error() {
    assert_eq!(
        text(event(Operation::Chat, &view(), 0)),
        "data: {\"error\":{\"message\":\"the provider broke off\",\"type\":\"server_error\",\"param\":null,\
         \"code\":\"stream_interrupted\"}}\n\n"
    );
    assert_eq!(event(Operation::Completions, &view(), 0), event(Operation::Chat, &view(), 0));
}

#[test]
fn a_messages_stream_breaks_off_with_a_named_error_event() {
    assert_eq!(
        text(event(Operation::Messages, &view(), 0)),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
         \"message\":\"the provider broke off\"},\"request_id\":\"req_1\"}\n\n"
    );
}

#[test]
fn a_responses_stream_breaks_off_with_an_event_that_types_and_raises() {
    let event = event(Operation::Responses, &view(), 7);

    let data = event.strip_prefix(b"event: error\ndata: ").unwrap();
    let data: Value = serde_json::from_slice(data).unwrap();
    assert_eq!(data["type"], json!("error"));
    assert_eq!(data["sequence_number"], json!(7));
    assert_eq!((&data["message"], &data["code"]), (&data["error"]["message"], &data["error"]["code"]));
    assert_eq!(data["error"]["message"], json!("the provider broke off"));
}

#[test]
fn a_message_with_line_ends_stays_one_event() {
    let event = event(Operation::Chat, &ErrorView::new(ErrorCode::Internal, "two\nlines\r\n\n", "req_1"), 0);

    assert_eq!(text(event).matches('\n').count(), 2);
}

#[test]
fn a_relayed_overload_keeps_its_word() {
    let mut view = ErrorView::new(ErrorCode::ProviderOverloaded, "busy", "req_1");
    view.status = 529;

    let read: Value = serde_json::from_slice(&body(Dialect::Anthropic, &view)).unwrap();

    assert_eq!(read["error"]["type"], json!("overloaded_error"));
}
