use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};
use troupe_proto::wire::{self, Message, WireError};

use super::{Snapshot, SnapshotStore};
use crate::raft::plain::Meta;

/// How many snapshots stay: an older one is of use when the newest turns out to be unreadable.
const KEPT: usize = 2;
const SUFFIX: &str = "snapshot";
const SUM_BYTES: usize = 32;

/// Snapshots in a directory, one file each.
///
/// ```text
/// | length of the head, u32 | head: an envelope | the machine's bytes | sha256 of all before |
/// ```
/// A file appears whole or not at all: it is written under another name, synced, renamed, and the directory is synced.
pub struct DiskSnapshots {
    dir: PathBuf,
    bytes: AtomicU64,
    index: AtomicU64,
}

/// What a file begins with.
#[derive(Encode, Decode)]
struct Head {
    meta: Meta,
    bytes: u64,
}

impl Message for Head {
    const KIND: u16 = 33;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 1 << 20;
}

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It ends too early, or goes on behind its end.
    #[error("the file has {found} bytes instead of {expected}")]
    Length {
        /// What it has.
        found: usize,
        /// What it says it has.
        expected: usize,
    },
    /// Its bytes are not those that were written.
    #[error("the checksum does not match")]
    Checksum,
    /// Its head cannot be read.
    #[error("the head cannot be read")]
    Head(#[from] WireError),
}

impl DiskSnapshots {
    /// Snapshots in `dir`, which is made if it does not exist. What was never finished is removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "tmp") {
                fs::remove_file(path)?;
            }
        }
        let snapshots = Self { dir: dir.to_owned(), bytes: AtomicU64::new(0), index: AtomicU64::new(0) };
        if let Some((index, path)) = snapshots.files()?.pop() {
            snapshots.note(fs::metadata(path)?.len(), index);
        }
        Ok(snapshots)
    }

    /// The files that were finished, oldest first, each with the index of its last entry.
    fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_snapshot = path.extension().is_some_and(|end| end == SUFFIX);
            let index = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (true, Some(index)) = (is_snapshot, index) {
                files.push((index, path));
            }
        }
        files.sort();
        Ok(files)
    }

    fn note(&self, bytes: u64, index: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
    }
}

/// A snapshot as the bytes of its file.
///
/// # Errors
/// When its head is larger than a head may be.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    let bytes = u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX);
    let head = wire::encode(&Head { meta: snapshot.meta.clone(), bytes })?;
    // The limit of a head is far below 4 GiB.
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(4 + head.len() + snapshot.state.len() + SUM_BYTES);
    file.extend_from_slice(&len.to_be_bytes());
    file.extend_from_slice(&head);
    file.extend_from_slice(&snapshot.state);
    let sum = Sha256::digest(&file);
    file.extend_from_slice(&sum);
    Ok(file)
}

/// The snapshot in the bytes of a file.
///
/// # Errors
/// [`SnapshotError`] when they are anything but what [`encode`] gave.
pub fn decode(file: &[u8]) -> Result<Snapshot, SnapshotError> {
    let short = || SnapshotError::Length { found: file.len(), expected: file.len() + 1 };
    let (content, sum) = file.split_last_chunk::<SUM_BYTES>().ok_or_else(short)?;
    if Sha256::digest(content).as_slice() != sum {
        return Err(SnapshotError::Checksum);
    }
    let (len, rest) = content.split_first_chunk::<4>().ok_or_else(short)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    let (head, state) = rest.split_at_checked(len).ok_or_else(short)?;
    let Head { meta, bytes } = wire::decode(head)?;
    let expected = usize::try_from(bytes).unwrap_or(usize::MAX);
    if state.len() != expected {
        return Err(SnapshotError::Length { found: state.len(), expected });
    }
    Ok(Snapshot { meta, state: state.into() })
}

