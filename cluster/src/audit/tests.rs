use std::path::Path;

use troupe_proto::command::{Change, Command, Entry, Note, Origin};
use troupe_proto::id::{KeyId, NodeId};
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::Key;

use super::*;
use crate::state::State;
use crate::state::audit::Ring;

const SMALL: Settings = Settings { file_bytes: 2_000, files_max: 3 };

/// Puts a key, as entry number `index` of the log, asked for at `index` seconds.
fn put(state: &mut State, index: u64) {
    put_at(state, index, i64::try_from(index).unwrap());
}

/// The same, asked for at a time of its own.
fn put_at(state: &mut State, index: u64, seconds: i64) {
    let name = format!("key-{index}");
    let key = Key {
        hash: KeyHash::of(name.as_bytes()),
        models: None,
        expires: None,
        metadata: Default::default(),
        pin: false,
    };
    let command = Command::Change { base: state.revision(), changes: vec![Change::PutKey(KeyId::new(&name), key)] };
    let note = Note { actor: "test".to_owned(), at: seconds * 1_000, ..Note::default() };
    let origin = Origin { node: NodeId(1), incarnation: 1, seq: index, settled: index };
    state.apply(index, &Entry { origin, note, command });
}

fn state(entries: u64) -> State {
    let mut state = State::default();
    (1..=entries).for_each(|index| put(&mut state, index));
    state
}

fn written(dir: &Path, entries: u64, settings: Settings) -> State {
    let state = state(entries);
    Writer::open(dir, settings).unwrap().catch_up(&state).unwrap();
    state
}

fn indexes(lines: &[crate::state::audit::Line]) -> Vec<u64> {
    lines.iter().map(|line| line.index).collect()
}

#[test]
fn what_is_written_is_linked_to_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(3);
    let mut writer = Writer::open(dir.path(), Settings::default()).unwrap();

    assert_eq!(writer.catch_up(&state).unwrap(), 3);
    assert_eq!(writer.catch_up(&state).unwrap(), 0);
    put(&mut state, 4);
    assert_eq!(writer.catch_up(&state).unwrap(), 1);

    let report = verify(dir.path()).unwrap();
    assert_eq!(report, Report { lines: 4, span: Some((1, 4)), gaps: Vec::new(), head: state.audit().head() });
}

#[test]
fn a_writer_goes_on_where_the_files_end_and_not_behind_an_older_state() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5, Settings::default());
    let mut writer = Writer::open(dir.path(), Settings::default()).unwrap();

    assert_eq!(writer.catch_up(&state(2)).unwrap(), 0, "a node that starts goes through what it had");
    assert_eq!(writer.catch_up(&state(7)).unwrap(), 2);

    assert_eq!(verify(dir.path()).unwrap().lines, 7);
}

#[test]
fn a_line_that_a_crash_cut_short_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, Settings::default());
    let path = files::path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let two = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;

    for cut in two..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut writer = Writer::open(dir.path(), Settings::default()).unwrap();

        assert_eq!(writer.catch_up(&state(3)).unwrap(), 1, "cut at {cut}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn each_altered_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = written(dir.path(), 3, Settings::default());
    let path = files::path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();

    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(&path, &altered).unwrap();

        assert!(verify(dir.path()).is_err(), "byte {at} of {}", whole.len());
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(verify(dir.path()).unwrap().head, state.audit().head());
}

#[test]
fn a_line_that_was_taken_out_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4, Settings::default());
    let path = files::path(dir.path(), 1);
    let text = std::fs::read_to_string(&path).unwrap();

    for out in 0..3 {
        let rest: Vec<&str> = text.lines().enumerate().filter(|(at, _)| *at != out).map(|(_, line)| line).collect();
        std::fs::write(&path, rest.join("\n") + "\n").unwrap();

        let error = verify(dir.path()).unwrap_err();

        assert!(matches!(error, AuditError::Broken { number, .. } if number == out + 1), "{error}");
    }
}

#[test]
fn files_are_changed_in_time_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let mut writer = Writer::open(dir.path(), SMALL).unwrap();

    for index in 1..=100 {
        put(&mut state, index);
        writer.catch_up(&state).unwrap();
    }

    let numbers = files::numbers(dir.path()).unwrap();
    assert_eq!(numbers.len(), 3);
    assert!(numbers[0] > 1, "{numbers:?}");
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.span.unwrap().1, report.head), (100, state.audit().head()));
    std::fs::remove_file(files::path(dir.path(), numbers[1])).unwrap();
    assert!(verify(dir.path()).is_err(), "a file that is missing is seen");
}

#[test]
fn a_node_that_missed_lines_says_so() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2, Settings::default());
    let late = state(1_200);
    let mut writer = Writer::open(dir.path(), Settings::default()).unwrap();

    assert_eq!(writer.catch_up(&late).unwrap(), 1_000);

    let report = verify(dir.path()).unwrap();
    assert_eq!(report.lines, 1_002);
    assert_eq!(report.gaps, [Gap { before: state(2).audit().head(), behind: late.audit().base() }]);
    assert_eq!(report.head, late.audit().head());
}

