//! Where the text of one leg meets that of the next.

use memchr::memmem;

/// How the rest of a text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Nothing was said yet: the request is made again as it was.
    Anew,
    /// The text so far stands last, to be written on.
    Prefill,
    /// A message asks for the rest, to begin with the last words of the text so far.
    Ask,
}

impl Join {
    /// The word used for it in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anew => "anew",
            Self::Prefill => "prefill",
            Self::Ask => "ask",
        }
    }
}

/// The most of a text's end that a model is asked to repeat: enough to be found, and little to write.
const ANCHOR_BYTES_MAX: usize = 80;

/// A last line of at least this length is enough: models copy a line more faithfully than the space between two.
const ANCHOR_LINE_BYTES_MIN: usize = 24;

/// From this length on, a continuation that begins with all of the text so far repeats it. A shorter one may well go on
/// that way.
const ECHO_BYTES_MIN: usize = 32;

/// How many places of the text so far are looked at for where a repetition may begin.
const PLACES_MAX: usize = 1000;

/// The last words of a text: what [`Join::Ask`] asks a model to begin with. At most 80 bytes, from the start of a word
/// where there is one, of the last line if that is long enough, without the blanks at the end; empty for a text of
/// nothing but blanks.
pub fn anchor(text: &str) -> &str {
    let text = text.trim();
    let from = (text.len().saturating_sub(ANCHOR_BYTES_MAX)..=text.len()).find(|at| text.is_char_boundary(*at));
    let tail = from.and_then(|from| text.get(from..)).unwrap_or(text);
    if let Some((_, line)) = tail.rsplit_once('\n')
        && line.trim_start().len() >= ANCHOR_LINE_BYTES_MIN
    {
        return line.trim_start();
    }
    if tail.len() == text.len() {
        return text;
    }
    let word = tail.find(char::is_whitespace).filter(|at| *at <= tail.len() / 2);
    word.and_then(|at| tail.get(at..)).unwrap_or(tail).trim_start()
}

/// The text of a leg does not take up what was said before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Apart;

/// Finds where the text of a leg takes up the text so far, and takes out what is in both.
#[derive(Debug)]
pub(super) struct Joint {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The leg should begin with words that are there already.
    Repeats(String),
    /// The leg may begin with all of the text so far.
    MayEcho(String),
    /// The blanks that ended the text so far may come again.
    Blanks(String),
    Joined,
}

impl Joint {
    /// A joint to `said`, the text so far.
    pub(super) fn new(join: Join, said: &str) -> Self {
        let state = match join {
            Join::Anew => blanks(said),
            Join::Prefill if said.trim().len() >= ECHO_BYTES_MIN => State::MayEcho(String::new()),
            Join::Prefill => blanks(said),
            Join::Ask => State::Repeats(String::new()),
        };
        Self { state }
    }

