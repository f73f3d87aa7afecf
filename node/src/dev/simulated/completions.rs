//! OpenAI's legacy completions: a prompt in, text out.

use serde_json::{Value, json};
use troupe_dialect::Operation;

use super::answer::{Answer, Content};
use super::ask::{self, Ask, Bad, Form};
use super::chat::{self, Usage};
use super::reply::{CREATED, Event, event};

pub(super) fn read(body: &Value, id: String) -> Result<Ask, Bad> {
    let mut ask = Ask::read(body, id, &["max_tokens"])?;
    let text = match body.get("prompt") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(prompts)) => match prompts.as_slice() {
            [Value::String(text)] => text.clone(),
            tokens if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => String::new(),
            _ => return Err(Bad::field("prompt", "the simulated model takes one prompt at a time")),
        },
        _ => return Err(Bad::field("prompt", "'prompt' must be a string or a list of tokens")),
    };
    ask.heard = ask::heard(&text);
    ask.form = Form::Text;
    Ok(ask)
}

fn body(ask: &Ask, text: &str, reason: Option<&str>) -> Value {
    let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason});
    json!({"id": format!("cmpl-{}", ask.id), "object": "text_completion", "created": CREATED, "model": ask.model,
        "choices": [choice]})
}

fn pieces(answer: &Answer) -> &[String] {
    match &answer.content {
        Content::Text(pieces) => pieces,
        // Not asked for on this endpoint: `read` sets the form to text.
        Content::Call { .. } => &[],
    }
}

pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let mut body = body(ask, &pieces(answer).concat(), Some(chat::finish(answer.end)));
    body["usage"] = chat::usage(answer.tokens_in, answer.tokens_out);
    body
}

pub(super) fn events(ask: &Ask, answer: &Answer, usage: Usage) -> Vec<Event> {
    let chunk = |mut chunk: Value| {
        if usage == Usage::Included {
            chunk["usage"] = Value::Null;
        }
        event(None, &chunk)
    };
    let mut events: Vec<Event> = pieces(answer).iter().map(|piece| chunk(body(ask, piece, None))).collect();
    events.push(chunk(body(ask, "", Some(chat::finish(answer.end)))).frame());
    if usage == Usage::Included {
        let mut last = body(ask, "", None);
        last["choices"] = json!([]);
        last["usage"] = chat::usage(answer.tokens_in, answer.tokens_out);
        events.push(event(None, &last).frame());
    }
    events.push(chat::done(Operation::Completions));
    events
}
