//! What happened in a run, in order: a hash of all of it, the lines a reader wants, and counts.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The virtual time.
    pub at: Duration,
    /// What happened.
    pub what: String,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.6}  {}", self.at.as_secs_f64(), self.what)
    }
}

/// What happened so far.
pub struct Record {
    /// The virtual time of the driver; hosts are up to one tick ahead of it.
    pub now: Duration,
    /// The hash of the state it ended in.
    pub state: String,
    order: u64,
    sum: Sha256,
    lines: Vec<Line>,
    has_steps: bool,
    counts: BTreeMap<&'static str, u64>,
    broken: Vec<String>,
    buffer: String,
}

impl Record {
    /// `has_steps`: every step is kept as a line, not only what a reader wants at first.
    pub fn new(has_steps: bool) -> Self {
        Self {
            now: Duration::ZERO,
            state: String::new(),
            order: 0,
            sum: Sha256::new(),
            lines: Vec::new(),
            has_steps,
            counts: BTreeMap::new(),
            broken: Vec::new(),
            buffer: String::new(),
        }
    }

    /// The next place in the order of everything. The run has one thread, so this is the real order.
    pub const fn order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Notes what a reader wants to know.
    pub fn tell(&mut self, what: impl Display) {
        let at = self.add(&what);
        self.lines.push(Line { at, what: self.buffer.clone() });
    }

    /// Notes a detail.
    pub fn step(&mut self, what: impl Display) {
        let at = self.add(&what);
        if self.has_steps {
            self.lines.push(Line { at, what: self.buffer.clone() });
        }
    }

    fn add(&mut self, what: &impl Display) -> Duration {
        let at = turmoil::in_simulation().then(turmoil::sim_elapsed).flatten().unwrap_or(self.now);
        self.buffer.clear();
        // Writing to a string does not fail.
        let _written = write!(self.buffer, "{what}");
        self.sum.update(at.as_nanos().to_be_bytes());
        self.sum.update(self.buffer.as_bytes());
        self.sum.update([0]);
        at
    }

    /// Notes that a promise was broken. The run goes on: the first such line is the one to look at.
    pub fn breach(&mut self, what: impl Display) {
        // One cause breaks many promises.
        if self.broken.len() < 20 {
            self.tell(format_args!("BROKEN: {what}"));
            self.broken.push(self.buffer.clone());
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What was counted.
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The promises that were broken.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// A hash of all that happened, details included.
    pub fn hash(&self) -> String {
        hex(&self.sum.clone().finalize())
    }
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}