    /// Takes more text of the leg, and gives what of it goes on to the client.
    ///
    /// # Errors
    /// [`Apart`] when the leg says something else than it was asked for.
    pub(super) fn push(&mut self, said: &str, more: &str) -> Result<String, Apart> {
        match &mut self.state {
            State::Joined => Ok(more.to_owned()),
            State::Blanks(left) => {
                let same: usize =
                    left.chars().zip(more.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
                *left = left.get(same..).unwrap_or_default().to_owned();
                let rest = more.get(same..).unwrap_or_default().to_owned();
                if left.is_empty() || !rest.is_empty() {
                    self.state = State::Joined;
                }
                Ok(rest)
            }
            State::Repeats(held) => {
                held.push_str(more);
                match repetition(said.trim(), held.trim_start()) {
                    Look::Ends(length) => {
                        let rest = held.trim_start().get(length..).unwrap_or_default().to_owned();
                        self.state = blanks(said);
                        self.push(said, &rest)
                    }
                    Look::Open => Ok(String::new()),
                    Look::Other => Err(Apart),
                }
            }
            State::MayEcho(held) => {
                held.push_str(more);
                let all = said.trim();
                let begun = held.trim_start();
                if all.len() > begun.len() && all.starts_with(begun) {
                    return Ok(String::new());
                }
                let rest = begun.strip_prefix(all).unwrap_or(held).to_owned();
                self.state = blanks(said);
                self.push(said, &rest)
            }
        }
    }

    /// No more text comes: gives what was held back.
    ///
    /// # Errors
    /// [`Apart`] when the leg has not said what it was asked for.
    pub(super) fn close(&mut self, said: &str) -> Result<String, Apart> {
        match std::mem::replace(&mut self.state, State::Joined) {
            State::Joined | State::Blanks(_) => Ok(String::new()),
            State::Repeats(_) => Err(Apart),
            State::MayEcho(held) => {
                self.state = blanks(said);
                let rest = self.push(said, &held)?;
                self.state = State::Joined;
                Ok(rest)
            }
        }
    }
}

fn blanks(said: &str) -> State {
    match said.get(said.trim_end().len()..) {
        Some(blanks) if !blanks.is_empty() => State::Blanks(blanks.to_owned()),
        Some(_) | None => State::Joined,
    }
}

enum Look {
    /// The leg begins with so many bytes of the end of the text so far.
    Ends(usize),
    /// More is needed to tell.
    Open,
    /// It begins with something else.
    Other,
}

/// Whether `leg` begins with the end of `all`: its last words, or more than these.
fn repetition(all: &str, leg: &str) -> Look {
    let words = anchor(all);
    if leg.starts_with(words) {
        return Look::Ends(words.len());
    }
    let Some(last) = all.len().checked_sub(words.len()) else { return Look::Other };
    let (all, leg) = (all.as_bytes(), leg.as_bytes());
    let head = leg.get(..words.len()).unwrap_or(leg);
    let mut from = 0;
    let mut is_open = false;
    for _ in 0..PLACES_MAX {
        // A repetition that begins behind the last words would be shorter than these.
        let within = all.get(from..last.saturating_add(head.len()).min(all.len()));
        let found = within.filter(|_| from <= last).and_then(|within| memmem::find(within, head));
        let Some(at) = found.map(|at| from + at) else { break };
        let tail = all.get(at..).unwrap_or_default();
        if leg.starts_with(tail) {
            return Look::Ends(tail.len());
        }
        is_open |= tail.starts_with(leg);
        from = at + 1;
    }
    if is_open { Look::Open } else { Look::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str =
        "The quick brown fox jumps over the lazy dog. It was not the first time that it did so, and the dog knew ";

    fn joined(join: Join, said: &str, pieces: &[&str]) -> Option<String> {
        let mut joint = Joint::new(join, said);
        let mut out = String::new();
        for piece in pieces {
            out += &joint.push(said, piece).ok()?;
        }
        out += &joint.close(said).ok()?;
        Some(out)
    }

    #[test]
    fn an_anchor_begins_with_a_word_and_ends_without_blanks() {
        assert_eq!(anchor(SAID), "over the lazy dog. It was not the first time that it did so, and the dog knew");
        assert_eq!(anchor(" Hi there \n"), "Hi there");
        assert_eq!(anchor(" \n "), "");
        assert_eq!(anchor("1. One thing\n  2. And then another one, too"), "2. And then another one, too");
        assert_eq!(anchor("1. One thing\n2. And"), "1. One thing\n2. And");
        assert_eq!(anchor(&"é".repeat(100)), "é".repeat(40));
    }

    #[test]
    fn repeated_last_words_are_taken_out_however_they_are_cut() {
        let anchor = anchor(SAID);
        for cut in (0..anchor.len()).filter(|cut| anchor.is_char_boundary(*cut)) {
            let (a, b) = anchor.split_at(cut);
            assert_eq!(joined(Join::Ask, SAID, &[a, b, " it", " well."]).as_deref(), Some("it well."), "{cut}");
        }
    }

    #[test]
    fn a_repetition_of_more_than_the_last_words_is_taken_out() {
        let whole = format!("{SAID}it well.");
        assert_eq!(joined(Join::Ask, SAID, &[&whole]).as_deref(), Some("it well."));
        assert_eq!(
            joined(Join::Ask, SAID, &["\nfox jumps over the", whole.get(34..).unwrap()]).as_deref(),
            Some("it well.")
        );
    }

    #[test]
    fn a_leg_that_says_something_else_does_not_join() {
        assert_eq!(joined(Join::Ask, SAID, &["Sure! Here is the rest: it well."]), None);
        assert_eq!(joined(Join::Ask, SAID, &["it well."]), None);
        assert_eq!(joined(Join::Ask, SAID, &["and the dog"]), None);
        assert_eq!(joined(Join::Ask, SAID, &[]), None);
    }

    #[test]
    fn blanks_that_were_cut_off_a_prefill_come_once() {
        assert_eq!(joined(Join::Prefill, SAID, &[" it"]).as_deref(), Some("it"));
        assert_eq!(joined(Join::Prefill, "a\n\n", &["\n", "\n", "b"]).as_deref(), Some("b"));
        assert_eq!(joined(Join::Prefill, "a\n", &["\n\nb"]).as_deref(), Some("\nb"));
        assert_eq!(joined(Join::Prefill, "a", &["\n\nb"]).as_deref(), Some("\n\nb"));
        assert_eq!(joined(Join::Anew, " ", &[" Hi"]).as_deref(), Some("Hi"));
    }

    #[test]
    fn a_prefill_that_is_repeated_whole_is_taken_out_and_one_that_is_begun_again_is_not() {
        assert_eq!(joined(Join::Prefill, SAID, &[SAID.trim_end(), " it"]).as_deref(), Some("it"));
        assert_eq!(joined(Join::Prefill, SAID, &["The quick ", "end."]).as_deref(), Some("The quick end."));
        assert_eq!(joined(Join::Prefill, SAID, &["The quick"]).as_deref(), Some("The quick"));
        assert_eq!(joined(Join::Prefill, "ha ", &["ha ha"]).as_deref(), Some("ha ha"));
    }
}
