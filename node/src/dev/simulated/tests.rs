use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use serde_json::{Value, json};
use troupe_dialect::Operation;
use troupe_dialect::meter::StreamMeter;
use troupe_dialect::sse::Framer;

use super::harness::{Simulated, strings, types};
use super::*;

fn chat() -> Value {
    json!({"model": "sim", "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hello there"}]}]})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"]})
}

const SAID: &str = "Hello from the simulated model \"sim\". You said: \"hello there\". \
    Put a real provider into spec.toml to talk to a real one.";

#[tokio::test]
async fn a_chat_answers_the_same_whole_and_streamed_and_counts_alike() {
    let sim = Simulated::start().await;
    let streamed = json!({"stream": true, "stream_options": {"include_usage": true}});

    let whole = sim.post("/v1/chat/completions", &chat()).await.json();
    let got = sim.post("/v1/chat/completions", &with(chat(), streamed)).await;

    assert_eq!(whole["choices"][0]["message"]["content"], SAID);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let events = got.events();
    assert_eq!(strings(&events, "/choices/0/delta/content"), SAID);
    assert!(got.text().ends_with("data: [DONE]\n\n"));
    let (last, before) = events.split_last().unwrap();
    assert_eq!((&last["usage"], &last["choices"]), (&whole["usage"], &json!([])));
    assert!(before.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], json!(SAID.split(' ').count()));
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(5), &json!(27)));
}

#[tokio::test]
async fn without_include_usage_no_chunk_speaks_of_it() {
    let sim = Simulated::start().await;

    let events = sim.post("/v1/chat/completions", &with(chat(), json!({"stream": true, "n": 2}))).await.events();

    assert!(events.iter().all(|event| event.get("usage").is_none()));
    let second = events.iter().filter(|event| event["choices"][0]["index"] == 1).cloned().collect::<Vec<_>>();
    assert_eq!(strings(&second, "/choices/0/delta/content"), SAID);
}

#[tokio::test]
async fn the_same_request_gets_the_same_bytes() {
    let sim = Simulated::start().await;
    let body = with(chat(), json!({"stream": true}));

    let first = sim.post("/v1/chat/completions", &body).await;
    let second = sim.post("/v1/chat/completions", &body).await;

    assert_eq!(first.text(), second.text());
    assert_eq!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn words_come_one_by_one_and_not_all_at_the_end() {
    let sim = Simulated::start().await;
    let io = TokioIo::new(TcpStream::connect(sim.addr).await.unwrap());
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(io).await.unwrap();
    tokio::spawn(connection);
    let body = with(chat(), json!({"stream": true})).to_string();
    let request = Request::post("/v1/chat/completions").header("host", "sim").body(Full::new(body.into())).unwrap();

    let mut reply = sender.send_request(request).await.unwrap().into_body();
    let mut chunks = 0;
    while let Some(frame) = reply.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.ends_with(b"\n\n"));
        chunks += 1;
    }

    // One read may hold the few events that come without a rest, never two words.
    assert!(chunks >= 22, "{chunks}");
}

