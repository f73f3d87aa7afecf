//! The mock as its clients see it: every knob over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of an integration test may fail by panicking, as its tests do")]

mod steered;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troupe_loadtest::clock;
use troupe_loadtest::mock::{Mock, MockHandle, MockOptions};

/// A reply as raw as it came; `broken` says that the socket ended with an error.
struct Reply {
    head: String,
    body: Vec<u8>,
    broken: bool,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The JSON of every `data:` line, without `[DONE]`.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn start() -> MockHandle {
    Mock::start(MockOptions::default()).unwrap()
}

fn connect(mock: &MockHandle) -> TcpStream {
    let socket = TcpStream::connect(mock.addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn send(mock: &MockHandle, method: &str, path: &str, body: &str) -> TcpStream {
    let mut socket = connect(mock);
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    socket
}

fn call(mock: &MockHandle, method: &str, path: &str, body: &str) -> Reply {
    let mut socket = send(mock, method, path, body);
    let mut all = Vec::new();
    let broken = socket.read_to_end(&mut all).is_err();
    let split = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(all.len());
    let head = String::from_utf8(all[..split].to_vec()).unwrap().to_lowercase();
    let rest = all.get(split + 4..).unwrap_or_default();
    if head.contains("transfer-encoding: chunked") {
        let (body, is_whole) = unchunked(rest);
        return Reply { head, body, broken: broken || !is_whole };
    }
    Reply { head, body: rest.to_vec(), broken }
}

/// Takes chunked bytes apart and says whether the last chunk came.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + size) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
    (body, false)
}

fn chat(model: &str, more: Value) -> String {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn messages(model: &str, more: Value) -> String {
    let mut more = more;
    more.as_object_mut().unwrap().entry("max_tokens").or_insert(json!(1000));
    chat(model, more)
}

fn chat_stream(mock: &MockHandle, model: &str) -> Reply {
    call(mock, "POST", "/v1/chat/completions", &chat(model, json!({"stream": true})))
}

fn words(events: &[Value]) -> String {
    events.iter().filter_map(|event| event.pointer("/choices/0/delta/content")?.as_str()).collect()
}

/// Waits for a condition; fails after five seconds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + Duration::from_secs(5);
    while !holds() {
        assert!(clock::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_chat_reply_has_the_words_and_the_usage_it_counted() {
    let mock = start();

    let reply = call(&mock, "POST", "/v1/chat/completions", &chat("mock+words=3", json!({})));

    assert_eq!(reply.status(), 200);
    let reply = reply.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "w0 w1 w2 ");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert_eq!(reply["usage"]["prompt_tokens"], 2);
    assert_eq!(reply["usage"]["completion_tokens"], 3);
}

#[test]
fn a_chat_stream_has_one_event_a_word_and_usage_only_when_asked_for() {
    let mock = start();

    let plain = chat_stream(&mock, "mock+events=4");
    let asked = chat("mock+events=4", json!({"stream": true, "stream_options": {"include_usage": true}}));
    let counted = call(&mock, "POST", "/v1/chat/completions", &asked);

    assert_eq!(words(&plain.events()), "w0 w1 w2 w3 ");
    assert!(plain.text().ends_with("data: [DONE]\n\n"));
    assert!(plain.events().iter().all(|event| event.get("usage").is_none()));
    let counted = counted.events();
    let (last, rest) = counted.split_last().unwrap();
    assert!(rest.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 4);
    assert_eq!(mock.counts().events, 8);
}

#[test]
fn both_wires_call_tools_with_valid_arguments() {
    let mock = start();
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let openai = json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);
    let anthropic = json!([{"name": "weather", "input_schema": schema}]);

    let chat_reply = call(&mock, "POST", "/chat/completions", &chat("mock+parallel-tools", json!({"tools": openai})));
    let message = call(&mock, "POST", "/v1/messages", &messages("mock+tools", json!({"tools": anthropic})));

    let chat_reply = chat_reply.json();
    let calls = chat_reply["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["function"]["arguments"], r#"{"city":"mock"}"#);
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let message = message.json();
    assert_eq!(message["content"][0]["input"], json!({"city": "mock"}));
    assert_eq!(message["stop_reason"], "tool_use");
}

#[test]
fn an_anthropic_stream_has_its_events_in_order_with_a_thought_first() {
    let mock = start();

    let reply = call(&mock, "POST", "/v1/messages", &messages("mock+words=2+reasoning", json!({"stream": true})));

    let kinds: Vec<String> =
        reply.events().iter().map(|event| event["type"].as_str().unwrap().replace("content_block_", "")).collect();
    let thought = ["start", "ping", "delta", "delta", "delta", "delta", "delta", "delta", "stop"];
    let text = ["start", "delta", "delta", "stop"];
    let all = [["message_start"].as_slice(), &thought, &text, &["message_delta", "message_stop"]].concat();
    assert_eq!(kinds, all);
    assert_eq!(reply.events()[8]["delta"]["type"], "signature_delta");
    assert_eq!(reply.events()[14]["usage"]["output_tokens"], 7);
}

#[test]
fn a_responses_stream_is_numbered_without_gaps_and_ends_in_the_whole_reply() {
    let mock = start();
    let ask = |stream: bool| json!({"model": "mock+words=2", "input": "hello", "stream": stream}).to_string();

    let events = call(&mock, "POST", "/v1/responses", &ask(true)).events();
    let whole = call(&mock, "POST", "/v1/responses", &ask(false)).json();

    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    assert!(events.iter().enumerate().all(|(index, event)| event["sequence_number"] == index));
    assert_eq!(events[9]["response"]["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(whole["usage"]["output_tokens"], 2);
}

#[test]
fn structured_output_obeys_its_schema_in_all_three_shapes() {
    let mock = start();
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let in_chat = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let in_message = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let in_responses = json!({"model": "mock", "input": "x", "text": {"format": {"type": "json_schema", "name": "x",
        "schema": schema}}});

    let chat_reply = call(&mock, "POST", "/v1/chat/completions", &chat("mock", in_chat)).json();
    let message = call(&mock, "POST", "/v1/messages", &messages("mock", in_message)).json();
    let response = call(&mock, "POST", "/v1/responses", &in_responses.to_string()).json();

    assert_eq!(chat_reply["choices"][0]["message"]["content"], r#"{"n":1}"#);
    assert_eq!(message["content"][0]["text"], r#"{"n":1}"#);
    assert_eq!(response["output"][0]["content"][0]["text"], r#"{"n":1}"#);
}

#[test]
fn a_status_comes_in_the_shape_of_its_wire() {
    let mock = start();
    let model = "mock+status=429+retry-after=2";

    let openai = call(&mock, "POST", "/v1/chat/completions", &chat(model, json!({"stream": true})));
    let anthropic = call(&mock, "POST", "/v1/messages", &messages(model, json!({})));

    assert_eq!((openai.status(), anthropic.status()), (429, 429));
    assert!(openai.head.contains("retry-after: 2"));
    assert_eq!(openai.json()["error"]["type"], "rate_limit_error");
    assert_eq!(anthropic.json()["type"], "error");
    assert_eq!(anthropic.json()["error"]["type"], "rate_limit_error");
    assert_eq!(mock.counts().by_status[&429], 2);
}

#[test]
fn an_unknown_knob_is_a_400_that_names_it() {
    let reply = call(&start(), "POST", "/v1/chat/completions", &chat("mock+explode", json!({})));

    assert_eq!(reply.status(), 400);
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("`explode`"));
}

#[test]
fn a_reset_is_an_error_of_the_socket_before_any_byte() {
    let mock = start();

    let reply = call(&mock, "POST", "/v1/chat/completions", &chat("mock+reset", json!({})));

    assert!(reply.broken && reply.head.is_empty(), "{}", reply.head);
    assert_eq!(mock.counts().closed_early, 0, "the mock left, not the client");
}

#[test]
fn garbage_is_a_200_that_no_parser_takes() {
    let mock = start();

    let whole = call(&mock, "POST", "/v1/chat/completions", &chat("mock+garbage", json!({})));
    let stream = chat_stream(&mock, "mock+garbage");

    assert_eq!((whole.status(), stream.status()), (200, 200));
    assert!(serde_json::from_slice::<Value>(&whole.body).is_err());
    assert!(stream.head.contains("text/event-stream"));
}

#[test]
fn a_truncated_reply_is_shorter_than_it_promised() {
    let reply = call(&start(), "POST", "/v1/chat/completions", &chat("mock+truncated", json!({})));

    let promised = reply.head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(reply.status(), 200);
    assert!(!reply.body.is_empty() && reply.body.len() < promised.parse().unwrap());
}

#[test]
fn a_cut_breaks_the_body_and_a_clean_cut_only_lacks_the_end() {
    let mock = start();

    let cut = chat_stream(&mock, "mock+cut=3");
    let clean = chat_stream(&mock, "mock+clean-cut=3");
    let whole = chat_stream(&mock, "mock");

    assert!(cut.broken && !clean.broken && !whole.broken);
    assert_eq!(words(&cut.events()), "w0 w1 w2 ");
    assert_eq!(words(&clean.events()), "w0 w1 w2 ");
    assert!(!clean.text().contains("[DONE]") && whole.text().contains("[DONE]"));
}

#[test]
fn an_error_in_the_stream_has_the_shape_of_its_wire() {
    let mock = start();

    let openai = chat_stream(&mock, "mock+error-at=1").events();
    let body = messages("mock+error-at=1", json!({"stream": true}));
    let anthropic = call(&mock, "POST", "/v1/messages", &body);

    assert_eq!(openai.last().unwrap()["error"]["type"], "server_error");
    assert!(anthropic.text().contains("event: error\ndata: {\"type\":\"error\""));
}

#[test]
fn slow_bytes_arrive_as_the_same_stream() {
    let mock = start();

    let slow = chat_stream(&mock, "mock+slow-bytes+words=3");

    assert_eq!(words(&slow.events()), "w0 w1 w2 ");
    assert!(!slow.broken);
    assert_eq!(mock.counts().events, 3);
}

#[test]
fn letters_of_many_bytes_and_foreign_line_ends_arrive_as_they_are() {
    let reply = chat_stream(&start(), "mock+words=2+unicode+comments+crlf+slow-bytes");

    assert_eq!(words(&reply.events()), "w0\u{e9}\u{20ac}\u{1d11e} w1\u{e9}\u{20ac}\u{1d11e} ");
    assert!(reply.text().starts_with(": keep-alive\r\n\r\ndata: {"));
}

#[test]
fn drip_and_delay_take_their_time() {
    let mock = start();
    let begun: Instant = clock::now();

    let reply = chat_stream(&mock, "mock+words=5+drip=10ms+delay=30ms");

    // Six gaps between seven events and the end marker, and the delay before the head.
    assert!(clock::now() - begun >= Duration::from_millis(90));
    assert_eq!(words(&reply.events()), "w0 w1 w2 w3 w4 ");
}

#[test]
fn a_client_that_leaves_is_noticed_at_once() {
    let mock = start();
    let cases = [
        ("mock+hang", json!({})),
        ("mock+delay=30s", json!({})),
        ("mock+hang-at=2", json!({"stream": true})),
        ("mock+words=1000+drip=5s", json!({"stream": true})),
    ];
    for (index, (model, more)) in cases.into_iter().enumerate() {
        let socket = send(&mock, "POST", "/v1/chat/completions", &chat(model, more));
        until("the request is in flight", || mock.counts().in_flight == 1);

        let left = clock::now();
        drop(socket);
        until("the leaving is noticed", || mock.closed_early().len() == index + 1);

        let noticed = mock.closed_early().pop().unwrap();
        assert_eq!(noticed.model, model);
        assert!(noticed.at - left < Duration::from_millis(100), "{model}: {:?}", noticed.at - left);
        let told = call(&mock, "GET", "/mock/closed-early", "").json();
        assert_eq!(told[index]["model"], model);
        until("the connection is closed", || mock.counts().connections_open == 0);
    }
}

#[test]
fn a_finished_reply_is_no_early_departure() {
    let mock = start();

    call(&mock, "POST", "/v1/chat/completions", &chat("mock", json!({})));
    chat_stream(&mock, "mock");
    until("all is over", || mock.counts().in_flight == 0 && mock.counts().connections_open == 0);

    let counts = mock.counts();
    assert_eq!((counts.closed_early, counts.streams, counts.streams_open, counts.requests), (0, 1, 0, 2));
}

#[test]
fn requests_are_kept_as_they_came_and_told_over_http() {
    let mock = start();
    let body = chat("mock", json!({"odd": "ä"}));

    call(&mock, "POST", "/v1/chat/completions?x=1", &body);
    let told = call(&mock, "GET", "/mock/requests", "").json();
    let counts = call(&mock, "GET", "/mock/counts", "").json();
    call(&mock, "POST", "/mock/reset", "");

    let kept = mock.received();
    assert!(kept.is_empty(), "a reset forgets them");
    assert_eq!(told[0]["path"], "/v1/chat/completions?x=1");
    assert_eq!(told[0]["body"], body.as_str());
    assert_eq!(counts["by_path"]["/v1/chat/completions"], 1);
    assert_eq!(counts["by_model"]["mock"], 1);
}

#[test]
fn the_rest_of_both_wires_answers() {
    let mock = start();
    let deployment = "/openai/deployments/mock%2Bwords=2/chat/completions";
    let version = "?api-version=2024-10-21";

    let embedding = call(&mock, "POST", "/v1/embeddings", r#"{"model":"mock","input":"x"}"#).json();
    let legacy = call(&mock, "POST", "/v1/completions", r#"{"model":"mock+words=2","prompt":"x"}"#).json();
    let counted = call(&mock, "POST", "/v1/messages/count_tokens", &messages("mock", json!({}))).json();
    let models = call(&mock, "GET", "/v1/models", "").json();
    let azure = call(&mock, "POST", &format!("{deployment}{version}"), &chat("x", json!({})));
    let unversioned = call(&mock, "POST", deployment, &chat("x", json!({})));

    assert_eq!(embedding["data"][0]["embedding"].as_array().unwrap().len(), 16);
    assert_eq!(legacy["choices"][0]["text"], "w0 w1 ");
    assert_eq!(counted["input_tokens"], 2);
    assert_eq!(models["data"][0]["id"], "mock");
    assert_eq!(azure.json()["choices"][0]["message"]["content"], "w0 w1 ");
    assert_eq!(unversioned.status(), 404);
}

#[test]
fn replies_that_a_gateway_must_not_pass_on_as_they_are() {
    let mock = start();

    let redirect = call(&mock, "POST", "/v1/chat/completions", &chat("mock+status=307", json!({})));
    let whole = chat_stream(&mock, "mock+unstreamed+words=2");
    let mut socket = connect(&mock);
    let body = messages("mock+status=401", json!({}));
    write!(
        socket,
        "POST /v1/messages HTTP/1.1\r\nhost: mock\r\nx-api-key: sk-shown\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut refused = String::new();
    socket.read_to_string(&mut refused).unwrap();

    assert_eq!(redirect.status(), 307);
    assert!(redirect.head.contains("location: /v1/chat/completions"), "{}", redirect.head);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "w0 w1 ");
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("set-cookie: "), "{refused}");
    assert!(refused.ends_with(r#"Incorrect API key provided: sk-shown"},"request_id":"req_mock_2"}"#), "{refused}");
}
