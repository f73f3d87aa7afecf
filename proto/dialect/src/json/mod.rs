//! Strict reading of JSON that strangers wrote.
//!
//! A body must not mean one thing to us and another to the provider, so what parsers disagree on is refused: a member
//! named twice (compared after unescaping), a lone surrogate, bytes after the value, text that is not UTF-8.

#[cfg(test)]
pub(crate) mod arbitrary;
mod scan;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;

pub(crate) use scan::{OpenNames, Scan};
pub(crate) use walk::{Key, Walk, Walker};

/// How deep arrays and objects may nest; the limit of `serde_json`'s recursion.
pub const DEPTH_MAX: usize = 128;

/// The most of a member's name or a path that a message repeats, in bytes.
const ECHO_MAX: usize = 80;

/// Why a text is not JSON that everyone reads the same way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJson {
    /// It is not UTF-8.
    #[error("the body is not UTF-8 (byte {offset})")]
    NotUtf8 {
        /// Where the first bad byte is, from 0.
        offset: usize,
    },
    /// It is not JSON, or something follows it.
    #[error("the body is not valid JSON: {what} (line {line}, column {column})")]
    Syntax {
        /// What was found.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The byte within the line, from 1.
        column: usize,
    },
    /// It nests deeper than [`DEPTH_MAX`].
    #[error("the body nests deeper than {DEPTH_MAX} levels (line {line}, column {column})")]
    TooDeep {
        /// The line, from 1.
        line: usize,
        /// The byte within the line, from 1.
        column: usize,
    },
    /// An object has two members of one name.
    #[error("{path}: the member {key:?} is there twice (line {line}, column {column})")]
    Duplicate {
        /// The name, unescaped.
        key: String,
        /// The object that has it, as a path such as `messages[0].content`; `body` for the outermost.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The byte within the line, from 1.
        column: usize,
    },
    /// It is JSON, and not an object.
    #[error("the body is {found} where an object is expected")]
    NotAnObject {
        /// What it is, with its article.
        found: &'static str,
    },
}

/// What kind of value was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind of the value that `text`, which is known to be JSON, begins with.
    pub fn of(text: &str) -> Self {
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'n') | None => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(_) => Self::Number,
        }
    }

    /// Its name with an article, for messages.
    pub const fn a(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.a())
    }
}

/// The text of a body.
///
/// # Errors
/// [`BadJson::NotUtf8`] with the place of the first bad byte.
pub fn text(body: &[u8]) -> Result<&str, BadJson> {
    std::str::from_utf8(body).map_err(|error| BadJson::NotUtf8 { offset: error.valid_up_to() })
}

/// Reads all of `body` and says what it is.
///
/// # Errors
/// [`BadJson`], for the first thing that is wrong with it. Numbers beyond the range of a double count as wrong.
pub fn check(body: &[u8]) -> Result<Kind, BadJson> {
    let text = text(body)?;
    let walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let kind = serde::de::DeserializeSeed::deserialize(Walker::new(&walk), &mut reader);
    kind.and_then(|kind| reader.end().map(|()| kind)).map_err(|error| walk.explain(&error))
}

/// The most of `text` that fits in `max` bytes, cut between characters.
pub(crate) fn head(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    // A character has four bytes at most, so this looks at four places.
    (0..=max).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
