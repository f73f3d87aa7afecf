//! One event as it came.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

/// One complete event: its exact bytes, and where its fields are in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they came, the blank line that ends the event included.
    pub raw: Bytes,
    event: Option<Range<usize>>,
    data: Data,
    has_fields: bool,
}

/// Where the data of an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Data {
    /// It has no `data` line.
    None,
    /// One line, by far the most usual.
    Line(Range<usize>),
    /// Several, to be joined with LF.
    Lines,
}

impl Frame {
    /// Reads the fields of one event.
    pub fn parse(raw: Bytes) -> Self {
        let mut event = None;
        let mut data = Data::None;
        let mut has_fields = false;
        for (name, value) in fields(&raw) {
            has_fields = true;
            match name {
                b"data" => data = if data == Data::None { Data::Line(value) } else { Data::Lines },
                b"event" => event = Some(value),
                _ => {}
            }
        }
        Self { raw, event, data, has_fields }
    }

    /// The name of the event, if it has one that is UTF-8.
    pub fn event(&self) -> Option<&str> {
        std::str::from_utf8(self.raw.get(self.event.clone()?)?).ok()
    }

    /// The data; several lines are joined with LF. Empty when there is none.
    pub fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            Data::None => Cow::Borrowed(&[]),
            Data::Line(span) => Cow::Borrowed(self.raw.get(span.clone()).unwrap_or_default()),
            Data::Lines => {
                let lines = fields(&self.raw).filter(|(name, _)| *name == b"data");
                let lines: Vec<&[u8]> = lines.filter_map(|(_, value)| self.raw.get(value)).collect();
                Cow::Owned(lines.join(&b'\n'))
            }
        }
    }

    /// Where in `raw` the data is, if it is on one line.
    pub fn data_span(&self) -> Option<Range<usize>> {
        match &self.data {
            Data::Line(span) => Some(span.clone()),
            Data::None | Data::Lines => None,
        }
    }

    /// Whether there is a `data` line, be it empty.
    pub fn has_data(&self) -> bool {
        self.data != Data::None
    }

    /// Whether it has no field at all: comments, or nothing but the blank line. Used as a keep-alive.
    pub fn is_comment_only(&self) -> bool {
        !self.has_fields
    }
}

/// The fields of an event: each line's name and where its value is, comments and blank lines left out.
fn fields(raw: &[u8]) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = raw.get(from..).filter(|rest| !rest.is_empty())?;
            let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = rest.get(..length)?;
            let start = from;
            from += length + 1;
            let colon = memchr::memchr(b':', line).unwrap_or(length);
            let name = line.get(..colon)?;
            // A comment, a blank line, or the LF of a CRLF.
            if name.is_empty() {
                continue;
            }
            let space = usize::from(line.get(colon + 1) == Some(&b' '));
            let value = (colon + 1 + space).min(length);
            return Some((name, start + value..start + length));
        }
    })
}
