//! Writes the lines of the state's ring that are not in the files yet.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::AuditError;
use super::files::{Lines, TORN, io, numbers, path};
use super::line::{Gap, Kept};
use crate::state::State;
use crate::state::audit::Link;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes beyond which a file is not written to any more.
    pub file_bytes: u64,
    /// Files that are kept; the oldest goes first.
    pub files_max: usize,
}

impl Default for Settings {
    /// 1 GiB in files of 8 MiB.
    fn default() -> Self {
        Self { file_bytes: 8 << 20, files_max: 128 }
    }
}

/// Writes the files of one node. There is one of it for a directory: the data directory's lock sees to that.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    settings: Settings,
    /// The number of the file that is written to.
    number: u64,
    file: File,
    bytes: u64,
    /// The last line written: its index and its hash.
    last: Option<(u64, Link)>,
}

impl Writer {
    /// Goes on where the files of a directory end, which is made if it is not there. A line that a crash cut short is
    /// taken away: the state has it still.
    ///
    /// # Errors
    /// [`AuditError`]: what is there cannot be read, or none can be written.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, AuditError> {
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let known = numbers(dir)?;
        let number = known.last().copied().unwrap_or(1);
        let file = create(dir, number)?;
        let mut writer = Self { dir: dir.to_owned(), settings, number, file, bytes: 0, last: None };
        // The newest file may hold nothing but a line cut short: the one before says where it went on from.
        for (at, number) in known.iter().rev().take(2).enumerate() {
            let (end, last) = last_line(&path(dir, *number))?;
            if at == 0 {
                writer.bytes = end;
                writer.file.set_len(end).map_err(io(&path(dir, *number)))?;
            }
            if last.is_some() {
                writer.last = last;
                break;
            }
        }
        Ok(writer)
    }

    /// Where it writes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes what `state` has and the files have not, durably. Gives how many lines that was.
    ///
    /// A state from before the last line writes nothing: a node that starts goes through what it had applied before.
    ///
    /// # Errors
    /// [`AuditError::Io`]; what was written of it is taken away when it is written again.
    pub fn catch_up(&mut self, state: &State) -> Result<usize, AuditError> {
        let ring = state.audit();
        let mut before = ring.base();
        let mut count = 0;
        let mut bytes = Vec::new();
        let mut last = self.last;
        for line in ring.lines() {
            let is_written = self.last.is_some_and(|(index, _)| line.index <= index);
            if !is_written {
                let head = last.map_or([0; 32], |(_, hash)| hash);
                if head != before {
                    self.append(&mut bytes, &Kept::Gap(Gap { before: head, behind: before }))?;
                }
                self.append(&mut bytes, &Kept::Line { before, line: (**line).clone() })?;
                last = Some((line.index, line.hash));
                count += 1;
            }
            before = line.hash;
        }
        if count == 0 {
            return Ok(0);
        }
        self.write(&bytes)?;
        self.last = last;
        self.rotate()?;
        Ok(count)
    }

    fn append(&self, bytes: &mut Vec<u8>, kept: &Kept) -> Result<(), AuditError> {
        let failed = |error: serde_json::Error| io(&self.dir)(std::io::Error::other(error));
        bytes.extend(kept.write().map_err(failed)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        let path = path(&self.dir, self.number);
        // What an attempt that failed left behind is not part of the file.
        self.file.set_len(self.bytes).map_err(io(&path))?;
        self.file.write_all(bytes).map_err(io(&path))?;
        self.file.sync_data().map_err(io(&path))?;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), AuditError> {
        if self.bytes < self.settings.file_bytes {
            return Ok(());
        }
        let next = self.number.saturating_add(1);
        self.file = create(&self.dir, next)?;
        self.number = next;
        self.bytes = 0;
        let known = numbers(&self.dir)?;
        let surplus = known.len().saturating_sub(self.settings.files_max.max(2));
        for number in known.iter().take(surplus) {
            let path = path(&self.dir, *number);
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
        Ok(())
    }
}

/// Opens a file to append to, that only this user reads. That it is there is made durable with its directory.
fn create(dir: &Path, number: u64) -> Result<File, AuditError> {
    let path = path(dir, number);
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(io(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))?;
    Ok(file)
}

/// Where the last whole line of a file ends, and which it is.
fn last_line(path: &Path) -> Result<(u64, Option<(u64, Link)>), AuditError> {
    let mut lines = Lines::open(path.to_owned())?;
    let (mut end, mut last) = (0, None);
    while let Some(found) = lines.next()? {
        match found.kept {
            Ok(Kept::Line { before: _, line }) => (end, last) = (found.end, Some((line.index, line.hash))),
            // Never written without a line behind it.
            Ok(Kept::Gap(_)) | Err(TORN) => {}
            // Not for us to mend: it stays for `verify` to find.
            Err(_) => end = found.end,
        }
    }
    Ok((end, last))
}
