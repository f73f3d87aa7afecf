//! What the mock answers, before any wire gives it a shape.

use serde_json::{Value, json};

use super::resume::{Said, go_on};
use super::schema;
use super::script::{Knobs, Tools};

/// What a request asks for, in words common to all wires.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) knobs: Knobs,
    /// Number of this reply, for its ids.
    pub(super) serial: u64,
    pub(super) stream: bool,
    /// OpenAI's `stream_options.include_usage`.
    pub(super) include_usage: bool,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    pub(super) parallel: bool,
    /// Whether the last thing said is the result of a tool: then text follows, unless a call is forced.
    pub(super) after_tool_result: bool,
    pub(super) format: Format,
    pub(super) max_tokens: Option<usize>,
    pub(super) prompt_tokens: u64,
    /// What the assistant said so far, where the conversation ends with it: the answer goes on behind it.
    pub(super) said: Option<Said>,
}

#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) parameters: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Auto,
    None,
    Any,
    Named(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Text,
    JsonObject,
    JsonSchema(Value),
}

/// What is answered: the same for every wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Pieces of the thought, empty without one.
    pub(super) thought: Vec<String>,
    pub(super) content: Content,
    pub(super) stop: Stop,
    pub(super) usage: Usage,
    /// Pieces of the text that had been said before.
    pub(super) resumed: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Pieces of text; each is one content event of a stream.
    Text(Vec<String>),
    Calls(Vec<Call>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON text of the arguments.
    pub(super) arguments: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Length,
    Calls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Without what was read from the cache.
    pub(super) prompt: u64,
    pub(super) cached: u64,
    /// With the thought.
    pub(super) completion: u64,
    pub(super) thought: u64,
}

/// Words of a thought.
const THOUGHT_WORDS: usize = 5;
/// Letters of two, three and four bytes, for readers that cut text at bytes.
const LETTERS: &str = "\u{e9}\u{20ac}\u{1d11e}";
/// Bytes of one piece of JSON text in a stream.
const JSON_PIECE: usize = 12;

/// Decides the answer; the same question always gets the same one.
pub(super) fn answer(ask: &Ask) -> Answer {
    let calls = calls(ask);
    let thought: Vec<String> =
        if ask.knobs.reasoning { (0..THOUGHT_WORDS).map(|index| format!("r{index} ")).collect() } else { Vec::new() };
    let mut resumed = 0;
    let (content, stop, tokens) = if calls.is_empty() {
        let mut is_cut = false;
        let (pieces, tokens) = match &ask.format {
            Format::Text => {
                let mut pieces = text(&ask.knobs);
                resumed = ask.said.as_ref().map_or(0, |said| go_on(&mut pieces, said));
                // Only plain text is cut short: half a JSON document would be a different fault.
                is_cut = ask.max_tokens.is_some_and(|max| max < pieces.len());
                pieces.truncate(ask.max_tokens.unwrap_or(usize::MAX));
                let tokens = u64_of(pieces.len());
                (pieces, tokens)
            }
            Format::JsonObject => json_text(&json!({"mock": true})),
            Format::JsonSchema(schema) => json_text(&schema::example(schema)),
        };
        (Content::Text(pieces), if is_cut { Stop::Length } else { Stop::End }, tokens)
    } else {
        let tokens = calls.iter().map(|call| tokens_of(call.arguments.len())).sum();
        (Content::Calls(calls), Stop::Calls, tokens)
    };
    let thought_tokens = u64_of(thought.len());
    let usage = Usage {
        prompt: ask.prompt_tokens,
        cached: ask.knobs.cached,
        completion: tokens + thought_tokens,
        thought: thought_tokens,
    };
    Answer { thought, content, stop, usage, resumed: u64_of(resumed) }
}

