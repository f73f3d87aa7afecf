//! Reads what is kept: lines of a span, what is missing of it, and whether nobody altered the files.

use std::collections::VecDeque;
use std::path::Path;

use super::AuditError;
use super::files::{Lines, numbers, path};
use super::line::{Gap, Kept};
use crate::state::audit::{Line, Link, Ring};

/// Bytes of lines that are held at once to go back by; older ones are out of reach.
const HISTORY_BYTES: usize = 64 << 20;

/// An end of a span of the audit; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An entry's place in the log.
    Index(u64),
    /// A time, as askers told it: milliseconds since 1970 (UTC). Their clocks may disagree: a span goes from the first line
    /// that is not earlier to the last that is not later, and has all between them.
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
    const fn is_passed(self, line: &Line) -> bool {
        match self {
            Self::Index(index) => line.index > index,
            Self::At(at) => line.at > at,
        }
    }
}

/// Lines of a span, and where some of it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The lines, the oldest first.
    pub lines: Vec<Line>,
    /// What this node never had, or has no more, in order.
    pub holes: Vec<Hole>,
}

/// Lines that are not known here: all between two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The index of the last line before them; `None`: they are the oldest.
    pub after: Option<u64>,
    /// The index of the first line behind them.
    pub before: u64,
}

/// The lines of a span in the files of a directory and in a state's ring, the oldest first: the first `limit` from `from`
/// on, or the last ones where it is `None`. Each of the two may hold lines that the other one has not.
///
/// # Errors
/// [`AuditError::Io`]. A line that cannot be read is a hole: [`verify`] tells of it.
pub fn read(
    dir: Option<&Path>,
    ring: &Ring,
    from: Option<Point>,
    to: Option<Point>,
    limit: usize,
) -> Result<Told, AuditError> {
    let mut span = Span::new(from, to, limit);
    let held = ring.lines().next().zip(ring.lines().next_back()).map(|(first, last)| first.index..=last.index);
    let mut is_ring_due = held.is_some();
    for number in dir.map(numbers).transpose()?.unwrap_or_default() {
        let Some(dir) = dir else { break };
        let mut lines = Lines::open(path(dir, number))?;
        while let Some(found) = lines.next()? {
            let Ok(Kept::Line { before, line }) = found.kept else { continue };
            if is_ring_due && held.as_ref().is_some_and(|held| line.index >= *held.start()) {
                is_ring_due = false;
                if !span.take_ring(ring) {
                    return Ok(span.told());
                }
            }
            let is_held = held.as_ref().is_some_and(|held| held.contains(&line.index));
            if !is_held && !span.take(&before, &line) {
                return Ok(span.told());
            }
        }
    }
    if is_ring_due {
        span.take_ring(ring);
    }
    Ok(span.told())
}

/// Collects the lines of a span from all lines there are, given in order.
pub(crate) struct Span {
    from: Option<Point>,
    to: Option<Point>,
    limit: usize,
    lines: VecDeque<Line>,
    /// Whether a line at its start came. Times may go back from one asker to the next: what stands behind belongs to it.
    is_begun: bool,
    /// Lines later than its end, which belong to it if one that is not stands behind them.
    later: VecDeque<Line>,
    /// The last line that was given, be it of the span or not, without its text.
    last: Option<Line>,
    /// The lines around each hole, without their texts.
    holes: Vec<(Option<Line>, Line)>,
}

impl Span {
    pub(crate) const fn new(from: Option<Point>, to: Option<Point>, limit: usize) -> Self {
        let is_begun = from.is_none();
        Self {
            from,
            to,
            limit,
            lines: VecDeque::new(),
            is_begun,
            later: VecDeque::new(),
            last: None,
            holes: Vec::new(),
        }
    }

    /// Looks at the next line, which is linked to `before`; `false` once no further one can belong to the span.
    fn take(&mut self, before: &Link, line: &Line) -> bool {
        let place = Line { body: String::new(), ..*line };
        if *before != self.last.as_ref().map_or([0; 32], |last| last.hash) {
            self.holes.push((self.last.take(), place.clone()));
        }
        self.last = Some(place);
        self.is_begun = self.is_begun || self.from.is_some_and(|from| from.is_reached(line));
        let is_later = self.to.is_some_and(|to| to.is_passed(line));
        if self.is_begun && is_later {
            self.later.push_back(line.clone());
        } else if self.is_begun {
            self.lines.append(&mut self.later);
            self.lines.push_back(line.clone());
        }
        self.bound();
        let is_full = self.from.is_some() && self.lines.len() >= self.limit;
        // Indexes never go back.
        let is_over = matches!(self.to, Some(Point::Index(to)) if line.index >= to);
        !is_full && !is_over
    }

