//! Damage to the log, bit by bit and byte by byte: nothing that was synced may be lost in silence.

use std::fs;
use std::path::{Path, PathBuf};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;
use troupe_proto::id::NodeId;

use super::DiskLog;
use super::log::Contents;
use crate::raft::plain::{Entry, LogId, Members, Payload, Vote};
use crate::raft::types::Types;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Vote,
    Blank,
    Command {
        bytes: usize,
    },
    Members,
    Commit,
    /// Followed by what keeps it from being the last.
    CutAll,
    CutTo(u64),
    Purge(u64),
}

/// A log of about 4 KiB with every kind of record.
fn records() -> Vec<Record> {
    use Record::{Blank, Command, Commit, CutAll, CutTo, Members, Purge, Vote};
    let mut records = vec![Vote, Blank, Command { bytes: 1 }, CutAll, Blank, Members, Vote, Commit];
    records.extend([0, 1, 7].into_iter().flat_map(|bytes| [Command { bytes }, Commit]));
    // What is committed is never cut off, so the rest is not committed yet.
    records.extend([15, 16, 31, 64, 100, 255, 256, 300].map(|bytes| Command { bytes }));
    records.extend([CutTo(9), Command { bytes: 90 }, Vote, Purge(4), Blank, Command { bytes: 600 }, Commit]);
    records.extend([20, 250, 40, 500, 60].into_iter().flat_map(|bytes| [Command { bytes }, Blank]));
    records.extend([Purge(7), Members, CutTo(18), Command { bytes: 33 }, Commit, Vote]);
    records
}

struct Written {
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
    log: DiskLog,
    next: u64,
    term: u64,
}

impl Written {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { dir, runtime, log, next: 0, term: 1 }
    }

    /// Writes a record and waits until it is on disk.
    fn write(&mut self, record: Record) {
        let Self { runtime, log, next, term, .. } = self;
        runtime.block_on(async {
            match record {
                Record::Vote => {
                    *term += 1;
                    let vote = Vote { term: *term, node: NodeId(0x1234_5678_9abc_def0), is_committed: *term % 2 == 0 };
                    log.save_vote(&vote.into()).await.unwrap();
                }
                Record::Blank => append(log, *term, next, Payload::Blank).await,
                Record::Command { bytes } => {
                    let command = (0..bytes).map(|i| u8::try_from(i * 37 % 256).unwrap()).collect::<Vec<_>>();
                    append(log, *term, next, Payload::Command(command.into())).await;
                }
                Record::Members => {
                    let nodes = (1..=3).map(|id| (NodeId(id), format!("10.0.0.{id}:9080")));
                    let members = Members { voters: vec![(1..=3).map(NodeId).collect()], nodes: nodes.collect() };
                    append(log, *term, next, Payload::Members(members)).await;
                }
                Record::Commit => log.save_committed(Some(log.id_at(*next - 1))).await.unwrap(),
                Record::CutAll => {
                    log.truncate_after(None).await.unwrap();
                    *next = 0;
                }
                Record::CutTo(index) => {
                    let last = log.id_at(index);
                    log.truncate_after(Some(last)).await.unwrap();
                    *next = index + 1;
                }
                Record::Purge(index) => log.purge(log.id_at(index)).await.unwrap(),
            }
            log.sync().await.unwrap();
        });
    }

    fn file(&self) -> (PathBuf, Vec<u8>) {
        let files: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.iter().filter(|path| path.extension().is_some()).collect::<Vec<_>>()[..] else {
            panic!("{files:?}");
        };
        (file.clone(), fs::read(file).unwrap())
    }
}

async fn append(log: &mut DiskLog, term: u64, next: &mut u64, payload: Payload) {
    let (done, flushed) = Types::oneshot();
    let entry = Entry { at: LogId { term, index: *next }, payload };
    log.append([entry.try_into().unwrap()], IOFlushed::signal(done)).await.unwrap();
    flushed.await.unwrap().unwrap();
    *next += 1;
}

/// The log's file after each record, and what it held then.
fn history() -> (String, Vec<(Vec<u8>, Contents)>) {
    let mut written = Written::new();
    let mut history = vec![(written.file().1, written.log.contents().unwrap())];
    for record in records() {
        written.write(record);
        history.push((written.file().1, written.log.contents().unwrap()));
    }
    let name = written.file().0.file_name().unwrap().to_str().unwrap().to_owned();
    (name, history)
}

