//! The process's own log: lines of text on stderr. Stdout belongs to the access log and to commands' output.
//!
//! Whoever logs puts a line into a bounded ring and goes on; a thread of its own writes. A pipe that nobody reads
//! then costs lines, which are counted, and never a request.

mod lines;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use lines::Lines;

/// A process has one log, as it has one stderr.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Says why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a list of `module=level`.
    #[error("log level {level:?} is not one of error, warn, info, debug, trace, or a list such as \"info,hyper=warn\"")]
    Level {
        /// What was configured.
        level: String,
    },
    /// The system gave no thread to write it.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The process has a log already.
    #[error("the log was started twice")]
    AlreadyStarted,
}

/// Starts the log, once per process.
///
/// # Errors
/// [`LogError::Level`] for a level nobody can read, [`LogError::Thread`] when the system is short of threads,
/// [`LogError::AlreadyStarted`] on a second call, which changes nothing.
pub fn start(level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    let lines = Lines::start(io::stderr()).map_err(LogError::Thread)?;
    LINES.set(lines.clone()).map_err(|_| LogError::AlreadyStarted)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_target(true)
        .try_init()
        .map_err(|_| LogError::AlreadyStarted)?;
    // The hook of the standard library writes to stderr itself, and waits for whoever reads it.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), %backtrace, "{panic}");
    }));
    Ok(())
}

/// Writes text of one's own between the log's lines, whatever the level.
///
/// # Errors
/// When it was not taken.
pub fn say(text: &str) -> io::Result<()> {
    match LINES.get() {
        Some(lines) if lines.push(text.as_bytes()) => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::WouldBlock, "the log is full, nobody reads stderr")),
        None => io::Write::write_all(&mut io::stderr().lock(), text.as_bytes()),
    }
}

/// Waits until what was logged so far is written, at most so long: for the end of the process.
pub fn flush(at_most: Duration) {
    if let Some(lines) = LINES.get() {
        lines.flush(at_most);
    }
}

/// Lines that were lost so far.
pub fn dropped() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let unreadable = || LogError::Level { level: level.to_owned() };
    // A lone unknown word would be read as a module's name, which silences everything.
    let is_word = !level.contains(['=', ',']);
    if level.is_empty() || (is_word && level.parse::<tracing::level_filters::LevelFilter>().is_err()) {
        return Err(unreadable());
    }
    let quiet = if is_word { format!("{QUIET}{level}") } else { level.to_owned() };
    EnvFilter::builder().parse(quiet).map_err(|_| unreadable())
}

/// Libraries that tell of every vote and every chunk at the level of news; a list of `module=level` has them speak.
const QUIET: &str = "openraft=error,raft_log=error,chunked_wal=error,";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_read_and_words_that_mean_nothing_refused() {
        for level in ["error", "info", "off", "info,hyper=warn", "troupe_node=debug"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["loud", "", "info,hyper=loud"] {
            assert!(matches!(filter(level), Err(LogError::Level { .. })), "{level:?}");
        }
    }
}
