//! The process's own log: lines of text on stderr. Stdout belongs to the access log and to commands' output.

use std::io;

use tracing_subscriber::EnvFilter;

/// Says why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a list of `module=level`.
    #[error("log level {level:?} is not one of error, warn, info, debug, trace, or a list such as \"info,hyper=warn\"")]
    Level {
        /// What was configured.
        level: String,
    },
    /// The process has a log already.
    #[error("the log was started twice")]
    AlreadyStarted,
}

/// Starts the log, once per process.
///
/// # Errors
/// [`LogError::Level`] for a level nobody can read, [`LogError::AlreadyStarted`] on a second call, which changes nothing.
pub fn start(level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(true)
        .try_init()
        .map_err(|_| LogError::AlreadyStarted)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let unreadable = || LogError::Level { level: level.to_owned() };
    // A lone unknown word would be read as a module's name, which silences everything.
    let is_word = !level.contains(['=', ',']);
    if level.is_empty() || (is_word && level.parse::<tracing::level_filters::LevelFilter>().is_err()) {
        return Err(unreadable());
    }
    EnvFilter::builder().parse(level).map_err(|_| unreadable())
}

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