#[tokio::test]
async fn a_token_limit_cuts_the_answer_on_every_wire() {
    let sim = Simulated::start().await;
    let claude = with(chat(), json!({"max_tokens": 2}));
    let responses = json!({"model": "sim", "input": "hi", "max_output_tokens": 2});

    let openai = sim.post("/v1/chat/completions", &with(chat(), json!({"max_completion_tokens": 2}))).await.json();
    let legacy = sim.post("/v1/completions", &json!({"model": "sim", "prompt": "hi", "max_tokens": 2})).await.json();
    let anthropic = sim.post("/v1/messages", &claude).await.json();
    let whole = sim.post("/v1/responses", &responses).await.json();
    let events = sim.post("/v1/responses", &with(responses, json!({"stream": true}))).await.events();

    assert_eq!(openai["choices"][0]["message"]["content"], "Hello from ");
    assert_eq!(openai["choices"][0]["finish_reason"], "length");
    assert_eq!(openai["usage"]["completion_tokens"], 2);
    assert_eq!(
        (&legacy["choices"][0]["text"], &legacy["choices"][0]["finish_reason"]),
        (&json!("Hello from "), &json!("length"))
    );
    assert_eq!((&anthropic["stop_reason"], &anthropic["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(2)));
    assert_eq!(
        (&whole["status"], &whole["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
}

#[tokio::test]
async fn a_forced_tool_is_called_with_arguments_that_fit_on_every_wire() {
    let sim = Simulated::start().await;
    let chat_tools = json!({"tool_choice": "required", "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": weather()}}]});
    let flat = json!({"model": "sim", "input": "hi", "tool_choice": {"type": "function", "name": "weather"},
        "tools": [{"type": "function", "name": "weather", "parameters": weather()}]});
    let claude = with(
        chat(),
        json!({"max_tokens": 50, "tool_choice": {"type": "tool", "name": "weather"},
        "tools": [{"name": "weather", "input_schema": weather()}]}),
    );
    let streamed = |body: &Value| with(body.clone(), json!({"stream": true}));
    let arguments = json!({"city": "sample", "days": 1});

    let openai = sim.post("/v1/chat/completions", &with(chat(), chat_tools.clone())).await.json();
    let chunks = sim.post("/v1/chat/completions", &streamed(&with(chat(), chat_tools))).await.events();
    let responses = sim.post("/v1/responses", &flat).await.json();
    let response_events = sim.post("/v1/responses", &streamed(&flat)).await.events();
    let anthropic = sim.post("/v1/messages", &claude).await.json();
    let claude_events = sim.post("/v1/messages", &streamed(&claude)).await.events();

    let call = &openai["choices"][0]["message"]["tool_calls"][0]["function"];
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!((&call["name"], parsed(call["arguments"].as_str().unwrap())), (&json!("weather"), arguments.clone()));
    assert_eq!(openai["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(strings(&chunks, "/choices/0/delta/tool_calls/0/function/name"), "weather");
    assert_eq!(parsed(&strings(&chunks, "/choices/0/delta/tool_calls/0/function/arguments")), arguments);
    assert_eq!(parsed(responses["output"][0]["arguments"].as_str().unwrap()), arguments);
    assert_eq!(parsed(&strings(&response_events, "/delta")), arguments);
    assert_eq!((&anthropic["content"][0]["input"], &anthropic["stop_reason"]), (&arguments, &json!("tool_use")));
    assert_eq!(parsed(&strings(&claude_events, "/delta/partial_json")), arguments);
}

#[tokio::test]
async fn an_unforced_tool_is_left_alone_and_its_result_is_quoted() {
    let sim = Simulated::start().await;
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": weather()}}]);
    let mut after = with(chat(), json!({"tools": tools}));
    after["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "tool_call_id": "c", "content": "rain"}));
    let claude = json!({"model": "sim", "max_tokens": 99, "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "rain"}]}]}]});

    let openai = sim.post("/v1/chat/completions", &after).await;
    let anthropic = sim.post("/v1/messages", &claude).await;

    assert!(openai.json()["choices"][0]["message"]["content"].as_str().unwrap().contains("answered: \"rain\""));
    assert!(anthropic.json()["content"][0]["text"].as_str().unwrap().contains("answered: \"rain\""));
}

#[tokio::test]
async fn structured_output_fits_its_schema_on_every_wire() {
    let sim = Simulated::start().await;
    let format = json!({"type": "json_schema", "json_schema": {"name": "w", "schema": weather(), "strict": true}});
    let flat = json!({"type": "json_schema", "name": "w", "schema": weather()});
    let parsed = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let expected = json!({"city": "sample", "days": 1});

    let strict = sim.post("/v1/chat/completions", &with(chat(), json!({"response_format": format}))).await.json();
    let loose = with(chat(), json!({"response_format": {"type": "json_object"}}));
    let loose = sim.post("/v1/chat/completions", &loose).await.json();
    let responses = json!({"model": "sim", "input": [{"role": "user", "content": "hi"}], "text": {"format": flat}});
    let responses = sim.post("/v1/responses", &responses).await.json();
    let claude = json!({"max_tokens": 50, "output_config": {"format": {"type": "json_schema", "schema": weather()}}});
    let anthropic = sim.post("/v1/messages", &with(chat(), claude)).await.json();

    assert_eq!(parsed(&strict["choices"][0]["message"]["content"]), expected);
    assert!(parsed(&loose["choices"][0]["message"]["content"]).is_object());
    assert_eq!(parsed(&responses["output"][0]["content"][0]["text"]), expected);
    assert_eq!(parsed(&anthropic["content"][0]["text"]), expected);
}

#[tokio::test]
async fn a_responses_stream_has_every_event_in_order_and_no_gap_in_its_numbers() {
    let sim = Simulated::start().await;
    let body = json!({"model": "sim", "input": "hello there"});

    let whole = sim.post("/v1/responses", &body).await.json();
    let events = sim.post("/v1/responses", &with(body, json!({"stream": true}))).await.events();

    let order = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(types(&events), order);
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    assert_eq!(strings(&events, "/delta"), SAID);
    assert_eq!(whole["output"][0]["content"][0]["text"], SAID);
    assert_eq!(events.last().unwrap()["response"]["usage"], whole["usage"]);
}

#[tokio::test]
async fn a_message_stream_has_every_event_in_order_and_counts_as_the_count_says() {
    let sim = Simulated::start().await;
    let body = json!({"model": "sim", "max_tokens": 100, "system": [{"type": "text", "text": "be kind"}],
        "messages": [{"role": "user", "content": "hello there"}]});

    let whole = sim.post("/v1/messages", &body).await.json();
    let counted = sim.post("/v1/messages/count_tokens", &body).await.json();
    let events = sim.post("/v1/messages", &with(body, json!({"stream": true}))).await.events();

    let order = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(types(&events), order);
    assert_eq!((strings(&events, "/delta/text"), &whole["content"][0]["text"]), (SAID.to_owned(), &json!(SAID)));
    assert_eq!(counted, json!({"input_tokens": 5}));
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], counted["input_tokens"]);
    assert_eq!(whole["usage"]["input_tokens"], counted["input_tokens"]);
    assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[tokio::test]
async fn the_gateways_own_meter_sees_every_stream_end_with_its_usage() {
    let sim = Simulated::start().await;
    let bodies = [
        (Operation::Chat, "/v1/chat/completions", with(chat(), json!({"stream_options": {"include_usage": true}}))),
        (
            Operation::Completions,
            "/v1/completions",
            json!({"model": "sim", "prompt": "hi", "stream_options": {"include_usage": true}}),
        ),
        (Operation::Responses, "/v1/responses", json!({"model": "sim", "input": "hi"})),
        (Operation::Messages, "/v1/messages", with(chat(), json!({"max_tokens": 100}))),
    ];

    for (op, path, body) in bodies {
        let got = sim.post(path, &with(body, json!({"stream": true}))).await;
        let mut framer = Framer::new(1 << 20);
        let mut meter = StreamMeter::new(op, false);
        framer.push(Bytes::from(got.body));
        framer.finish();
        while let Some(frame) = framer.next() {
            meter.observe(&frame.unwrap());
        }
        assert!(meter.finished() && meter.usage().is_some(), "{path}");
        assert!(!framer.has_partial());
    }
}

#[tokio::test]
async fn embeddings_are_unit_vectors_that_depend_on_the_text_alone() {
    let sim = Simulated::start().await;
    let ask =
        |input: Value, format: &str| json!({"model": "e", "input": input, "dimensions": 8, "encoding_format": format});

    let both = sim.post("/v1/embeddings", &ask(json!(["a", "b"]), "float")).await.json();
    let packed = sim.post("/v1/embeddings", &ask(json!("a"), "base64")).await.json();
    let usual = sim.post("/v1/embeddings", &json!({"model": "e", "input": [1, 2]})).await.json();

    let floats = |entry: &Value| -> Vec<f64> {
        entry["embedding"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
    };
    let (a, b) = (floats(&both["data"][0]), floats(&both["data"][1]));
    assert_ne!(a, b);
    assert!((a.iter().map(|n| n * n).sum::<f64>() - 1.0).abs() < 1e-5);
    let bytes = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        packed["data"][0]["embedding"].as_str().unwrap(),
    )
    .unwrap();
    let unpacked: Vec<f32> = bytes.chunks_exact(4).map(|n| f32::from_le_bytes(n.try_into().unwrap())).collect();
    assert!(a.iter().zip(&unpacked).all(|(a, n)| (a - f64::from(*n)).abs() < 1e-6) && unpacked.len() == 8);
    assert_eq!(floats(&usual["data"][0]).len(), 1536);
    assert_eq!(usual["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn models_are_listed_in_the_words_of_the_asking_wire() {
    let sim = Simulated::start().await;
    let version = [("anthropic-version".to_owned(), "2023-06-01".to_owned())];

    let openai = sim.send("GET", "/v1/models", &[], String::new()).await.json();
    let anthropic = sim.send("GET", "/v1/models", &version, String::new()).await.json();
    let one = sim.send("GET", "/v1/models/sim", &[], String::new()).await.json();
    let none = sim.send("GET", "/v1/models/nothing", &[], String::new()).await;

    assert_eq!((&openai["object"], &openai["data"][0]["id"]), (&json!("list"), &json!("sim")));
    assert_eq!((&anthropic["has_more"], &anthropic["data"][0]["type"]), (&json!(false), &json!("model")));
    assert_eq!((&one["id"], none.status), (&json!("sim"), 404));
}

#[tokio::test]
async fn bad_requests_get_the_error_body_of_their_wire() {
    let sim = Simulated::start().await;
    let no_model = json!({"messages": []});
    let no_limit = json!({"model": "sim", "messages": [{"role": "user", "content": "hi"}]});
    let no_tool = with(chat(), json!({"tool_choice": "required"}));
    let cases = [
        ("/v1/chat/completions", "{".to_owned(), 400, "/error/code", "invalid_json"),
        ("/v1/chat/completions", "[]".to_owned(), 400, "/error/type", "invalid_request_error"),
        ("/v1/chat/completions", no_model.to_string(), 400, "/error/param", "model"),
        ("/v1/chat/completions", no_tool.to_string(), 400, "/error/param", "tool_choice"),
        ("/v1/chat/completions", with(chat(), json!({"n": 99})).to_string(), 400, "/error/param", "n"),
        ("/v1/completions", json!({"model": "sim"}).to_string(), 400, "/error/param", "prompt"),
        ("/v1/responses", json!({"model": "sim"}).to_string(), 400, "/error/param", "input"),
        ("/v1/embeddings", json!({"model": "e", "input": ""}).to_string(), 400, "/error/param", "input"),
        ("/v1/messages", no_limit.to_string(), 400, "/error/type", "invalid_request_error"),
        ("/v1/messages", "\u{0}".to_owned(), 400, "/type", "error"),
        ("/v1/nothing", String::new(), 404, "/error/type", "invalid_request_error"),
    ];

    for (path, body, status, member, expected) in cases {
        let got = sim.send("POST", path, &[], body).await;
        assert_eq!(got.status, status, "{path}: {}", got.text());
        assert_eq!(got.json().pointer(member).and_then(Value::as_str), Some(expected), "{path}: {}", got.text());
    }
    assert_eq!(sim.send("GET", "/v1/messages", &[], String::new()).await.status, 405);
}

#[tokio::test]
async fn deep_nesting_and_a_body_beyond_the_bound_are_refused() {
    let sim = Simulated::start().await;
    let deep = format!("{{\"model\":{}", "[".repeat(100_000));
    let large = format!("{{\"model\":\"{}\"}}", "m".repeat(BODY_BYTES_MAX));

    let deep = sim.send("POST", "/v1/chat/completions", &[], deep).await;
    let large = sim.send("POST", "/v1/messages", &[], large).await;

    assert_eq!((deep.status, large.status), (400, 413));
    assert_eq!(large.json()["error"]["type"], "request_too_large");
}

#[tokio::test]
async fn shutdown_lets_a_stream_finish_and_then_returns() {
    let sim = Simulated::start().await;
    let io = TokioIo::new(TcpStream::connect(sim.addr).await.unwrap());
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(io).await.unwrap();
    tokio::spawn(connection);
    let body = with(chat(), json!({"stream": true})).to_string();
    let request = Request::post("/v1/chat/completions").header("host", "sim").body(Full::new(body.into())).unwrap();
    let reply = sender.send_request(request).await.unwrap();

    sim.stop.send_replace(true);
    let body = reply.into_body().collect().await.unwrap().to_bytes();

    assert!(body.ends_with(b"data: [DONE]\n\n"));
    tokio::time::timeout(Duration::from_secs(10), sim.task).await.unwrap().unwrap();
}
