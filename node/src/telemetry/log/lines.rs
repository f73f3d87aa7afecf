//! Lines on their way to a writer that may stand still.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock;

/// Lines the ring holds; with [`LINE_BYTES`] at most 16 MiB.
const RING_LINES: usize = 4096;
/// The longest line; what is longer is cut.
const LINE_BYTES: usize = 4096;
const CUT: &[u8] = b" [cut]\n";
/// How long the writer rests when it found nothing: nobody wakes it, which would cost a data thread a system call.
const REST: Duration = Duration::from_millis(20);
/// Bytes written by one call of the system, about.
const BATCH_BYTES: usize = 64 << 10;

/// The ring, and the thread behind it. Clones share both.
#[derive(Clone)]
pub(super) struct Lines {
    shared: Arc<Shared>,
    writer: Thread,
}

struct Shared {
    ring: ArrayQueue<Box<[u8]>>,
    /// Lines that went into the ring.
    taken: AtomicU64,
    /// Lines that came out of it and were written, or could not be.
    done: AtomicU64,
    dropped: AtomicU64,
}

impl Lines {
    /// Starts the thread, which lives as long as the process.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            ring: ArrayQueue::new(RING_LINES),
            taken: AtomicU64::new(0),
            done: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&theirs, out))?;
        Ok(Self { shared, writer: writer.thread().clone() })
    }

    /// Puts a line into the ring and says whether it had room. Never waits; a line that had none is counted.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let line = match line.get(..LINE_BYTES - CUT.len()) {
            Some(kept) if line.len() > LINE_BYTES => [whole_characters(kept), CUT].concat().into(),
            Some(_) | None => Box::from(line),
        };
        let has_room = self.shared.ring.push(line).is_ok();
        let count = if has_room { &self.shared.taken } else { &self.shared.dropped };
        count.fetch_add(1, Ordering::Release);
        has_room
    }

    /// Waits until the lines taken so far are written, at most so long; says whether they are.
    pub(super) fn flush(&self, at_most: Duration) -> bool {
        let deadline = clock::now() + at_most;
        let taken = self.shared.taken.load(Ordering::Acquire);
        self.writer.unpark();
        loop {
            let is_done = self.shared.done.load(Ordering::Acquire) >= taken;
            if is_done || clock::now() >= deadline {
                return is_done;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lines that were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// Text without the piece of a character that a cut left at its end.
fn whole_characters(text: &[u8]) -> &[u8] {
    let valid = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
    text.get(..valid).unwrap_or(text)
}

fn write(shared: &Shared, mut out: impl Write) {
    let mut text = Vec::new();
    let (mut told, mut is_failing) = (0, false);
    loop {
        text.clear();
        let mut lines = 0_u64;
        while text.len() < BATCH_BYTES
            && let Some(line) = shared.ring.pop()
        {
            text.extend_from_slice(&line);
            lines += 1;
        }
        if lines > 0 {
            is_failing = out.write_all(&text).and_then(|()| out.flush()).is_err();
            if is_failing {
                shared.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            shared.done.fetch_add(lines, Ordering::Release);
            continue;
        }
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if dropped > told && !is_failing {
            // Told when the ring is empty again, so once for each time that it was full.
            tracing::warn!(lines = dropped - told, "lines of this log were lost, it was not read fast enough");
            told = dropped;
        }
        std::thread::park_timeout(REST);
    }
}

/// A line in the making: the subscriber writes each one whole.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A line that is dropped is counted; the subscriber would tell stderr of an error.
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// Takes what is written once it is allowed to.
    struct Slow {
        allowed: Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // The test has let go of it: from then on it is fast.
            self.allowed.recv().unwrap_or(());
            self.text.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_stands_still_costs_lines_and_no_time() {
        let (allow, allowed) = sync_channel(0);
        let text = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Slow { allowed, text: text.clone() }).unwrap();

        // Many, because the writer takes some out before it stands still.
        let pushed = 100 * RING_LINES;
        let taken = (0..pushed).filter(|number| lines.push(format!("{number}\n").as_bytes())).count();

        assert!(!lines.flush(Duration::from_millis(1)));
        assert!(taken >= RING_LINES && taken < pushed, "{taken}");
        assert_eq!(lines.dropped(), (pushed - taken) as u64);
        drop(allow);
        assert!(lines.flush(LONG));
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), taken);
        assert!(text.starts_with("0\n1\n2\n"));
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_stays_a_line() {
        let (allow, allowed) = sync_channel(0);
        drop(allow);
        let text = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Slow { allowed, text: text.clone() }).unwrap();

        lines.push(format!("{}\n", "\u{e4}".repeat(LINE_BYTES)).as_bytes());
        lines.push(b"next\n");

        assert!(lines.flush(LONG));
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let (first, next) = text.split_once('\n').unwrap();
        assert!(first.len() < LINE_BYTES && first.ends_with("\u{e4} [cut]"), "{}", first.len());
        assert_eq!(next, "next\n");
    }
}
