//! What was changed, by whom and why: the newest of it in the state, chained by hashes, without secrets.
//!
//! Like every text in the state it is part of `apply`: see [`super::shape`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_proto::command::Note;
use troupe_proto::id::Revision;

use super::shape::Shape;

/// Lines that the state keeps; each node's files keep more.
const LINES_MAX: usize = 1_000;

/// Bytes of text that the state keeps.
const BYTES_MAX: usize = 4 << 20;

/// Bytes of one line beyond which changes are only counted: a command may carry 100,000 of them.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Characters of what an asker says of itself.
const ACTOR_CHARS: usize = 128;
/// Characters of why.
const REASON_CHARS: usize = 1_024;

/// A hash that says everything before it too.
pub type Link = [u8; 32];

/// What one entry of the log changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The entry's place in the log.
    pub index: u64,
    /// When it was asked for, by the clock of the node it was asked at: milliseconds since 1970 (UTC).
    pub at: i64,
    /// All of it, as JSON.
    pub body: String,
    /// SHA-256 of the line before's hash and of this one's body.
    pub hash: Link,
}

/// The hash of a line behind another one.
pub fn link(before: &Link, body: &str) -> Link {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(body);
    hash.finalize().into()
}

/// The newest lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// The hash of the last line that is not kept any more.
    base: Link,
    lines: imbl::Vector<Arc<Line>>,
    /// Bytes of their bodies.
    bytes: usize,
}

impl Ring {
    /// The lines, the oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &Arc<Line>> {
        self.lines.iter()
    }

    /// The hash of the newest line, which says everything before it; zeros before the first.
    pub fn head(&self) -> Link {
        self.lines.last().map_or(self.base, |line| line.hash)
    }

    /// The hash that the oldest kept line was linked to.
    pub const fn base(&self) -> Link {
        self.base
    }

    pub(super) fn push(&mut self, index: u64, revision: Revision, note: &Note, changes: Changes) {
        let body = body(index, revision, note, changes);
        let hash = link(&self.head(), &body);
        self.bytes = self.bytes.saturating_add(body.len());
        self.lines.push_back(Arc::new(Line { index, at: note.at, body, hash }));
        while self.lines.len() > LINES_MAX || (self.bytes > BYTES_MAX && self.lines.len() > 1) {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.body.len());
            self.base = oldest.hash;
        }
    }
}

fn body(index: u64, revision: Revision, note: &Note, changes: Changes) -> String {
    let Changes { told, bytes: _, is_full: _, counted } = changes;
    let cut = |text: &str, max: usize| text.chars().take(max).collect::<String>();
    let at = jiff::Timestamp::from_millisecond(note.at).map_or_else(|_| note.at.to_string(), |time| time.to_string());
    let mut body = Shape::new();
    body.insert("index".to_owned(), json!(index));
    body.insert("revision".to_owned(), json!(revision.0));
    body.insert("at".to_owned(), json!(at));
    body.insert("actor".to_owned(), json!(cut(&note.actor, ACTOR_CHARS)));
    body.insert("reason".to_owned(), json!(cut(&note.reason, REASON_CHARS)));
    body.insert("changes".to_owned(), Value::Array(told));
    if !counted.is_empty() {
        body.insert("more".to_owned(), json!(counted));
    }
    Value::Object(body).to_string()
}

/// What one command changes, told as it is applied.
#[derive(Default)]
pub(super) struct Changes {
    told: Vec<Value>,
    bytes: usize,
    /// Once one change has no room, none behind it is told: they are many, and telling them takes time.
    is_full: bool,
    /// What is beyond the bound of a line: how many of each noun.
    counted: BTreeMap<&'static str, u64>,
}

impl Changes {
    /// Tells of one noun. Of one that was there before, only the fields that differ are kept.
    pub(super) fn tell(
        &mut self,
        noun: &'static str,
        name: &str,
        before: impl FnOnce() -> Option<Shape>,
        after: impl FnOnce() -> Option<Shape>,
    ) {
        if self.is_full {
            return self.count(noun);
        }
        let (mut before, mut after) = (before(), after());
        let did = match (&mut before, &mut after) {
            (None, None) => return,
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(before), Some(after)) => {
                keep_differences(before, after);
                if before.is_empty() && after.is_empty() {
                    return;
                }
                "changed"
            }
        };
        let mut change = Shape::new();
        change.insert("what".to_owned(), json!(noun));
        change.insert("name".to_owned(), json!(name));
        change.insert("did".to_owned(), json!(did));
        for (when, shape) in [("before", before), ("after", after)] {
            if let Some(shape) = shape {
                change.insert(when.to_owned(), Value::Object(shape));
            }
        }
        let change = Value::Object(change);
        let bytes = self.bytes.saturating_add(change.to_string().len());
        if bytes > LINE_BYTES_MAX {
            self.is_full = true;
            return self.count(noun);
        }
        self.bytes = bytes;
        self.told.push(change);
    }

    /// Counts what is not told one by one.
    pub(super) fn count(&mut self, noun: &'static str) {
        let count = self.counted.entry(noun).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.counted.is_empty()
    }
}

