//! What the writer writes into.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::{AccessLogError, Destination};

enum Target {
    Stdout,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Any(Box<dyn Write + Send>),
}

/// An open destination. Trouble is logged when it begins and when it ends, not once per batch.
pub(super) struct Sink {
    target: Target,
    is_failing: bool,
}

impl Sink {
    /// Opens a destination; `None` for none.
    pub(super) fn open(destination: &Destination) -> Result<Option<Self>, AccessLogError> {
        let target = match destination {
            Destination::Off => return Ok(None),
            Destination::Stdout => Target::Stdout,
            Destination::File(path) => {
                let file = append(path).map_err(|source| AccessLogError::Open { path: path.clone(), source })?;
                Target::File { path: path.clone(), file }
            }
        };
        Ok(Some(Self { target, is_failing: false }))
    }

    #[cfg(test)]
    pub(super) fn any(writer: impl Write + Send + 'static) -> Self {
        Self { target: Target::Any(Box::new(writer)), is_failing: false }
    }

    /// Writes whole lines and hands them to the system.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let result = match &mut self.target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            }
            Target::File { file, .. } => file.write_all(lines),
            #[cfg(test)]
            Target::Any(writer) => writer.write_all(lines),
        };
        match (&result, self.is_failing) {
            (Err(error), false) => warn!(%error, "access log cannot be written, lines are dropped"),
            (Ok(()), true) => info!("access log can be written again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        self.is_failing = result.is_err();
        result
    }

    /// Opens the file again. If that fails the old one is kept: a line in a moved file is better than none.
    pub(super) fn reopen(&mut self) {
        if let Target::File { path, file } = &mut self.target {
            match append(path) {
                Ok(new) => *file = new,
                Err(error) => warn!(%error, path = %path.display(), "access log cannot be opened again"),
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