impl SnapshotStore for DiskSnapshots {
    fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        let index = snapshot.meta.last.map_or(0, |last| last.index);
        let file = encode(snapshot).map_err(io::Error::other)?;
        let path = self.dir.join(format!("{index:020}.{SUFFIX}"));
        write_durably(&path, &file)?;
        self.note(u64::try_from(file.len()).unwrap_or(u64::MAX), index);
        let files = self.files()?;
        // A snapshot from the leader may be older than one of a log that was cut off since: what is behind it goes, too.
        let behind = files.iter().filter(|(other, _)| *other > index);
        let current = files.iter().rposition(|(other, _)| *other == index).unwrap_or(0);
        let before = files.iter().take((current + 1).saturating_sub(KEPT));
        for (_, path) in behind.chain(before) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn load(&self) -> io::Result<Option<Snapshot>> {
        let files = self.files()?;
        let is_empty = files.is_empty();
        for (index, path) in files.into_iter().rev() {
            let file = fs::read(&path)?;
            match decode(&file) {
                Ok(snapshot) => {
                    self.note(u64::try_from(file.len()).unwrap_or(u64::MAX), index);
                    return Ok(Some(snapshot));
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "snapshot cannot be read; trying an older one");
                }
            }
        }
        if is_empty { Ok(None) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "no snapshot can be read")) }
    }

    fn newest(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.index.load(Ordering::Relaxed))
    }
}

/// Writes a file that is there whole, or not at all, after any crash.
///
/// # Errors
/// Those of the file system; what was at `path` before is still there then.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let begun = path.with_extension("tmp");
    let mut file = File::create(&begun)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&begun, path)?;
    // The new name is durable only with its directory.
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::plain::LogId;

    fn snapshot(index: u64) -> Snapshot {
        let meta = Meta { last: Some(LogId { term: 2, index }), ..Meta::default() };
        Snapshot { meta, state: format!("state at {index}").into_bytes().into() }
    }

    #[test]
    fn the_newest_two_snapshots_stay_and_the_newest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = DiskSnapshots::open(dir.path()).unwrap();

        for index in [5, 9, 100] {
            snapshots.save(&snapshot(index)).unwrap();
        }

        assert_eq!(snapshots.load().unwrap(), Some(snapshot(100)));
        let kept: Vec<_> = snapshots.files().unwrap().into_iter().map(|(index, _)| index).collect();
        assert_eq!(kept, [9, 100]);
        assert_eq!(DiskSnapshots::open(dir.path()).unwrap().newest(), snapshots.newest());
        assert_eq!(snapshots.newest().1, 100);
    }

    #[test]
    fn no_flipped_bit_and_no_missing_end_of_a_snapshot_is_passed_over() {
        let whole = encode(&snapshot(7)).unwrap();
        assert_eq!(decode(&whole).unwrap(), snapshot(7));

        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn an_older_snapshot_stands_in_for_an_unreadable_one_and_none_for_two() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = DiskSnapshots::open(dir.path()).unwrap();
        snapshots.save(&snapshot(5)).unwrap();
        snapshots.save(&snapshot(9)).unwrap();

        fs::write(dir.path().join(format!("{:020}.snapshot", 9)), b"torn").unwrap();
        let older = snapshots.load().unwrap();
        fs::write(dir.path().join(format!("{:020}.snapshot", 5)), b"torn").unwrap();
        let none = snapshots.load();

        assert_eq!(older, Some(snapshot(5)));
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_snapshot_of_schema_1_is_read_and_written() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/snapshot.1.bin");

        let golden = fs::read(golden).unwrap();

        assert_eq!(decode(&golden).unwrap(), snapshot(300));
        assert!(encode(&snapshot(300)).unwrap() == golden, "snapshots are written differently now");
    }

    #[test]
    #[ignore = "writes the golden of a new schema; run by hand, once, when one is appended"]
    fn write_golden_snapshot() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/snapshot.1.bin");
        assert!(!golden.exists(), "{} exists already", golden.display());
        fs::write(golden, encode(&snapshot(300)).unwrap()).unwrap();
    }

    #[test]
    fn what_was_never_finished_is_removed_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000000000000000007.tmp"), encode(&snapshot(7)).unwrap()).unwrap();

        let snapshots = DiskSnapshots::open(dir.path()).unwrap();

        assert_eq!(snapshots.load().unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
