//! Messages events of a further leg.
//!
//! The text block that was open goes on: the leg's first text is put into it. All further blocks get the next indexes.
//! A leg's thoughts are left out, because the client is past them, and a thought behind text is none that it could
//! send back.

use serde_json::{Map, Value, json};

use super::Heard;
use super::stitch::{Leg, StitchError};

/// Where the blocks of a leg stand in the stream.
#[derive(Debug)]
pub(super) struct Places {
    /// The block that was open when the leg before broke, until the leg's text has been put into it.
    dangling: Option<u64>,
    /// The leg's open block.
    now: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No block is open.
    None,
    /// The client does not see it.
    Hidden,
    /// It has this index, and its text may have to be joined.
    Text(u64),
    /// It has this index.
    Other(u64),
}

impl Places {
    pub(super) const fn new(open: Option<u64>) -> Self {
        Self { dangling: open, now: Place::None }
    }
}

/// One event of the leg as those of the stream.
pub(super) fn rewrite(
    mut event: Map<String, Value>,
    heard: &mut Heard,
    leg: &mut Leg,
) -> Result<Vec<Map<String, Value>>, StitchError> {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "message_start" => {
            let usage = event.get("message").and_then(|message| message.get("usage"));
            if let Some(Value::Object(usage)) = usage {
                heard.tally.input(heard.op, usage, heard.text.len());
            }
            Ok(Vec::new())
        }
        "content_block_start" => block_start(event, heard, leg),
        "content_block_delta" => block_delta(event, heard, leg),
        "content_block_stop" => block_stop(event, heard, leg),
        "message_delta" => {
            let mut out = Vec::new();
            end_text(heard, leg, &mut out)?;
            if let Some(Value::Object(usage)) = event.get_mut("usage") {
                heard.tally.rewrite(heard.op, usage);
            }
            out.push(event);
            Ok(out)
        }
        // `ping`, `message_stop`, and whatever the wire gains.
        _ => Ok(vec![event]),
    }
}

fn block_start(
    mut event: Map<String, Value>,
    heard: &Heard,
    leg: &mut Leg,
) -> Result<Vec<Map<String, Value>>, StitchError> {
    let block = event.get_mut("content_block").and_then(Value::as_object_mut).ok_or(StitchError::Unreadable)?;
    let mut out = Vec::new();
    match block.get("type").and_then(Value::as_str).unwrap_or_default() {
        "thinking" | "redacted_thinking" => leg.places.now = Place::Hidden,
        "text" => {
            let text = match block.get_mut("text").map(Value::take) {
                Some(Value::String(text)) => text,
                Some(_) | None => String::new(),
            };
            let index = match leg.places.dangling.take() {
                Some(open) => open,
                None => {
                    block.insert("text".to_owned(), "".into());
                    out.push(at(event, heard.next_index));
                    heard.next_index
                }
            };
            leg.places.now = Place::Text(index);
            let text = leg.joint.push(&heard.text, &text)?;
            out.extend(text_delta(index, &text));
        }
        _ => {
            end_text(heard, leg, &mut out)?;
            leg.places.now = Place::Other(heard.next_index);
            out.push(at(event, heard.next_index));
        }
    }
    Ok(out)
}

fn block_delta(
    mut event: Map<String, Value>,
    heard: &Heard,
    leg: &mut Leg,
) -> Result<Vec<Map<String, Value>>, StitchError> {
    match leg.places.now {
        Place::None => Err(StitchError::Unreadable),
        Place::Hidden => Ok(Vec::new()),
        Place::Other(index) => Ok(vec![at(event, index)]),
        Place::Text(index) => {
            let delta = event.get_mut("delta").and_then(Value::as_object_mut).ok_or(StitchError::Unreadable)?;
            let Some(Value::String(text)) = delta.get("text") else { return Ok(vec![at(event, index)]) };
            let text = leg.joint.push(&heard.text, text)?;
            if text.is_empty() {
                return Ok(Vec::new());
            }
            delta.insert("text".to_owned(), text.into());
            Ok(vec![at(event, index)])
        }
    }
}

fn block_stop(event: Map<String, Value>, heard: &Heard, leg: &mut Leg) -> Result<Vec<Map<String, Value>>, StitchError> {
    match std::mem::replace(&mut leg.places.now, Place::None) {
        Place::None => Err(StitchError::Unreadable),
        Place::Hidden => Ok(Vec::new()),
        Place::Other(index) => Ok(vec![at(event, index)]),
        Place::Text(index) => {
            let rest = leg.joint.close(&heard.text)?;
            Ok(text_delta(index, &rest).into_iter().chain([at(event, index)]).collect())
        }
    }
}

/// No text of the leg takes up the block that was open: it ends here.
fn end_text(heard: &Heard, leg: &mut Leg, out: &mut Vec<Map<String, Value>>) -> Result<(), StitchError> {
    leg.joint.close(&heard.text)?;
    if let Some(open) = leg.places.dangling.take() {
        out.extend(object(json!({ "type": "content_block_stop", "index": open })));
    }
    Ok(())
}

fn text_delta(index: u64, text: &str) -> Option<Map<String, Value>> {
    let delta = json!({ "type": "text_delta", "text": text });
    let event = json!({ "type": "content_block_delta", "index": index, "delta": delta });
    if text.is_empty() { None } else { object(event) }
}

fn at(mut event: Map<String, Value>, index: u64) -> Map<String, Value> {
    event.insert("index".to_owned(), index.into());
    event
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}