fn calls(ask: &Ask) -> Vec<Call> {
    let Some(first) = ask.tools.first() else { return Vec::new() };
    let call = |tool: &Tool| Call { name: tool.name.clone(), arguments: schema::example(&tool.parameters).to_string() };
    let second = ask.tools.get(1).unwrap_or(first);
    match (&ask.choice, ask.knobs.tools) {
        (Choice::None, _) | (Choice::Auto, Tools::WhenForced) => Vec::new(),
        (Choice::Auto, _) if ask.after_tool_result => Vec::new(),
        (Choice::Named(name), _) => ask.tools.iter().filter(|tool| tool.name == *name).take(1).map(call).collect(),
        (Choice::Auto | Choice::Any, Tools::Two) if ask.parallel => vec![call(first), call(second)],
        (Choice::Auto | Choice::Any, _) => vec![call(first)],
    }
}

/// The whole text, whatever is asked of it.
fn text(knobs: &Knobs) -> Vec<String> {
    let share = knobs.size.map_or(0, |size| size / knobs.words.max(1));
    let mut pieces: Vec<String> = (0..knobs.words)
        .map(|index| {
            let word = format!("w{index}{}", if knobs.unicode { LETTERS } else { "" });
            let fill = share.saturating_sub(word.len() + 1);
            format!("{word}{} ", ".".repeat(fill))
        })
        .collect();
    let held: usize = pieces.iter().map(String::len).sum();
    if let (Some(size), Some(last)) = (knobs.size, pieces.last_mut())
        && held < size
    {
        last.pop();
        last.push_str(&".".repeat(size - held));
        last.push(' ');
    }
    pieces
}

fn json_text(value: &Value) -> (Vec<String>, u64) {
    let text = value.to_string();
    let tokens = tokens_of(text.len());
    (pieces(&text), tokens)
}

/// Cuts text into the pieces a stream sends it in.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in text.chars() {
        match pieces.last_mut() {
            Some(last) if last.len() < JSON_PIECE => last.push(letter),
            _ => pieces.push(letter.to_string()),
        }
    }
    pieces
}

/// Four bytes are a token, rounded up.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    u64_of(bytes.div_ceil(4))
}

pub(super) fn u64_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Counts the tokens of everything the request says as text.
///
/// Only the text counts, so that one conversation costs the same in every wire.
pub(super) fn prompt_tokens(body: &Value) -> u64 {
    let spoken = ["messages", "system", "input", "instructions", "prompt"];
    tokens_of(spoken.iter().filter_map(|name| body.get(*name)).map(|value| bytes_of(value, true)).sum())
}

fn bytes_of(value: &Value, is_text: bool) -> usize {
    match value {
        Value::String(text) if is_text => text.len(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::Array(items) => items.iter().map(|item| bytes_of(item, is_text)).sum(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "content" | "text" | "output"))
            .map(|(_, value)| bytes_of(value, true))
            .sum(),
    }
}

