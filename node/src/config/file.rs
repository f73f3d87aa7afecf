//! Reading files whole, within a limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::source::{ConfigError, Format, Node, parse};

/// The longest configuration file: 100,000 virtual keys take about 15 MiB.
const CONFIG_BYTES: u64 = 64 << 20;

/// A configuration file that is well formed.
#[derive(Debug)]
pub(super) struct Text {
    /// Its path as it was given.
    pub(super) source: String,
    /// What it says.
    pub(super) root: Node,
}

/// Why a file gave no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is not a file")]
    NotFile,
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("is not UTF-8 text")]
    NotText,
}

/// Reads at most `max` bytes of text from a file, or from what a link to one leads to.
pub(super) fn read(path: &Path, max: u64) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= max) {
        String::from_utf8(bytes).map_err(|_| ReadError::NotText)
    } else {
        Err(ReadError::TooLarge(max))
    }
}

/// Opens what is a file. Anything else is refused without waiting: opening a pipe waits for somebody to write into it,
/// and a reload that waits is the last one there is.
fn open(path: &Path) -> Result<File, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(ReadError::NotFile) }
}

/// Reads a configuration file in the format that its ending tells.
pub(super) fn read_text(path: &Path) -> Result<Text, ConfigError> {
    let source = path.display().to_string();
    let format = Format::of(path)
        .ok_or_else(|| ConfigError::whole(&source, "the name must end in .toml, .yaml, .yml or .json".to_owned()))?;
    let text = read(path, CONFIG_BYTES).map_err(|error| ConfigError::whole(&source, error.to_string()))?;
    let root = parse(&source, format, &text)?;
    Ok(Text { source, root })
}

/// Files as they looked from outside before they were read: what looks otherwise now has changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Look>>);

impl Files {
    /// Notes how a file looks, or that it is not there. To be called before it is read.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), Look::at(path));
    }

    /// The same files as they look now.
    #[must_use]
    pub(super) fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Look::at(path))).collect())
    }

    /// Which files these are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

/// A file from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    modified: (i64, i64),
    len: u64,
    inode: u64,
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { modified: (meta.mtime(), meta.mtime_nsec()), len: meta.len(), inode: meta.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_through_links_and_what_is_none_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("..data")).unwrap();
        std::fs::write(at("..data/key"), "sk-1").unwrap();
        std::os::unix::fs::symlink("..data/key", at("key")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());

        assert_eq!(read(&at("key"), 4).unwrap(), "sk-1");
        assert!(matches!(read(&at("key"), 3), Err(ReadError::TooLarge(3))));
        assert!(matches!(read(&at("absent"), 4), Err(ReadError::Io(_))));
        for name in ["pipe", "..data"] {
            assert!(matches!(read(&at(name), 4), Err(ReadError::NotFile)), "{name}");
        }
    }
}