#[test]
fn lines_are_read_by_index_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 9, Settings { file_bytes: 1_000, files_max: 100 });
    let read = |from, to, limit| indexes(&read(Some(dir.path()), &Ring::default(), from, to, limit).unwrap().lines);

    assert_eq!(read(Some(Point::Index(3)), Some(Point::Index(5)), 100), [3, 4, 5]);
    assert_eq!(read(Some(Point::Index(3)), None, 2), [3, 4]);
    assert_eq!(read(None, None, 2), [8, 9]);
    assert_eq!(read(None, Some(Point::Index(4)), 2), [3, 4]);
    assert_eq!(read(Some(Point::At(2_500)), Some(Point::At(4_000)), 100), [3, 4]);
}

/// Through nodes whose clocks are behind or ahead.
#[test]
fn no_line_is_lost_where_clocks_disagree() {
    let mut state = State::default();
    for (index, seconds) in (1..).zip([10, 20, 1, 30, 99, 40, 50]) {
        put_at(&mut state, index, seconds);
    }
    let at = |seconds: i64| Some(Point::At(seconds * 1_000));
    let read = |from, to, limit| indexes(&read(None, state.audit(), from, to, limit).unwrap().lines);

    assert_eq!(read(at(15), None, 100), [2, 3, 4, 5, 6, 7], "the third was made then, whatever its node's clock said");
    assert_eq!(read(at(15), at(40), 100), [2, 3, 4, 5, 6], "and so was the fifth");
    assert_eq!(read(at(15), at(35), 100), [2, 3, 4]);
    assert_eq!(read(at(15), at(40), 4), [2, 3, 4, 5]);
    assert_eq!(read(None, at(40), 3), [4, 5, 6]);
    assert_eq!(read(None, at(35), 2), [3, 4]);
    assert_eq!(read(at(200), None, 100), [0u64; 0]);
}

#[test]
fn what_is_missing_is_told_where_it_was_asked_for_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, Settings::default());
    let late = state(1_200);
    Writer::open(dir.path(), Settings::default()).unwrap().catch_up(&late).unwrap();
    let holes = |from: Option<u64>, to: Option<u64>, limit| {
        let told = read(Some(dir.path()), late.audit(), from.map(Point::Index), to.map(Point::Index), limit).unwrap();
        told.holes.iter().map(|hole| (hole.after, hole.before)).collect::<Vec<_>>()
    };

    assert_eq!(holes(None, None, 1_100), [(Some(20), 201)]);
    assert_eq!(holes(None, None, 1_000), []);
    assert_eq!(holes(Some(1), None, 20), []);
    assert_eq!(holes(Some(1), None, 21), [(Some(20), 201)]);
    assert_eq!(holes(Some(100), Some(150), 10), [(Some(20), 201)]);
    assert_eq!(holes(Some(201), None, 10), []);
    assert_eq!(holes(None, Some(20), 100), []);
    let without_files = read(None, late.audit(), Some(Point::Index(1)), None, 10).unwrap();
    assert_eq!(without_files.holes, [Hole { after: None, before: 201 }]);
    let at = |seconds: i64| Some(Point::At(seconds * 1_000));
    assert_eq!(read(Some(dir.path()), late.audit(), at(15), at(18), 99).unwrap().holes, []);
    assert_eq!(read(Some(dir.path()), late.audit(), at(15), at(30), 99).unwrap().holes.len(), 1);
}

#[test]
fn a_history_reaches_back_over_the_files_to_the_first_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Settings { file_bytes: 10_000, files_max: 100 }).unwrap();
    let mut held = State::default();
    for index in 1..=2_500 {
        put(&mut held, index);
        if index % 500 == 0 {
            writer.catch_up(&held).unwrap();
        }
    }
    let told = |dir: &Path, ring: &Ring, index| {
        let History { lines, is_whole } = history(Some(dir), ring, index).unwrap();
        (lines.first().unwrap().index, lines.last().unwrap().index, lines.len(), is_whole)
    };

    assert_eq!(told(dir.path(), held.audit(), 700), (700, 2_500, 1_801, false));
    assert_eq!(told(dir.path(), held.audit(), 0), (1, 2_500, 2_500, true));
    assert_eq!(told(dir.path(), held.audit(), 2_000), (1_501, 2_500, 1_000, false));

    let later = tempfile::tempdir().unwrap();
    written(later.path(), 20, Settings::default());
    let mut writer = Writer::open(later.path(), Settings::default()).unwrap();
    writer.catch_up(&state(1_200)).unwrap();
    let late = state(1_900);
    writer.catch_up(&late).unwrap();
    assert_eq!(told(later.path(), late.audit(), 0), (201, 1_900, 1_700, false));
    let other = tempfile::tempdir().unwrap();
    written(other.path(), 2, Settings::default());
    assert_eq!(told(other.path(), late.audit(), 0), (901, 1_900, 1_000, false), "files of another chain are none");
}