impl Answer {
    /// Gives the whole text, empty when tools are called.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Content::Text(pieces) => pieces.concat(),
            Content::Calls(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(model: &str) -> Ask {
        Ask {
            model: model.to_owned(),
            knobs: Knobs::parse(model).unwrap(),
            serial: 0,
            stream: false,
            include_usage: false,
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel: true,
            after_tool_result: false,
            format: Format::Text,
            max_tokens: None,
            prompt_tokens: 3,
            said: None,
        }
    }

    fn tool(name: &str) -> Tool {
        Tool { name: name.to_owned(), parameters: json!({"properties": {"x": {"type": "integer"}}}) }
    }

    fn called(ask: &Ask) -> Vec<String> {
        match answer(ask).content {
            Content::Calls(calls) => calls.into_iter().map(|call| call.name + &call.arguments).collect(),
            Content::Text(_) => Vec::new(),
        }
    }

    #[test]
    fn text_counts_its_own_words() {
        let answer = answer(&ask("mock+words=3"));

        assert_eq!(answer.text(), "w0 w1 w2 ");
        assert_eq!(answer.usage, Usage { prompt: 3, cached: 0, completion: 3, thought: 0 });
        assert_eq!(answer.stop, Stop::End);
    }

    #[test]
    fn a_token_limit_below_the_words_cuts_the_text() {
        let answer = answer(&Ask { max_tokens: Some(2), ..ask("mock") });

        assert_eq!(answer.text(), "w0 w1 ");
        assert_eq!(answer.stop, Stop::Length);
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let rest = |model: &str, said: &str| {
            let said = Some(Said { text: said.to_owned(), again: None });
            let answer = answer(&Ask { said, ..ask(model) });
            (answer.text(), answer.resumed, answer.usage.completion)
        };

        assert_eq!(rest("mock+words=4", "w0 w1 "), ("w2 w3 ".to_owned(), 2, 2));
        assert_eq!(rest("mock+words=4", "w0 w1"), (" w2 w3 ".to_owned(), 2, 2));
        assert_eq!(rest("mock+words=12", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w1"), ("0 w11 ".to_owned(), 11, 2));
        assert_eq!(rest("mock+words=2", "w0 w1"), (String::new(), 2, 0));
        assert_eq!(rest("mock+words=2", "hello"), ("w0 w1 ".to_owned(), 0, 2));
    }

    #[test]
    fn a_token_limit_counts_what_is_said_anew() {
        let said = Some(Said { text: "w0 w1 ".to_owned(), again: None });
        let answer = answer(&Ask { max_tokens: Some(2), said, ..ask("mock+words=5") });

        assert_eq!((answer.text().as_str(), answer.stop), ("w2 w3 ", Stop::Length));
    }

    #[test]
    fn a_size_is_met_to_the_byte_and_the_words_stay_countable() {
        let answer = answer(&ask("mock+words=7+size=2KiB"));

        assert_eq!(answer.text().len(), 2048);
        assert_eq!(answer.text().split_whitespace().count(), 7);
    }

    #[test]
    fn unicode_words_keep_the_size_they_were_told() {
        let answer = answer(&ask("mock+words=3+unicode+size=64"));

        assert!(answer.text().starts_with("w0\u{e9}\u{20ac}\u{1d11e}."));
        assert_eq!(answer.text().len(), 64);
    }

    #[test]
    fn tools_are_called_when_the_name_or_the_choice_says_so() {
        let tools = vec![tool("a"), tool("b")];
        let with = |model: &str, choice: Choice| Ask { tools: tools.clone(), choice, ..ask(model) };

        assert!(called(&with("mock", Choice::Auto)).is_empty());
        assert_eq!(called(&with("mock+tools", Choice::Auto)), [r#"a{"x":1}"#]);
        assert_eq!(called(&with("mock", Choice::Any)), [r#"a{"x":1}"#]);
        assert_eq!(called(&with("mock", Choice::Named("b".to_owned()))), [r#"b{"x":1}"#]);
        assert!(called(&with("mock+tools", Choice::None)).is_empty());
        assert_eq!(called(&with("mock+parallel-tools", Choice::Auto)), [r#"a{"x":1}"#, r#"b{"x":1}"#]);
    }

    #[test]
    fn one_tool_is_called_twice_in_parallel_and_once_where_parallel_is_off() {
        let one = Ask { tools: vec![tool("a")], ..ask("mock+parallel-tools") };

        assert_eq!(called(&one).len(), 2);
        assert_eq!(called(&Ask { parallel: false, ..one }).len(), 1);
    }

    #[test]
    fn after_a_tool_result_text_follows() {
        let done = Ask { tools: vec![tool("a")], after_tool_result: true, ..ask("mock+tools") };

        assert!(called(&done).is_empty());
        assert_eq!(called(&Ask { choice: Choice::Any, ..done }).len(), 1);
    }

    #[test]
    fn the_same_words_cost_the_same_in_both_wires() {
        let openai = json!({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hello"}]});
        let anthropic = json!({"system": "be", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello"}]}]});

        assert_eq!(prompt_tokens(&openai), 2);
        assert_eq!(prompt_tokens(&anthropic), 2);
    }

    #[test]
    fn pieces_put_together_are_the_text() {
        let text = "{\"city\":\"Zürich, Straße\",\"list\":[1,2,3]}";

        assert_eq!(pieces(text).concat(), text);
        assert!(pieces(text).len() > 2);
    }
}
