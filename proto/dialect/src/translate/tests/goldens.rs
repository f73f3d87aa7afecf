//! Walks `fixtures/translate`: a directory is a case, its name begins with what the client called.
//!
//! `request.json` (with `options.json` where the defaults do not do) gives `request.out.json`; `reply.json` and
//! `stream.sse`, read as the answer to that request, give `reply.out.json`, `stream.out.sse` and `stream.out.json`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{events, options};
use crate::translate::{
    Context, RequestOptions, StreamError, StreamTranslator, TranslateError, header_value, reply, request,
};
use crate::{Dialect, Operation};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/translate");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The files a case should hold, by name.
fn expected(case: &Path) -> Vec<(&'static str, String)> {
    let name = case.file_name().unwrap().to_str().unwrap();
    let (from, to) = match name.split('_').next().unwrap() {
        "chat" => (Operation::Chat, Dialect::Anthropic),
        "messages" => (Operation::Messages, Dialect::OpenAi),
        other => panic!("{other} is no operation: {name}"),
    };
    let body = fs::read(case.join("request.json")).unwrap();
    let overrides: Value =
        fs::read(case.join("options.json")).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
    let flag = |key: &str, default| overrides.get(key).map_or(default, |value| value.as_bool().unwrap());
    let options = RequestOptions {
        sampling_allowed: flag("sampling_allowed", true),
        drop_params: flag("drop_params", false),
        stream: flag("stream", false) || case.join("stream.sse").exists(),
        ..options()
    };

    let translated = match request(from, to, &body, &options) {
        Ok(translated) => translated,
        Err(error) => return vec![("request.out.json", pretty(&error_json(&error)))],
    };
    let out = json!({
        "operation": translated.operation.as_str(),
        "headers": translated.headers,
        "lost": header_value(&translated.lost),
        "body": serde_json::from_slice::<Value>(&translated.body).unwrap(),
    });
    let mut files = vec![("request.out.json", pretty(&out))];
    if let Ok(body) = fs::read(case.join("reply.json")) {
        files.push(("reply.out.json", pretty(&reply_json(&translated.context, &body))));
    }
    if let Ok(stream) = fs::read_to_string(case.join("stream.sse")) {
        let (out, end) = stream_out(translated.context, &stream);
        files.extend([("stream.out.sse", out), ("stream.out.json", pretty(&end))]);
    }
    files
}

fn reply_json(context: &Context, body: &[u8]) -> Value {
    match reply(context, body) {
        Ok(reply) => json!({
            "lost": header_value(&reply.lost),
            "finish": reply.finish.map(|finish| finish.as_str()),
            "usage": reply.usage.map(|usage| format!("{usage:?}")),
            "body": serde_json::from_slice::<Value>(&reply.body).unwrap(),
        }),
        Err(error) => error_json(&error),
    }
}

fn stream_out(context: Context, stream: &str) -> (String, Value) {
    let mut translator = StreamTranslator::new(context);
    let mut out = Vec::new();
    let mut error: Option<StreamError> = None;
    let mut ended = false;
    for (name, data) in events(stream) {
        match translator.event(name.as_deref(), data.as_bytes(), &mut out) {
            Ok(step) => ended |= step.end,
            Err(problem) => {
                error = Some(problem);
                break;
            }
        }
    }
    if error.is_none() {
        let before = out.len();
        error = translator.finish(&mut out).err();
        assert!(error.is_none() || out.len() == before, "a broken stream was given an end");
    }
    let end = json!({
        "ended_by_event": ended,
        "finished": translator.finished(),
        "error": error.map(|error| error.to_string()),
        "lost": header_value(translator.lost()),
        "finish": translator.finish_reason().map(|finish| finish.as_str()),
        "usage": translator.usage().map(|usage| format!("{usage:?}")),
    });
    (String::from_utf8(out).unwrap(), end)
}

fn error_json(error: &TranslateError) -> Value {
    json!({ "error": { "code": error.code().as_str(), "param": error.param(), "message": error.to_string() } })
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    text
}

#[test]
fn every_case_translates_as_its_golden_says() {
    let cases = cases();
    assert!(cases.len() > 20, "the fixtures are gone");
    let mut stale = Vec::new();
    for case in cases {
        for (name, content) in expected(&case) {
            if fs::read_to_string(case.join(name)).ok().as_deref() != Some(content.as_str()) {
                stale.push(case.join(name));
            }
        }
    }
    assert!(stale.is_empty(), "stale goldens; look at each before regenerating: {stale:#?}");
}

#[test]
#[ignore = "regenerates the goldens"]
fn regenerate_goldens() {
    for case in cases() {
        for (name, content) in expected(&case) {
            fs::write(case.join(name), content).unwrap();
        }
    }
}
