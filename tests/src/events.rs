//! Server-sent events as a client sees them: read by rules of its own, so that a slip of the gateway's parser is not
//! forgiven by the same slip here.

use std::time::Instant;

use serde_json::Value;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When its last byte arrived.
    pub at: Instant,
    /// The `event:` field.
    pub name: Option<String>,
    /// The `data:` lines, joined by newlines.
    pub data: String,
}

impl Event {
    /// The data as JSON; null for data that is none, such as `[DONE]`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

/// Bytes on their way to becoming events.
#[derive(Debug, Default)]
pub struct Events {
    pending: Vec<u8>,
    comments: usize,
}

impl Events {
    /// Takes bytes as they arrived, and gives the events they completed.
    ///
    /// # Panics
    /// When an event is not UTF-8.
    pub fn push(&mut self, bytes: &[u8], at: Instant) -> Vec<Event> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = blank_line(&self.pending) {
            let block: Vec<u8> = self.pending.drain(..end).collect();
            let text = String::from_utf8(block).unwrap();
            events.extend(self.read(&text, at));
        }
        events
    }

    /// Comment lines seen.
    pub fn comments(&self) -> usize {
        self.comments
    }

    /// Bytes behind the last complete event.
    pub fn left(&self) -> &[u8] {
        &self.pending
    }

    fn read(&mut self, block: &str, at: Instant) -> Option<Event> {
        let (mut name, mut data) = (None, None::<String>);
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (field, &mut data) {
                ("", _) => self.comments += usize::from(line.starts_with(':')),
                ("event", _) => name = Some(value.to_owned()),
                ("data", Some(data)) => {
                    data.push('\n');
                    data.push_str(value);
                }
                ("data", none) => *none = Some(value.to_owned()),
                _ => {}
            }
        }
        data.map(|data| Event { at, name, data })
    }
}

/// Where the first block ends, its blank line included.
fn blank_line(bytes: &[u8]) -> Option<usize> {
    let end = |line: &[u8]| bytes.windows(line.len()).position(|found| found == line).map(|at| at + line.len());
    end(b"\n\n").into_iter().chain(end(b"\r\n\r\n")).min()
}
