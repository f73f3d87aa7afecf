//! What the simulated model says.

use super::ask::{Ask, Form};

/// Characters of JSON that make one piece, and so one token.
const JSON_PIECE_CHARS: usize = 12;

/// The answer to one request, cut into the pieces a stream sends.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) content: Content,
    pub(super) end: End,
    pub(super) tokens_in: u64,
    pub(super) tokens_out: u64,
}

#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Text(Vec<String>),
    Call { name: String, arguments: Vec<String> },
}

/// Why the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    Length,
    Call,
}

impl Answer {
    pub(super) fn total(&self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

/// Answers `ask`; each piece counts one token, and no more come out than the caller allows.
pub(super) fn answer(ask: &Ask) -> Answer {
    let room = ask.tokens_out_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let (content, end, count) = match &ask.form {
        Form::Text => text(words(&greeting(ask)), room),
        Form::Json(value) => text(json_pieces(&value.to_string()), room),
        Form::Call { name, arguments } => {
            let arguments = json_pieces(&arguments.to_string());
            let count = arguments.len();
            if count > room {
                // Half of a call is of no use to anyone: its tokens are spent and nothing is called.
                (Content::Text(Vec::new()), End::Length, room)
            } else {
                (Content::Call { name: name.clone(), arguments }, End::Call, count)
            }
        }
    };
    Answer { content, end, tokens_in: ask.tokens_in, tokens_out: u64::try_from(count).unwrap_or(u64::MAX) }
}

fn text(mut pieces: Vec<String>, room: usize) -> (Content, End, usize) {
    let end = if pieces.len() > room { End::Length } else { End::Stop };
    pieces.truncate(room);
    let count = pieces.len();
    (Content::Text(pieces), end, count)
}

fn greeting(ask: &Ask) -> String {
    let Ask { model, heard, .. } = ask;
    format!(
        "Hello from the simulated model \"{model}\". {heard} \
         Put a real provider into spec.toml to talk to a real one."
    )
}

fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn json_pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(JSON_PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}
