//! Reading files whole, within a limit.

use std::io::Read;
use std::path::Path;

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
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("is not UTF-8 text")]
    NotText,
}

/// Reads at most `max` bytes of text.
pub(super) fn read(path: &Path, max: u64) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= max) {
        String::from_utf8(bytes).map_err(|_| ReadError::NotText)
    } else {
        Err(ReadError::TooLarge(max))
    }
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