fn keep_differences(before: &mut Shape, after: &mut Shape) {
    let same: Vec<String> =
        before.iter().filter(|(name, value)| after.get(*name) == Some(*value)).map(|(name, _)| name.clone()).collect();
    for name in same {
        before.shift_remove(&name);
        after.shift_remove(&name);
    }
}

impl Encode for Ring {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.base.encode(encoder)?;
        u64::try_from(self.lines.len()).unwrap_or(u64::MAX).encode(encoder)?;
        self.lines.iter().try_for_each(|line| {
            let Line { index, at, body, hash: _ } = &**line;
            index.encode(encoder)?;
            at.encode(encoder)?;
            body.encode(encoder)
        })
    }
}

impl<C> Decode<C> for Ring {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut ring = Self { base: Link::decode(decoder)?, ..Self::default() };
        let lines: Vec<(u64, i64, String)> = Decode::decode(decoder)?;
        if lines.len() > LINES_MAX {
            return Err(DecodeError::Other("more lines of the audit than are kept"));
        }
        for (index, at, body) in lines {
            let hash = link(&ring.head(), &body);
            ring.bytes = ring.bytes.saturating_add(body.len());
            ring.lines.push_back(Arc::new(Line { index, at, body, hash }));
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(fields: &[(&str, i32)]) -> Option<Shape> {
        Some(fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
    }

    fn note() -> Note {
        Note { actor: "ci".to_owned(), reason: "why".to_owned(), at: 1_700_000_000_123, idempotency: None }
    }

    #[test]
    fn a_line_tells_what_differs_and_nothing_else() {
        let mut changes = Changes::default();
        changes.tell("key", "a", || shape(&[("x", 1), ("y", 2)]), || shape(&[("x", 1), ("y", 3), ("z", 4)]));
        changes.tell("key", "b", || None, || shape(&[("x", 1)]));
        changes.tell("key", "c", || shape(&[("x", 1)]), || None);
        changes.tell("key", "d", || shape(&[("x", 1)]), || shape(&[("x", 1)]));
        let mut ring = Ring::default();

        ring.push(7, Revision(3), &note(), changes);

        let line = ring.lines().next().unwrap();
        assert_eq!(
            line.body,
            r#"{"index":7,"revision":3,"at":"2023-11-14T22:13:20.123Z","actor":"ci","reason":"why","changes":[{"what":"key","name":"a","did":"changed","before":{"y":2},"after":{"y":3,"z":4}},{"what":"key","name":"b","did":"added","after":{"x":1}},{"what":"key","name":"c","did":"removed","before":{"x":1}}]}"#
        );
        assert_eq!(line.hash, link(&[0; 32], &line.body));
    }

    #[test]
    fn a_line_has_an_end_behind_which_changes_are_counted() {
        let mut changes = Changes::default();
        for n in 0..10_000 {
            changes.tell("key", &n.to_string(), || None, || shape(&[("x", n)]));
        }
        let mut ring = Ring::default();

        ring.push(1, Revision(1), &note(), changes);

        let body: Value = serde_json::from_str(&ring.lines().next().unwrap().body).unwrap();
        let told = body["changes"].as_array().unwrap().len();
        assert_eq!(body["more"]["key"], 10_000 - told);
        assert!(told > 500 && ring.bytes < LINE_BYTES_MAX + 4_096, "{told} {}", ring.bytes);
    }

    #[test]
    fn the_ring_keeps_the_newest_lines_and_their_chain() {
        let mut ring = Ring::default();
        for index in 1..=1_500 {
            ring.push(index, Revision(index), &note(), Changes::default());
        }

        assert_eq!(ring.lines().count(), LINES_MAX);
        assert_eq!(ring.lines().next().unwrap().index, 501);
        let head = ring.lines().fold(ring.base(), |before, line| link(&before, &line.body));
        assert_eq!(head, ring.head());
        let config = bincode::config::standard();
        let bytes = bincode::encode_to_vec(&ring, config).unwrap();
        assert_eq!(bincode::decode_from_slice::<Ring, _>(&bytes, config).unwrap().0, ring);
    }

    #[test]
    fn long_words_of_an_asker_are_cut() {
        let mut ring = Ring::default();
        let note = Note { actor: "\u{e4}".repeat(1_000), reason: "r".repeat(10_000), ..note() };

        ring.push(1, Revision(1), &note, Changes::default());

        let body: Value = serde_json::from_str(&ring.lines().next().unwrap().body).unwrap();
        assert_eq!(body["actor"].as_str().unwrap().chars().count(), ACTOR_CHARS);
        assert_eq!(body["reason"].as_str().unwrap().len(), REASON_CHARS);
    }
}
