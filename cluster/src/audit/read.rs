//! Reads the files: lines of a span, and whether nobody altered them.

use std::path::Path;

use super::AuditError;
use super::files::{Lines, numbers, path};
use super::line::{Gap, Kept};
use crate::state::audit::{Line, Link};

/// An end of a span of the audit; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An entry's place in the log.
    Index(u64),
    /// A time, as askers told it: milliseconds since 1970 (UTC).
    At(i64),
}

impl Point {
    /// Whether a line stands at this point or behind it.
    pub(crate) const fn is_reached(self, line: &Line) -> bool {
        match self {
            Self::Index(index) => line.index >= index,
            Self::At(at) => line.at >= at,
        }
    }

    /// Whether a line stands behind this point.
    pub(crate) const fn is_passed(self, line: &Line) -> bool {
        match self {
            Self::Index(index) => line.index > index,
            Self::At(at) => line.at > at,
        }
    }
}

/// The lines of a span in the files of a directory, the oldest first: the first `limit` from `from` on, or the last ones
/// where it is `None`.
///
/// # Errors
/// [`AuditError::Io`]. A line that cannot be read is left out: [`verify`] tells of it.
pub fn read(dir: &Path, from: Option<Point>, to: Option<Point>, limit: usize) -> Result<Vec<Line>, AuditError> {
    let mut span = Span::new(from, to, limit);
    'files: for number in numbers(dir)? {
        let mut lines = Lines::open(path(dir, number))?;
        while let Some(found) = lines.next()? {
            if let Ok(Kept::Line { before: _, line }) = found.kept
                && !span.take(&line)
            {
                break 'files;
            }
        }
    }
    Ok(span.lines.into())
}

/// Collects the lines of a span.
pub(crate) struct Span {
    from: Option<Point>,
    to: Option<Point>,
    limit: usize,
    pub(crate) lines: std::collections::VecDeque<Line>,
}

impl Span {
    pub(crate) fn new(from: Option<Point>, to: Option<Point>, limit: usize) -> Self {
        Self { from, to, limit, lines: std::collections::VecDeque::new() }
    }

    /// Looks at the next line; `false` once no further one can belong to the span.
    pub(crate) fn take(&mut self, line: &Line) -> bool {
        let is_inside =
            self.from.is_none_or(|from| from.is_reached(line)) && self.to.is_none_or(|to| !to.is_passed(line));
        if is_inside {
            self.lines.push_back(line.clone());
        }
        if self.from.is_none() && self.lines.len() > self.limit {
            self.lines.pop_front();
        }
        let is_full = self.from.is_some() && self.lines.len() >= self.limit;
        // Times may go back from one asker to the next, indexes never do.
        let is_over = matches!(self.to, Some(Point::Index(to)) if line.index >= to);
        !is_full && !is_over
    }
}

/// What the files of a directory hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many lines.
    pub lines: u64,
    /// The index of the first and of the last one.
    pub span: Option<(u64, u64)>,
    /// What this node itself never had.
    pub gaps: Vec<Gap>,
    /// The hash of the last line, to be compared with other nodes': it says every line before it.
    pub head: Link,
}

/// Checks that each line of a directory's files is linked to the one before.
///
/// # Errors
/// [`AuditError::Broken`] with the first line that is not, or was altered.
pub fn verify(dir: &Path) -> Result<Report, AuditError> {
    let mut report = Report::default();
    let mut is_first = true;
    let mut number_before: Option<u64> = None;
    for number in numbers(dir)? {
        let path = path(dir, number);
        let broken = |number, problem| AuditError::Broken { path: path.clone(), number, problem };
        if number_before.is_some_and(|before| before.checked_add(1) != Some(number)) {
            return Err(broken(1, "the file before this one is missing"));
        }
        number_before = Some(number);
        let mut lines = Lines::open(path.clone())?;
        while let Some(found) = lines.next()? {
            let kept = found.kept.map_err(|problem| broken(found.number, problem))?;
            // What was before the oldest file was taken away when its time had come.
            if !is_first && kept.before() != report.head {
                return Err(broken(found.number, "it is not linked to the line before: one was taken out or put in"));
            }
            is_first = false;
            report.head = kept.head();
            match kept {
                Kept::Gap(gap) => report.gaps.push(gap),
                Kept::Line { before: _, line } => {
                    if report.span.is_some_and(|(_, last)| last >= line.index) {
                        return Err(broken(found.number, "its index is not behind that of the line before"));
                    }
                    report.lines = report.lines.saturating_add(1);
                    report.span = Some((report.span.map_or(line.index, |(first, _)| first), line.index));
                }
            }
        }
    }
    Ok(report)
}
