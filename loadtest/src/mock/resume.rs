//! Going on with a text that was begun elsewhere.

use serde_json::Value;

/// Takes away what was said, and counts the pieces it had; nothing, if the text does not begin so.
///
/// A piece of which only the space is left comes with the next one, as a model goes on with a space and a word.
fn skip(pieces: &mut Vec<String>, said: &str) -> usize {
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

/// What was said of an answer before this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The text so far.
    pub(super) text: String,
    /// Words at its end that the request wants to be said again, so that it can see where the rest begins.
    pub(super) again: Option<String>,
}

/// Finds what the assistant said last, where the conversation ends with it.
///
/// Behind it a word of the user's that asks to continue, or quotes the end of the text, is taken as no new question: that
/// is how a conversation goes on at providers that take no unfinished message. What it quotes is said again, as a model
/// would that is asked to begin with it.
pub(super) fn said(messages: &Value) -> Option<Said> {
    let messages = messages.as_array()?;
    let (last, before) = messages.split_last()?;
    let is_of = |message: &Value, role: &str| message.get("role").is_some_and(|held| held == role);
    let text = |message: &Value| message.get("content").map(plain).filter(|text| !text.is_empty());
    if is_of(last, "assistant") {
        return Some(Said { text: text(last)?, again: None });
    }
    let asked = text(last).filter(|_| is_of(last, "user"))?;
    let unfinished = before.last().filter(|message| is_of(message, "assistant"))?;
    let text = text(unfinished)?.trim_end().to_owned();
    let again = quoted(&text, &asked).map(str::to_owned);
    if again.is_none() && !asked.to_lowercase().contains("continu") {
        return None;
    }
    Some(Said { text, again })
}

/// How much of a text's end is looked for in a request.
const QUOTE_BYTES_MAX: usize = 256;

/// The longest end of `text`, from the start of a word, that `asked` holds.
fn quoted<'a>(text: &'a str, asked: &str) -> Option<&'a str> {
    let from = text.len().saturating_sub(QUOTE_BYTES_MAX);
    let starts = text.char_indices().filter(|(at, letter)| {
        let is_first = *at == 0 || text.get(..*at).is_some_and(|before| before.ends_with(char::is_whitespace));
        *at >= from && is_first && !letter.is_whitespace()
    });
    starts.filter_map(|(at, _)| text.get(at..)).find(|end| asked.contains(end))
}

/// Goes on behind what was said, and counts the pieces that it had.
pub(super) fn go_on(pieces: &mut Vec<String>, said: &Said) -> usize {
    let count = skip(pieces, &said.text);
    if let (Some(again), true) = (&said.again, count > 0) {
        pieces.insert(0, again.clone());
    }
    count
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

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    #[test]
    fn a_conversation_goes_on_where_its_assistant_stopped() {
        let assistant = json!({"role": "assistant", "content": [{"type": "text", "text": "w0 w1"}]});
        let text = |messages: Value| said(&messages).map(|said| said.text);

        assert_eq!(text(json!([user("hello"), assistant])).as_deref(), Some("w0 w1"));
        assert_eq!(text(json!([user("hello"), assistant, user("Please continue.")])).as_deref(), Some("w0 w1"));
        assert_eq!(text(json!([user("hello"), assistant, user("And you?")])), None);
        assert_eq!(text(json!([user("continue")])), None);
    }

    #[test]
    fn words_that_a_request_quotes_are_said_again() {
        let assistant = json!({"role": "assistant", "content": "w0 w1 w2 "});
        let found = said(&json!([user("hello"), assistant, user("Write the rest, beginning with: w1 w2")])).unwrap();
        let mut pieces: Vec<String> = ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "].map(str::to_owned).to_vec();

        let count = go_on(&mut pieces, &found);

        assert_eq!((pieces.concat().as_str(), count), ("w1 w2 w3 w4 ", 3));
    }
}
