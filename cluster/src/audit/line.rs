//! One line of a file.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::state::audit::{Line, Link, link};

/// What a line of a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What an entry changed, and the hash it was linked to.
    Line {
        /// The hash of the line before.
        before: Link,
        /// The line.
        line: Line,
    },
    /// Lines that this node never had.
    Gap(Gap),
}

/// Lines that a node never had: it took over a snapshot that did not hold them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The hash of the last line before.
    pub before: Link,
    /// The hash that the line behind it is linked to.
    pub behind: Link,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineForm<'a> {
    prev: String,
    hash: String,
    #[serde(borrow)]
    line: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GapForm {
    gap: GapEnds,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GapEnds {
    prev: String,
    next: String,
}

/// What is needed of a body.
#[derive(Deserialize)]
struct Place {
    index: u64,
    at: String,
}

impl Kept {
    /// As it is written, with the end of the line.
    pub(super) fn write(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = match self {
            Self::Line { before, line } => {
                let body = RawValue::from_string(line.body.clone())?;
                serde_json::to_vec(&LineForm { prev: hex(before), hash: hex(&line.hash), line: &body })?
            }
            Self::Gap(Gap { before, behind }) => {
                serde_json::to_vec(&GapForm { gap: GapEnds { prev: hex(before), next: hex(behind) } })?
            }
        };
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a line without its end; `Err` says what is wrong with it. The hash is made of what is there, not believed.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        if let Ok(GapForm { gap: GapEnds { prev, next } }) = serde_json::from_str(text) {
            let ends = from_hex(&prev).zip(from_hex(&next));
            let (before, behind) = ends.ok_or("the ends of a gap are not hashes")?;
            return Ok(Self::Gap(Gap { before, behind }));
        }
        let form: LineForm<'_> = serde_json::from_str(text).map_err(|_| "it is no line of an audit")?;
        let before = from_hex(&form.prev).ok_or("`prev` is not a hash")?;
        let body = form.line.get();
        let hash = link(&before, body);
        if from_hex(&form.hash) != Some(hash) {
            return Err("its hash is not that of what it says: it was altered");
        }
        let Place { index, at } = serde_json::from_str(body).map_err(|_| "it has no index and time")?;
        let at = read_time(&at).ok_or("its time is none")?;
        Ok(Self::Line { before, line: Line { index, at, body: body.to_owned(), hash } })
    }

    /// The hash it is linked to.
    pub(super) const fn before(&self) -> Link {
        match self {
            Self::Line { before, .. } | Self::Gap(Gap { before, .. }) => *before,
        }
    }

    /// The hash that what is behind it is linked to.
    pub(super) const fn head(&self) -> Link {
        match self {
            Self::Line { line, .. } => line.hash,
            Self::Gap(gap) => gap.behind,
        }
    }
}

/// Reads what `state::audit` wrote: a time, or the number of one that no calendar has.
fn read_time(text: &str) -> Option<i64> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    time.map(jiff::Timestamp::as_millisecond).or_else(|| text.parse().ok())
}

fn hex(link: &Link) -> String {
    link.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Link> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}
