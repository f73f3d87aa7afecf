//! The files of an audit: numbered, so that one that is missing is seen.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::AuditError;
use super::line::Kept;

/// A line is bounded by what the state puts into one, and by the words around it.
const LINE_BYTES_MAX: usize = 1 << 20;

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> AuditError {
    move |source| AuditError::Io { path: path.to_owned(), source }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("audit-{number:08}.jsonl"))
}

/// The numbers of the files in a directory, in order.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, AuditError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let name = entry.map_err(io(dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
        let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is wrong with a line that a crash cut short.
pub(super) const TORN: &str = "it has no end";

/// One line of a file as it was found.
pub(super) struct Found {
    /// The line from 1.
    pub(super) number: usize,
    /// The bytes behind it in the file.
    pub(super) end: u64,
    /// What it says, or what is wrong with it.
    pub(super) kept: Result<Kept, &'static str>,
}

/// The lines of a file, one after the other.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
    end: u64,
}

impl Lines {
    pub(super) fn open(path: PathBuf) -> Result<Self, AuditError> {
        let file = File::open(&path).map_err(io(&path))?;
        Ok(Self { path, reader: BufReader::new(file), number: 0, end: 0 })
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Found>, AuditError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bounded = std::io::Read::take(&mut self.reader, limit);
        let read = bounded.read_until(b'\n', &mut bytes).map_err(io(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.end = self.end.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let kept = match bytes.split_last() {
            Some((b'\n', line)) => std::str::from_utf8(line).map_err(|_| "it is not text").and_then(Kept::read),
            Some(_) | None => Err(TORN),
        };
        Ok(Some(Found { number: self.number, end: self.end, kept }))
    }
}