    /// Holds no more than what was asked for: the first lines from a point on, or else the last.
    fn bound(&mut self) {
        if self.from.is_some() {
            self.lines.truncate(self.limit);
            self.later.truncate(self.limit);
            return;
        }
        for lines in [&mut self.lines, &mut self.later] {
            lines.drain(..lines.len().saturating_sub(self.limit));
        }
    }

    /// The same with all lines of a ring.
    pub(crate) fn take_ring(&mut self, ring: &Ring) -> bool {
        let mut before = ring.base();
        ring.lines().all(|line| {
            let goes_on = self.take(&before, line);
            before = line.hash;
            goes_on
        })
    }

    /// Whether it has as many lines as were asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.lines.len() >= self.limit
    }

    /// What was collected, and the holes that lie in what was asked for.
    pub(crate) fn told(self) -> Told {
        let is_full = self.is_full();
        let (first, last) = (self.lines.front().map(|line| line.index), self.lines.back().map(|line| line.index));
        let is_asked = |(after, before): &(Option<Line>, Line)| {
            let is_behind_start = match self.from {
                Some(Point::Index(from)) => before.index > from,
                Some(Point::At(from)) => before.at >= from || first.is_some_and(|first| before.index > first),
                // Of the last lines, what is before the first of so many was not asked for.
                None => !is_full || first.is_some_and(|first| before.index > first),
            };
            let is_before_end = after.as_ref().is_none_or(|after| match self.to {
                Some(Point::Index(to)) => after.index < to,
                Some(Point::At(to)) => after.at <= to || last.is_some_and(|last| after.index < last),
                None => true,
            });
            is_behind_start && is_before_end
        };
        let holes = self.holes.iter().filter(|hole| is_asked(hole));
        let holes = holes.map(|(after, before)| Hole { after: after.as_ref().map(|a| a.index), before: before.index });
        Told { holes: holes.collect(), lines: self.lines.into() }
    }
}

/// The newest lines without a hole between them: what the present can be told back by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The lines, the oldest first.
    pub lines: Vec<Line>,
    /// Whether nothing was ever changed before the oldest.
    pub is_whole: bool,
}

/// The lines behind the entry `index` that a ring and the files of a directory hold without a hole, up to the newest of the
/// ring; and the one before them, where it is known.
///
/// # Errors
/// [`AuditError::Io`]. A line that cannot be read is a hole.
pub fn history(dir: Option<&Path>, ring: &Ring, index: u64) -> Result<History, AuditError> {
    let held = ring.lines().map(|line| (**line).clone());
    let oldest = ring.lines().next().map(|line| line.index);
    let is_held = ring.base() == [0; 32] || oldest.is_some_and(|oldest| oldest <= index);
    let (Some(dir), Some(oldest), false) = (dir, oldest, is_held) else {
        return Ok(History { lines: held.collect(), is_whole: ring.base() == [0; 32] });
    };
    let mut run = Run::default();
    'files: for number in numbers(dir)? {
        let mut lines = Lines::open(path(dir, number))?;
        while let Some(found) = lines.next()? {
            let Ok(Kept::Line { before, line }) = found.kept else { continue };
            if line.index >= oldest {
                break 'files;
            }
            run.take(before, line, index);
        }
    }
    if run.head() != Some(ring.base()) {
        return Ok(History { lines: held.collect(), is_whole: false });
    }
    let is_whole = run.base == Some([0; 32]);
    Ok(History { lines: run.lines.into_iter().chain(held).collect(), is_whole })
}

/// Lines without a hole between them.
#[derive(Default)]
struct Run {
    /// What the first is linked to.
    base: Option<Link>,
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Run {
    fn head(&self) -> Option<Link> {
        self.lines.back().map(|line| line.hash)
    }

    /// Takes the next line; of those up to `index`, the last is kept.
    fn take(&mut self, before: Link, line: Line, index: u64) {
        if self.head() != Some(before) {
            *self = Self { base: Some(before), ..Self::default() };
        }
        self.bytes = self.bytes.saturating_add(line.body.len());
        self.lines.push_back(line);
        let is_surplus = |lines: &VecDeque<Line>| lines.get(1).is_some_and(|second| second.index <= index);
        while is_surplus(&self.lines) || (self.bytes > HISTORY_BYTES && self.lines.len() > 1) {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.body.len());
            self.base = Some(oldest.hash);
        }
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
            // The first file of all begins where nothing was before, or with a gap that does.
            if is_first && number == 1 && kept.before() != [0; 32] {
                return Err(broken(found.number, "what stood before it is missing"));
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
