//! What the client reads of usage, over all legs of a stream.
//!
//! Input is what the first leg said of it: the prompt that the client sent. Output is what all legs wrote. A leg that
//! broke seldom said how much it wrote; where it told its input (Messages), the next leg's input, which holds that text,
//! says it: the difference counts as output. Where the first leg told nothing (Chat), the input stays as the leg at hand
//! counts it, the text so far included, so that the sum of both is right. Accounting does not read any of this: there each
//! leg counts as the call it was.

use serde_json::{Map, Value};

use crate::Operation;

/// Counts over the legs of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// The members by which the first leg counted its input.
    input: Map<String, Value>,
    /// What earlier legs wrote, as far as it is known.
    before: u64,
    /// What the leg at hand has written, as far as it said.
    leg: u64,
}

/// The members that count a wire's input; the first is in every usage.
const CHAT: [&str; 2] = ["prompt_tokens", "prompt_tokens_details"];
const MESSAGES: [&str; 4] =
    ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation"];

const fn input_words(op: Operation) -> &'static [&'static str] {
    match op {
        Operation::Messages => &MESSAGES,
        Operation::Chat
        | Operation::Completions
        | Operation::Responses
        | Operation::Embeddings
        | Operation::CountTokens => &CHAT,
    }
}

const fn output_word(op: Operation) -> &'static str {
    match op {
        Operation::Messages => "output_tokens",
        Operation::Chat
        | Operation::Completions
        | Operation::Responses
        | Operation::Embeddings
        | Operation::CountTokens => "completion_tokens",
    }
}

/// All input that `usage` counts; the detail of a count is an object, and is no count.
fn input_total(op: Operation, usage: &Map<String, Value>) -> u64 {
    let counts = input_words(op).iter().filter_map(|word| usage.get(*word)).filter_map(Value::as_u64);
    counts.fold(0, u64::saturating_add)
}

impl Tally {
    /// Takes in a usage of the leg that began the stream.
    pub(super) fn first_leg(&mut self, op: Operation, mut usage: Map<String, Value>) {
        self.leg = usage.get(output_word(op)).and_then(Value::as_u64).unwrap_or(self.leg);
        if input_total(op, &usage) > 0 {
            usage.retain(|word, _| input_words(op).contains(&word.as_str()));
            self.input = usage;
        }
    }

    /// The leg at hand is over, and another begins.
    pub(super) const fn next_leg(&mut self) {
        self.before = self.before.saturating_add(self.leg);
        self.leg = 0;
    }

    /// Takes in how a further leg counts its input, the text so far, of so many bytes, included. No text has more tokens
    /// than bytes: what is beyond that are the words by which the rest was asked for.
    pub(super) fn input(&mut self, op: Operation, usage: &Map<String, Value>, text_bytes: usize) {
        let first = input_total(op, &self.input);
        if first > 0 {
            let more = input_total(op, usage).saturating_sub(first);
            self.before = self.before.max(more.min(u64::try_from(text_bytes).unwrap_or(u64::MAX)));
        }
    }

    /// Makes a usage of a further leg one of the whole stream.
    pub(super) fn rewrite(&mut self, op: Operation, usage: &mut Map<String, Value>) {
        let output = output_word(op);
        self.leg = usage.get(output).and_then(Value::as_u64).unwrap_or(self.leg);
        if !self.input.is_empty() {
            for word in input_words(op) {
                match (self.input.get(*word), usage.contains_key(*word)) {
                    (Some(first), true) => {
                        usage.insert((*word).to_owned(), first.clone());
                    }
                    (None, true) => {
                        usage.shift_remove(*word);
                    }
                    (_, false) => {}
                }
            }
        }
        if !usage.contains_key(output) {
            return;
        }
        let all = self.before.saturating_add(self.leg);
        usage.insert(output.to_owned(), all.into());
        if usage.contains_key("total_tokens") {
            let sum = input_total(op, usage).saturating_add(all);
            usage.insert("total_tokens".to_owned(), sum.into());
        }
    }
}