/// What a log holds whose file is this.
fn read(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<Contents> {
    for entry in fs::read_dir(dir)? {
        fs::remove_file(entry?.path())?;
    }
    fs::write(dir.join(name), bytes)?;
    DiskLog::open(dir)?.contents()
}

/// Flips the bits of one state of the log, and returns where that changed in silence what is read.
fn silent(name: &str, (bytes, contents): &(Vec<u8>, Contents), bits: impl Iterator<Item = usize>) -> Vec<usize> {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = bytes.clone();
    let mut silent = Vec::new();
    for bit in bits {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if read(dir.path(), name, &bytes).is_ok_and(|found| found != *contents) {
            silent.push(bit);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    silent
}

/// Flips every bit `stride` apart in the whole log, and in the last record of those of its earlier states that are
/// `is_wanted`: a record at the end of the file is the one that could be taken for torn.
fn sweep(stride: usize, mut is_wanted: impl FnMut(Record) -> bool) {
    let (name, history) = history();
    let whole = history.last().unwrap();
    assert!((3_500..=4_500).contains(&whole.0.len()), "{} bytes", whole.0.len());

    let found = silent(&name, whole, (0..whole.0.len() * 8).step_by(stride));
    assert!(found.is_empty(), "in the whole log, bits {found:?}");
    for (record, states) in records().into_iter().zip(history.windows(2)) {
        if let ([before, after], true) = (states, is_wanted(record)) {
            let found = silent(&name, after, before.0.len() * 8..after.0.len() * 8);
            assert!(found.is_empty(), "{record:?} at the end, from {} on: bits {found:?}", before.0.len() * 8);
        }
    }
}

#[test]
fn no_flipped_bit_loses_anything_in_silence() {
    let mut seen = Vec::new();

    sweep(13, |record| {
        let kind = std::mem::discriminant(&record);
        let is_new = !seen.contains(&kind);
        seen.push(kind);
        is_new
    });
}

#[test]
#[ignore = "opens the log 65,000 times, which takes a minute; the complete checks run it, with --ignored"]
fn not_one_of_all_bits_loses_anything_in_silence() {
    sweep(1, |_| true);
}

/// Cuts the file at these lengths: what was whole is there, and the log opens.
fn tear(is_wanted: impl Fn(usize) -> bool) {
    let (name, history) = history();
    let whole = &history.last().unwrap().0;
    let dir = tempfile::tempdir().unwrap();

    for len in (0..=whole.len()).filter(|len| is_wanted(*len)) {
        let contents = read(dir.path(), &name, &whole[..len]).unwrap_or_else(|error| panic!("{len} bytes: {error}"));

        let held = history.iter().rposition(|(bytes, _)| bytes.len() <= len);
        let expected = held.map_or_else(Contents::default, |at| history[at].1.clone());
        // A cut that keeps nothing is followed by another record: torn between the two, it is in force.
        let cut = held.filter(|at| records().get(*at) == Some(&Record::CutAll)).map(|at| &history[at + 1].1);
        assert!(contents == expected || Some(&contents) == cut, "{len} bytes: {contents:?} instead of {expected:?}");
    }
}

#[test]
fn a_torn_log_opens_with_all_that_was_whole() {
    tear(|len| len % 19 == 0);
}

#[test]
#[ignore = "waits for the disk 4,000 times, which takes a minute; the complete checks run it, with --ignored"]
fn a_log_that_was_torn_at_any_byte_opens_with_all_that_was_whole() {
    tear(|_| true);
}

#[test]
fn a_log_goes_on_behind_what_was_torn() {
    let (name, history) = history();
    let (bytes, contents) = &history[history.len() - 3];
    let mut written = Written::new();
    drop(written.log);
    fs::write(written.dir.path().join(name), [bytes.as_slice(), &[0, 0, 0, 1, 0, 0]].concat()).unwrap();

    written.log = DiskLog::open(written.dir.path()).unwrap();
    assert_eq!(written.log.contents().unwrap(), *contents);
    (written.next, written.term) = (contents.entries.last().unwrap().at.index + 1, 9);
    written.write(Record::Blank);
    drop(written.log);
    let after = DiskLog::open(written.dir.path()).unwrap().contents().unwrap();

    assert_eq!(after.entries[..contents.entries.len()], contents.entries);
    assert_eq!(after.entries.len(), contents.entries.len() + 1);
}

/// What one version wrote, the next must read.
#[test]
fn a_log_of_schema_1_is_read_and_written() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/log.1.bin");
    let (name, history) = history();
    let (bytes, contents) = history.last().unwrap();
    let dir = tempfile::tempdir().unwrap();

    let golden = fs::read(golden).unwrap();

    assert_eq!(read(dir.path(), &name, &golden).unwrap(), *contents);
    assert!(golden == *bytes, "the log is written differently now: it must still be read as it was");
}

#[test]
#[ignore = "writes the golden of a new schema; run by hand, once, when one is appended"]
fn write_golden_log() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/log.1.bin");
    assert!(!golden.exists(), "{} exists already", golden.display());
    fs::write(golden, &history().1.last().unwrap().0).unwrap();
}
