//! Going on with a text that was begun elsewhere.

use serde_json::Value;

/// Takes away what was said, and counts the pieces it had; nothing, if the text does not begin so.
///
/// A piece of which only the space is left comes with the next one, as a model goes on with a space and a word.
pub(super) fn skip(pieces: &mut Vec<String>, said: &str) -> usize {
    let (mut rest, mut whole) = (said, 0);
    while let Some(behind) = pieces.get(whole).and_then(|piece| rest.strip_prefix(piece.as_str())) {
        (rest, whole) = (behind, whole + 1);
    }
    if rest.is_empty() {
        pieces.drain(..whole);
        return whole;
    }
    let Some(left) = pieces.get(whole).and_then(|piece| piece.strip_prefix(rest)) else { return 0 };
    let left = left.to_owned();
    pieces.drain(..=whole);
    match pieces.first_mut() {
        Some(next) if left.trim().is_empty() => next.insert_str(0, &left),
        None if left.trim().is_empty() => {}
        Some(_) | None => pieces.insert(0, left),
    }
    whole + 1
}

/// Finds what the assistant said last, where the conversation ends with it.
///
/// Behind it a word of the user's that asks to continue is taken as no new question: that is how a conversation goes on
/// at providers that take no unfinished message.
pub(super) fn said(messages: &Value) -> Option<String> {
    let messages = messages.as_array()?;
    let (last, before) = messages.split_last()?;
    let is_of = |message: &Value, role: &str| message.get("role").is_some_and(|held| held == role);
    let message = if is_of(last, "assistant") {
        last
    } else {
        let asks = |text: String| text.to_lowercase().contains("continu");
        let asked = is_of(last, "user") && last.get("content").map(plain).is_some_and(asks);
        before.last().filter(|message| asked && is_of(message, "assistant"))?
    };
    message.get("content").map(plain).filter(|text| !text.is_empty())
}

/// The text of a message, in one string or in blocks.
fn plain(content: &Value) -> String {
    let text = |block: &Value| block.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(text).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conversation_goes_on_where_its_assistant_stopped() {
        let user = |text: &str| json!({"role": "user", "content": text});
        let assistant = json!({"role": "assistant", "content": [{"type": "text", "text": "w0 w1"}]});

        assert_eq!(said(&json!([user("hello"), assistant])).as_deref(), Some("w0 w1"));
        assert_eq!(said(&json!([user("hello"), assistant, user("Please continue.")])).as_deref(), Some("w0 w1"));
        assert_eq!(said(&json!([user("hello"), assistant, user("And you?")])), None);
        assert_eq!(said(&json!([user("continue")])), None);
    }
}
