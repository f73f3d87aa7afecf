use std::cell::RefCell;
use std::fmt;

/// A line and a column, counted from 1; 0 where nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where the lines of a text begin, so that a byte's place is found without reading the text from its beginning.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index);
        Self { text, starts: std::iter::once(0).chain(ends.map(|end| end + 1)).collect() }
    }

    pub(super) fn place(&self, byte: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or(0);
        let before = self.text.get(start..byte).map_or(0, |before| before.chars().count());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { line: count(line), column: count(before).saturating_add(1) }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the variable or flag, that says it.
    pub source: String,
    /// Where in the file.
    pub at: Place,
    /// The field's path, such as `models.gpt-4o.targets[0].weight`; empty for the whole file.
    pub field: String,
    /// What is wrong and what would be right. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.at.line > 0 {
            write!(f, ":{}:{}", self.at.line, self.at.column)?;
        }
        match self.field.as_str() {
            "" => write!(f, ": {}", self.message),
            field => write!(f, ": {field}: {}", self.message),
        }
    }
}

/// Why a configuration was not taken: every problem that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// An error of one problem with a whole file.
    pub fn whole(source: &str, message: String) -> Self {
        let source = source.to_owned();
        Self { problems: vec![Problem { source, at: Place::default(), field: String::new(), message }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Problems found so far. At most [`Problems::MAX`] are kept.
#[derive(Debug, Default)]
pub struct Problems {
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    /// A person mends no more than this at once.
    pub const MAX: usize = 100;

    /// Adds one.
    pub fn add(&self, problem: Problem) {
        let mut found = self.found.borrow_mut();
        if found.len() < Self::MAX {
            found.push(problem);
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// `Ok` where nothing was found.
    ///
    /// # Errors
    /// All that was found, by file and place.
    pub fn into_result(self) -> Result<(), ConfigError> {
        let mut problems = self.found.into_inner();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| (&a.source, a.at).cmp(&(&b.source, b.at)));
        Err(ConfigError { problems })
    }
}
