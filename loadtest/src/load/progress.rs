//! One line on a terminal that tells how a run goes; silent everywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::record::{SLICE, Shared};
use super::units::{float, shown_us};
use crate::clock;

const EVERY: Duration = Duration::from_millis(250);

/// Whether there is someone to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is written.
    Silent,
    /// One line of standard error is written over and over.
    Line,
}

impl Progress {
    /// Gives a line where standard error is a terminal, silence where it is a file or a pipe.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Line } else { Self::Silent }
    }

    /// Writes one short text in place of the line before.
    pub fn say(self, text: &str) {
        if self == Self::Line {
            // A terminal that is gone stops no run.
            drop(write!(std::io::stderr().lock(), "\r\x1b[K{text}"));
        }
    }

    /// Watches a record until the handle is dropped.
    pub fn watch(self, label: &str, record: &Shared) -> Watch {
        if self == Self::Silent {
            return Watch(None);
        }
        let (label, record, begun) = (label.to_owned(), record.clone(), clock::now());
        Watch(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let text = line(&label, clock::now() - begun, &record);
                self.say(&text);
            }
        })))
    }
}

/// Ends the line when dropped.
pub struct Watch(Option<JoinHandle<()>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            Progress::Line.say("");
        }
    }
}

fn line(label: &str, time: Duration, record: &Shared) -> String {
    let record = record.lock();
    // The last slice is still filling, so the one before it is shown.
    let slice = record.slices.iter().rev().nth(1).or(record.slices.last());
    let now = slice.map_or_else(String::new, |slice| {
        let at = |quantile| shown_us(float(slice.latency.value_at_quantile(quantile)));
        let rate = float(slice.done) / SLICE.as_secs_f64();
        format!("  {rate:.0}/s  p50 {}  p99 {}", at(0.5), at(0.99))
    });
    format!("{label}  {:.0} s  {} over  {} failed{now}", time.as_secs_f64(), record.settled, record.failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client::Reply;
    use crate::load::record::Record;

    #[test]
    fn the_line_tells_what_is_over_what_failed_and_how_fast_it_is() {
        let begin = clock::now();
        let mut record = Record::new(begin, Duration::ZERO).unwrap();
        let ended = begin + Duration::from_millis(2);
        record.good(begin, &Reply { ended, first_event: None, gaps: Vec::new(), bytes: 1 });
        record.bad(begin, "status 503".to_owned(), None);

        let line = line("open 100/s", Duration::from_secs(3), &Shared::new(record));

        assert!(line.starts_with("open 100/s  3 s  2 over  1 failed  2/s  p50 2.0"), "{line}");
    }
}
